"""The part of a batch that is settled so far, counted while the batch is committed in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay._batching.batch import Batch
from forebay.stores import Rejection


@dataclass(frozen=True, slots=True)
class _RefusedBefore:
    """The refused entries up to one of them, as a linked list: to add one copies nothing."""

    rejection: Rejection
    previous: _RefusedBefore | None
    count: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The part of a batch that is settled. Entries settle in their order.

    Attributes:
        position: the number of settled entries since the buffer was opened.
        operations: the number of committed operations of this batch, by kind.
        refused: the entries of this batch that became dead letters, or None.
    """

    position: int
    operations: Mapping[str, int] = field(default_factory=dict[str, int])
    refused: _RefusedBefore | None = None

    @property
    def rejection_count(self) -> int:
        """The number of entries of this batch that became dead letters."""
        return 0 if self.refused is None else self.refused.count

    def rejections(self, *, after: int = 0) -> tuple[Rejection, ...]:
        """Return the entries of this batch that became dead letters, in their order.

        Args:
            after: how many of them to leave out, from the first one.
        """
        found: list[Rejection] = []
        last = self.refused
        while last is not None and last.count > after:
            found.append(last.rejection)
            last = last.previous
        return tuple(reversed(found))

    def advanced_by(self, batch: Batch) -> Settled:
        """Return what is settled once all operations of this batch are committed."""
        operations = dict(self.operations)
        for step in batch.steps:
            operations[step.operation] = operations.get(step.operation, 0) + len(step)
        return Settled(batch.end, operations, self.refused)

    def advanced_by_rejection(self, rejection: Rejection) -> Settled:
        """Return what is settled once this entry, the next one, is a dead letter."""
        refused = _RefusedBefore(rejection, self.refused, self.rejection_count + 1)
        return Settled(rejection.number, self.operations, refused)
