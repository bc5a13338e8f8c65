"""How long the start of a program waits for a server that does not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from forebay.stores.clickhouse._failures import NoAnswerError

T = TypeVar("T")


class StartLimit:
    """The time that the requests of a start may take together.

    Args:
        seconds: how long that is.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left = seconds

    async def call(self, fn: Callable[[], Awaitable[T]]) -> T:
        """Call a function within the time that is left. What it takes is not left after it.

        Raises:
            NoAnswerError: no time was left.
        """
        began = trio.current_time()
        try:
            with trio.move_on_after(self._left):
                return await fn()
        finally:
            self._left = max(0.0, self._left - (trio.current_time() - began))
        raise NoAnswerError(
            "Timeout",
            f"not all was answered within start_timeout, {self._seconds:g} s; if the server is "
            f"only slow, pass a larger one",
        )
