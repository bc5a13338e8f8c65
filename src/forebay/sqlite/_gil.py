"""Let a busy event loop release the GIL for the threads that it waits for.

A thread that returns from SQLite needs the GIL. It requests the GIL after it has waited for
`sys.getswitchinterval()`, 5 ms, but this wait starts again whenever another thread releases the
GIL. An event loop that is never idle releases the GIL at each tick, when it asks for I/O events,
and acquires it again before the thread has woken up. So beside a loop that is busy in slices of
1 ms, a flush of some milliseconds took seconds. The wait is `take_gil` in
https://github.com/python/cpython/blob/3.11/Python/ceval_gil.h; `nox -s bench -- busy_loop`
measures its effect.
"""

from __future__ import annotations

from time import perf_counter, sleep

import trio

_PERIOD = 0.001
"""The shortest time between two pauses of a busy loop, in seconds."""
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
        """Release the GIL if a pause is due. Trio calls this at each tick of its loop."""
        if self._calls and not timeout and perf_counter() >= self._next_pause:
            sleep(_PAUSE)
            self._next_pause = perf_counter() + _PERIOD


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
