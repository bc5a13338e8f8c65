"""How long the start of a program waits for a server that does not answer."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import trio

from forebay.stores.clickhouse._failures import NoAnswerError


class StartLimit:
    """The time that the requests of a start may take together.

    Args:
        seconds: how long that is.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left = seconds

    @contextmanager
    def spend(self) -> Generator[None, None, None]:
        """Limit a block to the time that is left. What the block takes is not left after it.

        Raises:
            NoAnswerError: no time was left.
        """
        began = trio.current_time()
        try:
            with trio.move_on_after(self._left) as scope:
                yield
        finally:
            self._left = max(0.0, self._left - (trio.current_time() - began))
        if scope.cancelled_caught:
            raise NoAnswerError(
                "Timeout", f"the start got no answer within start_timeout, {self._seconds:g} s"
            )
