"""How many dead letters a buffer may write: a flood of them is a fault of the program. Pure."""

from __future__ import annotations

import math
from collections import deque

_WINDOW = 60.0
"""Seconds that the limit is for."""


class DeadLetterLimit:
    """A limit on the dead letters of the last minute."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = math.inf if per_minute is None else per_minute
        self._counted: deque[tuple[float, int]] = deque()

    def __str__(self) -> str:
        return f"BufferOptions.dead_letters_per_minute is {self._per_minute:,}"

    def left(self, now: float) -> float:
        """Tell how many more there may be now, `math.inf` without a limit.

        Args:
            now: the time, in seconds of a monotonic clock.
        """
        while self._counted and self._counted[0][0] <= now - _WINDOW:
            self._counted.popleft()
        return self._per_minute - sum(count for _, count in self._counted)

    def count(self, letters: int, now: float) -> None:
        """Count dead letters that were written."""
        if letters:
            self._counted.append((now, letters))
