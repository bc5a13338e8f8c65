"""A gate at which a thread waits, so that a test can look at what happens meanwhile."""

from __future__ import annotations

import threading
from typing import Self

import trio

from tests.waiting import TIMEOUT


class ThreadGate:
    """A gate that a thread cannot pass until the test releases it, or leaves its `with` block.

    Attributes:
        entered: set when a thread waits at the gate.
    """

    def __init__(self) -> None:
        self.entered = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._released = threading.Event()

    def wait(self) -> None:
        """Wait in a thread until the gate is released."""
        self._token.run_sync_soon(self.entered.set)
        assert self._released.wait(TIMEOUT), "the gate was not released"

    def release(self) -> None:
        """Let all threads pass."""
        self._released.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()
