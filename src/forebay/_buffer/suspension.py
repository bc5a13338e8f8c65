"""What a buffer with `on_failure="suspend"` does after a failure that a retry cannot fix.

The buffer keeps its entries and tries again with the longest delay, until somebody has removed the
cause. A drain makes one more attempt: to wait out its deadline would leave no time for a spill.
"""

from __future__ import annotations

from typing import Final

import trio

from forebay._buffer.ledger import Ledger
from forebay._options import BufferOptions
from forebay.stores import BatchError, FloodError

FLOOD_DELAY: Final = 60.0
"""The delay after too many refused rows, in seconds.

An attempt bisects the batch until it has found as many refused rows as the limit allows, and the
other buffers of the store wait for it.
"""


class Suspension:
    """The suspensions of one buffer, one after another.

    Args:
        options: the options of the buffer.
        ledger: shows whether the buffer is suspended.
    """

    def __init__(self, options: BufferOptions, ledger: Ledger) -> None:
        self._allowed = options.on_failure == "suspend"
        self._delay = options.retry.max_delay
        self._ledger = ledger
        self._draining = trio.Event()

    @property
    def active(self) -> bool:
        """Whether the buffer is suspended."""
        return self._ledger.suspended

    @property
    def draining(self) -> bool:
        """Whether the buffer drains."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Note that the drain has begun. It ends the wait before the next attempt."""
        self._draining.set()

    def begin(self, error: BatchError, *, in_drain: bool) -> bool:
        """Suspend the buffer after a failed attempt, unless it must stop.

        Args:
            error: the error of the attempt.
            in_drain: whether the attempt began while the buffer drained.

        Returns:
            Whether the buffer is suspended now.
        """
        self._ledger.suspended = self._allowed and not in_drain and error.recoverable
        return self._ledger.suspended

    def end(self) -> None:
        """Note that the buffer is not suspended any more."""
        self._ledger.suspended = False

    def delay(self, error: BatchError) -> float:
        """Return how long to wait before the next attempt, in seconds.

        Args:
            error: the error of the last attempt.
        """
        return FLOOD_DELAY if isinstance(error, FloodError) else self._delay

    async def wait(self, delay: float) -> None:
        """Wait for this number of seconds, or until the drain begins."""
        with trio.move_on_after(delay):
            await self._draining.wait()
