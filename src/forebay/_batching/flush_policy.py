"""When a buffer flushes, and why. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from forebay._batching.batch import FlushReason
from forebay._options import BufferOptions


@dataclass(frozen=True, slots=True)
class Pending:
    """What the decision needs to know of a buffer.

    Attributes:
        rows: the operations that a batch taken now would hold, so far as they are coalesced.
        no_room: whether the buffer has reached its capacity.
        requested: whether somebody waits for an entry that is not settled.
        closing: whether the buffer takes no more entries.
        oldest: when the oldest pending entry was accepted, in seconds of Trio's clock; None
            where nothing is pending.
    """

    rows: int
    no_room: bool
    requested: bool
    closing: bool
    oldest: float | None


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """The rule by which one buffer flushes."""

    batch_size: int
    interval: float

    @classmethod
    def of(cls, options: BufferOptions) -> FlushPolicy:
        """Give the policy that a buffer's options ask for."""
        return cls(options.effective_batch_size, options.flush_interval)

    def reason(self, pending: Pending, now: float) -> FlushReason | None:
        """Tell why a batch is to be taken now, or None to wait.

        Args:
            pending: the state of the buffer.
            now: the time, in seconds of Trio's clock.
        """
        if pending.oldest is None:
            return None
        if pending.rows >= self.batch_size or pending.no_room:
            return FlushReason.FULL
        if pending.closing:
            return FlushReason.DRAIN
        if pending.requested:
            return FlushReason.REQUESTED
        if now >= self.deadline(pending.oldest):
            return FlushReason.INTERVAL
        return None

    def deadline(self, oldest: float | None) -> float:
        """Tell when the interval ends, in seconds of Trio's clock; never, with nothing pending."""
        return math.inf if oldest is None else oldest + self.interval
