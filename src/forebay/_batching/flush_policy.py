"""Decide when a buffer flushes, and for which reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from forebay._batching.batch import FlushReason
from forebay._options import BufferOptions


class BufferState(NamedTuple):
    """The state of a buffer on which the decision to flush depends.

    Attributes:
        rows: how many operations a batch would have if it were taken now.
        full: whether the buffer has reached its capacity.
        requested: whether a task waits for a pending entry to be settled.
        closing: whether the buffer accepts no more entries.
        oldest: when the oldest pending entry was accepted, in seconds of Trio's clock; None if no
            entry is pending.
    """

    rows: int
    full: bool
    requested: bool
    closing: bool
    oldest: float | None


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """The rule by which one buffer flushes.

    Attributes:
        batch_size: the number of rows that fills a batch.
        interval: the longest wait of a pending entry, in seconds.
    """

    batch_size: int
    interval: float

    @classmethod
    def from_options(cls, options: BufferOptions) -> FlushPolicy:
        """Return the policy that a buffer's options define."""
        return cls(options.effective_batch_size, options.flush_interval)

    def flush_reason(self, state: BufferState, now: float) -> FlushReason | None:
        """Return why the buffer must flush now, or None if it must wait.

        Args:
            state: the state of the buffer.
            now: the time, in seconds of Trio's clock.
        """
        if state.oldest is None:
            return None
        if state.rows >= self.batch_size or state.full:
            return FlushReason.FULL
        if state.closing:
            return FlushReason.DRAIN
        if state.requested:
            return FlushReason.REQUESTED
        if now >= self.deadline(state.oldest):
            return FlushReason.INTERVAL
        return None

    def deadline(self, oldest: float | None) -> float:
        """Return when the flush interval ends, in seconds of Trio's clock.

        Args:
            oldest: when the oldest pending entry was accepted; None if no entry is pending.

        Returns:
            The time, or `math.inf` if no entry is pending.
        """
        return math.inf if oldest is None else oldest + self.interval
