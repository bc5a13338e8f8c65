"""Settings of the Python interpreter under which a load takes less time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager

_OBJECTS = 1_000_000
"""How many new objects start a collection of garbage. Python's default is some hundred.

Rows are tuples of texts and numbers, which are in no cycle. To look for cycles among them took 15 %
of a load.
"""
_SWITCH_INTERVAL = 0.0002
"""Seconds. Python's default is 5 ms.

A thread that returns from SQLite waits so long for the GIL, which the thread that converts rows
holds. SQLite needs less than 1 ms for a statement, so the two threads hardly ran at the same time:
a load took 8 % longer.
"""


@contextmanager
def tuned() -> Generator[None]:
    """Apply the settings, for the length of a `with` block."""
    before, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.freeze()
    gc.set_threshold(_OBJECTS, *before[1:])
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*before)
        gc.unfreeze()
