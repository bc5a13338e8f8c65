"""When a call that enqueues lets other tasks run.

A checkpoint of Trio does two things. It raises `Cancelled` if the task is cancelled: that is cheap.
And it lets other tasks run: that takes several times as long as to accept a row. A call that
enqueues does the first always, and the second once in a while, as the channels of tokio do.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final

import trio

MOST_CALLS: Final = 64
"""The number of calls after which a buffer lets other tasks run. They take about 50 µs."""

CALLS_PER_TURN: Final = 1_600
"""The number of calls that more than 25 tasks share in one turn of the event loop.

They take about 1.5 ms, and twice as long while a thread writes and needs the GIL. With twice as
many calls, other tasks are half as late again: `nox -s bench -- saturation`.
"""

LEAST_CALLS: Final = 4
"""The number of calls of each task, however many tasks there are.

They take about as long as Trio needs to let one of 10,000 tasks run: 3 to 5 µs.
"""

SECONDS: Final = 0.001
"""The time after which it does so in any case: the producer also does something else."""


class ScheduleBudget:
    """Counts the calls of one buffer since it last let other tasks run.

    `Buffer.enqueue` has the body of `checkpoint` inline, since a call more would slow it down.

    Args:
        clock: Trio's clock. If it stands still, as a `MockClock` does, only the calls count, and
            the time by which a test moves it.
    """

    __slots__ = ("_paused", "calls_left", "ends_at", "now")

    def __init__(self, clock: trio.abc.Clock) -> None:
        self.now: Callable[[], float] = perf_counter
        """The clock of `ends_at`. `perf_counter` takes half as long as the clock of Trio."""
        if _stands_still(clock):
            self.now = clock.current_time
        self.calls_left: int = 0
        """The number of calls up to the next one that lets others run."""
        self.ends_at: float = -math.inf
        """The time from which the next call lets others run."""
        self._paused = 0
        """How many tasks let others run now."""

    def checkpoint(self) -> Awaitable[None]:
        """Return what a call has to await: a cancellation point, and a schedule point if due."""
        self.calls_left -= 1
        if self.calls_left > 0 and self.now() < self.ends_at:
            return trio.lowlevel.checkpoint_if_cancelled()  # noqa: ASYNC105  # the caller awaits it
        return self.let_others_run()

    async def let_others_run(self) -> None:
        """Execute a checkpoint, which the next calls need not do."""
        self._paused += 1
        self._renew()  # for the tasks that run now
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._renew()  # for this task: the time of the others is not its time
            self._paused -= 1

    def _renew(self) -> None:
        calls = max(LEAST_CALLS, CALLS_PER_TURN // self._paused)
        self.calls_left = min(MOST_CALLS, calls)
        self.ends_at = self.now() + SECONDS


def _stands_still(clock: trio.abc.Clock) -> bool:
    """Return whether the time of a clock does not pass while a task runs."""
    at, before = perf_counter(), clock.current_time()
    while perf_counter() == at:
        pass
    return clock.current_time() == before
