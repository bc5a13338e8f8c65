"""Let a busy event loop release the GIL for the threads that it waits for.

A thread that returns from SQLite needs the GIL. It requests the GIL after it has waited for
`sys.getswitchinterval()`, 5 ms, but this wait starts again whenever another thread releases the
GIL. An event loop that is never idle releases the GIL at each tick, when it asks for I/O events,
and acquires it again before the thread has woken up. So beside a loop that is busy in slices of
1 ms, a flush of some milliseconds took seconds. The wait is `take_gil` in
https://github.com/python/cpython/blob/3.11/Python/ceval_gil.h; `nox -s bench -- busy_loop`
measures its effect.

A busy loop pauses after the step of a task. In one tick, 100 tasks that enqueue run for 3 ms, in
which the thread would write nothing. An instrument that is called after each step makes it slower
by 0.5 µs, so it is only added while a call runs and the loop is busy.
"""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter, sleep

import trio

_PERIOD = 0.0003
"""The shortest time between two pauses of a busy loop, in seconds.

SQLite takes about as long to write the rows of one statement. After that its thread needs the GIL.
With 1 ms, a task that enqueues and the thread hardly worked at the same time:
`nox -s bench -- row_by_row`.
"""
_PAUSE = 0.00001
"""The time that the loop sleeps, in seconds: long enough for a waiting thread to wake up.

The system's shortest sleep is longer, so a pause takes about 60 µs.
"""


class GilReleaser(trio.abc.Instrument):
    """Sleeps for a moment, once per period, while a call runs in a thread and the loop is busy.

    As a context manager, it counts one call for the time of the block.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._next_pause = 0.0
        self._after_steps: _AfterSteps | None = None
        """What pauses within a tick, if it has been added to the instruments."""

    def call_begins(self) -> None:
        """Count a call that begins."""
        self._calls += 1

    def call_ended(self) -> None:
        """Count a call that has ended."""
        self._calls -= 1

    def __enter__(self) -> None:
        self.call_begins()

    def __exit__(self, *_exception: object) -> None:
        self.call_ended()

    def before_io_wait(self, timeout: float) -> None:
        """Pause if that is due and the loop is busy. Trio calls this at each tick of its loop."""
        if self._calls and not timeout:
            self.pause_if_due()
            if self._after_steps is None:
                self._after_steps = _AfterSteps(self)
                trio.lowlevel.add_instrument(self._after_steps)
        elif self._after_steps is not None and not self._calls:
            with suppress(
                KeyError
            ):  # Trio removes an instrument that raised, as for want of memory
                trio.lowlevel.remove_instrument(self._after_steps)
            self._after_steps = None

    def pause_if_due(self) -> None:
        """Release the GIL if a call runs and the last pause is a period ago."""
        if self._calls and perf_counter() >= self._next_pause:
            sleep(_PAUSE)
            self._next_pause = perf_counter() + _PERIOD


class _AfterSteps(trio.abc.Instrument):
    """Pauses between the tasks of a tick."""

    def __init__(self, releaser: GilReleaser) -> None:
        self._releaser = releaser

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002  # Trio's interface
        self._releaser.pause_if_due()


_of_this_run: trio.lowlevel.RunVar[GilReleaser] = trio.lowlevel.RunVar("forebay.sqlite.GilReleaser")


def gil_releaser() -> GilReleaser:
    """Return the instrument of the current `trio.run`; add it at the first call."""
    try:
        return _of_this_run.get()
    except LookupError:
        created = GilReleaser()
        _of_this_run.set(created)
        trio.lowlevel.add_instrument(created)
        return created
