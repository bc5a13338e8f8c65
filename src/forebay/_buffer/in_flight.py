"""The batch that a worker flushes, and the part of it that is settled."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

from forebay._batching.batch import Batch
from forebay._batching.coalesce import remaining_batch
from forebay._buffer.observer import FlushObserver
from forebay._table.operations import size_of
from forebay.stores import Attempt, Outcome, Rejection


class Part(NamedTuple):
    """Entries of a batch that have settled."""

    entries: int
    outcome: Outcome
    size: int
    """The bytes to release for them."""


_NOTHING: Final = Outcome({})
"""The outcome of a batch of which nothing is settled."""


class InFlight:
    """The batch that a worker flushes.

    A store may commit a batch in parts, and fail between two of them. The entries settle in their
    order, so the settled part is a number of entries, counted from the first one.

    Args:
        batch: the batch.
        observer: the context of the flush.
        size: the bytes to release once the batch is settled.
        started: when the batch was taken, in seconds of Trio's clock.

    Attributes:
        attempt: the store's attempt to commit it. `Flusher.take` sets it.
        attempts: the number of attempts that have begun.
        begun: whether the last of them has begun, and may not have ended.
        failure: the error of the last of them, if it is not handled yet.
    """

    def __init__(
        self,
        batch: Batch,
        observer: FlushObserver,
        *,
        size: int,
        started: float,
    ) -> None:
        self.batch = batch
        self.attempt: Attempt
        self.observer = observer
        self.started = started
        self.attempts: int = 0
        self.begun: bool = False
        self.failure: Exception | None = None
        self._size = size
        self._settled = 0
        self._outcome = _NOTHING

    @property
    def settled(self) -> bool:
        """Whether the whole batch is settled, and no error is left to handle."""
        return self._settled == self.batch.entries and self.failure is None

    @property
    def rejections(self) -> Sequence[Rejection]:
        """The settled entries that are dead letters."""
        return self._outcome.rejections

    @property
    def dead_letters(self) -> int:
        """How many settled entries of the batch are dead letters."""
        return len(self._outcome.rejections)

    def settle(self, entries: int, outcome: Outcome) -> Part | None:
        """Note how many entries are settled, counted from the first one.

        Args:
            entries: the number of settled entries, those of earlier calls included.
            outcome: their outcome, that of earlier calls included.

        Returns:
            The entries that have settled since the last call; None if there are none.
        """
        if entries <= self._settled:
            return None
        before, self._settled = self._settled, entries
        earlier, self._outcome = self._outcome, outcome
        if earlier is _NOTHING and entries == self.batch.entries:
            return Part(entries, outcome, self._size)
        operations = {
            name: new
            for name, count in outcome.operations.items()
            if (new := count - earlier.operations.get(name, 0))
        }
        size = self._size
        if entries < self.batch.entries and size:
            settled = islice(chain.from_iterable(self.batch.accepted), before, entries)
            size = min(size, sum(map(size_of, settled)))
        self._size -= size
        rejections = outcome.rejections[len(earlier.rejections) :]
        return Part(entries - before, Outcome(operations, rejections, outcome.duration), size)

    def remaining(self) -> Batch:
        """Return a batch of the entries that are not settled."""
        if not self._settled:
            return self.batch
        return remaining_batch(self.batch, self.batch.position + self._settled)
