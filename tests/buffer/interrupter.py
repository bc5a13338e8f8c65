"""Ctrl-C at a chosen line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupter:
    """Raises SIGINT once, before the n-th line that is executed in some files.

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
