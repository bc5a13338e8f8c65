"""Collect garbage more rarely while rows are loaded."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

_OBJECTS = 1_000_000
"""How many new objects start a collection. Python's default is some hundred."""


@contextmanager
def rare_collections() -> Generator[None]:
    """Collect garbage more rarely, for the length of a `with` block.

    Rows are tuples of texts and numbers, which are in no cycle. To look for cycles among them took
    15 % of a load.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
