"""Ctrl-C at a chosen line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def trace_function_replaced() -> Iterator[None]:
    """Remove the trace function, which is coverage's or a debugger's, and restore it at the end.

    A block that sets a trace function of its own belongs into it: without it, no test that comes
    later in the same process would be measured.
    """
    before = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(before)


class Interrupter:
    """Raises SIGINT once, before the n-th line that is executed in some files.

    To be started in a block of `trace_function_replaced`.

    Args:
        line: the number of the line, from 1.
        counts: whether lines of a file count, given its path.
    """

    def __init__(self, line: int, *, counts: Callable[[str], bool]) -> None:
        self._left = line
        self._counts = counts
        self.place = ""
        """The line, once the signal was raised."""

    def start(self) -> None:
        """Count the lines that this thread executes from now on, until `sys.settrace(None)`."""
        sys.settrace(self._trace)

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if not self._counts(frame.f_code.co_filename):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return self._trace
