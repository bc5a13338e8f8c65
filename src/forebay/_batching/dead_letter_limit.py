"""Limit the dead letters per minute: more of them mean a fault of the program, not of a row."""

from __future__ import annotations

import math
from collections import deque

_WINDOW = 60.0
"""The period of the limit, in seconds."""


class DeadLetterLimit:
    """A limit on the number of dead letters in the last minute."""

    def __init__(self, per_minute: int | None) -> None:
        """Start without dead letters.

        Args:
            per_minute: the limit; None for no limit.
        """
        self._per_minute = math.inf if per_minute is None else per_minute
        self._recorded: deque[tuple[float, int]] = deque()

    def __str__(self) -> str:
        return f"BufferOptions.dead_letters_per_minute is {self._per_minute:,}"

    def remaining(self, now: float) -> float:
        """Return how many more dead letters are allowed now; `math.inf` without a limit.

        Args:
            now: the time, in seconds of a monotonic clock.
        """
        if not self._recorded:
            return self._per_minute
        while self._recorded and self._recorded[0][0] <= now - _WINDOW:
            self._recorded.popleft()
        return self._per_minute - sum(count for _, count in self._recorded)

    def record(self, count: int, now: float) -> None:
        """Record that dead letters were written.

        Args:
            count: how many.
            now: the time, in seconds of the same clock.
        """
        if count:
            self._recorded.append((now, count))
