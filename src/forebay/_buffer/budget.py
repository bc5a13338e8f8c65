"""When a call that enqueues lets other tasks run.

A checkpoint of Trio does two things. It raises `Cancelled` if the task is cancelled: that is cheap.
And it lets other tasks run: that takes several times as long as to accept a row. A call that
enqueues does the first always, and the second once in a while, as the channels of tokio do.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Final

import trio

MOST_CALLS: Final = 64
"""The number of calls after which a buffer lets other tasks run. They take about 50 µs."""

CALLS_PER_TURN: Final = 3_200
"""The number of calls that more than 50 tasks share in one turn of the event loop: about 3 ms.

Trio itself takes about 5 µs per task and turn.
"""

SECONDS: Final = 0.001
"""The time after which it does so in any case: the producer also does something else."""


class ScheduleBudget:
    """Counts the calls of one buffer since it last let other tasks run.

    Args:
        clock: Trio's clock. With a `MockClock` only the calls count.
    """

    __slots__ = ("_calls_left", "_ends_at", "_now", "_paused")

    def __init__(self, clock: trio.abc.Clock) -> None:
        self._now = clock.current_time
        self._calls_left = 0
        self._ends_at = -math.inf
        self._paused = 0
        """How many tasks let others run now."""

    def checkpoint(self) -> Awaitable[None]:
        """Return what a call has to await: a cancellation point, and a schedule point if due."""
        self._calls_left -= 1
        if self._calls_left <= 0 or self._now() >= self._ends_at:
            return self._let_others_run()
        return trio.lowlevel.checkpoint_if_cancelled()  # noqa: ASYNC105  # the caller awaits it

    async def _let_others_run(self) -> None:
        self._paused += 1
        self._renew()  # for the tasks that run now
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._renew()  # for this task: the time of the others is not its time
            self._paused -= 1

    def _renew(self) -> None:
        calls = CALLS_PER_TURN // self._paused
        if calls > 1:
            self._calls_left = min(MOST_CALLS, calls)
            self._ends_at = self._now() + SECONDS
        else:
            self._calls_left = 1  # the next call is due, whatever time it is
