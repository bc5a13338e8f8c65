"""SIGINT and SIGTERM: the first ends the work in order, the second gives up on it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable

HANDLED = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """The signals that a command received.

    Args:
        on_first: called at the first signal, with its name.
        on_second: called at each later signal.

    Attributes:
        first: the first signal, or None before it arrives.
    """

    def __init__(self, on_first: Callable[[str], None], on_second: Callable[[], None]) -> None:
        self.first: signal.Signals | None = None
        self._on_first = on_first
        self._on_second = on_second

    @property
    def exit_code(self) -> int | None:
        """The exit code that a shell expects after the first signal; None without a signal."""
        return None if self.first is None else 128 + self.first

    async def watch(self, received: AsyncIterator[int]) -> None:
        """Call the functions when signals are received, until cancelled."""
        async for number in received:
            if self.first is None:
                self.first = signal.Signals(number)
                self._on_first(self.first.name)
            else:
                self._on_second()
