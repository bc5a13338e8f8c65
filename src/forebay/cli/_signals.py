"""What SIGINT and SIGTERM do: the first cancels the work, the second the wait for its end."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable

import trio

HANDLED = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """The signals that a command received.

    Args:
        work: cancelled at the first signal.
        on_first: called at the first signal, with its name.

    Attributes:
        first: the first signal, or None before it arrives.
        on_second: called at each later signal.
    """

    def __init__(self, work: trio.CancelScope, on_first: Callable[[str], None]) -> None:
        self.first: signal.Signals | None = None
        self.on_second: Callable[[], None] | None = None
        self._work = work
        self._on_first = on_first

    @property
    def exit_code(self) -> int | None:
        """The exit code that a shell expects after the first signal; None without a signal."""
        return None if self.first is None else 128 + self.first

    async def watch(self, received: AsyncIterator[int]) -> None:
        """Act on the signals that are received, until cancelled."""
        async for number in received:
            if self.first is None:
                self.first = signal.Signals(number)
                self._on_first(self.first.name)
                self._work.cancel()
            elif self.on_second is not None:
                self.on_second()
