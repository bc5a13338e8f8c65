"""A busy event loop hands the GIL over to the threads that it waits for.

A thread that comes back from SQLite needs the GIL. It asks for it once it has waited for
`sys.getswitchinterval`, 5 ms; but whenever the GIL is released, its wait begins anew. A loop
that is never idle releases the GIL at each of its ticks, to ask what is ready, and has it back
before the thread has woken up. So a flush of some milliseconds took seconds beside a loop that
was busy in slices of 1 ms: `take_gil` in https://github.com/python/cpython/blob/3.11/Python/ceval_gil.h
has the wait, and `nox -s bench -- busy_loop` measures it.
"""

from __future__ import annotations

from time import perf_counter, sleep

import trio

_PERIOD = 0.001
"""How long a busy loop goes on, in seconds, before it hands the GIL over."""
_PAUSE = 0.00001
"""How long it then sleeps, in seconds: long enough for a thread that waits to wake up.

With what the system adds to the shortest sleep it is some 60 µs."""


class HandOver(trio.abc.Instrument):
    """Sleeps for a moment, now and then, while a call runs in a thread and the loop is never idle.

    It is told when a call begins and when it has ended, or entered for the time of one.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._due = 0.0

    def begin(self) -> None:
        """Note that a call begins."""
        self._calls += 1

    def end(self) -> None:
        """Note that a call has ended."""
        self._calls -= 1

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def before_io_wait(self, timeout: float) -> None:
        """Hand the GIL over, when that is due. Trio calls this at each tick of its loop."""
        if self._calls and not timeout and perf_counter() >= self._due:
            sleep(_PAUSE)
            self._due = perf_counter() + _PERIOD


_of_this_run: trio.lowlevel.RunVar[HandOver] = trio.lowlevel.RunVar("forebay.sqlite.HandOver")


def hand_over() -> HandOver:
    """Give what this Trio program tells of its calls in threads."""
    try:
        return _of_this_run.get()
    except LookupError:
        made = HandOver()
        _of_this_run.set(made)
        trio.lowlevel.add_instrument(made)
        return made
