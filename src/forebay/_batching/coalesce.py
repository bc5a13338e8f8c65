"""Coalesce the pending entries of one table: a later entry supersedes an earlier one of its key.

The result is correct if it is sequentially equivalent: the batch leaves the table as if each
entry had been executed alone, in the order of acceptance. For the entries of one key this allows:

- A delete supersedes all entries before it.
- A write after a write merges into one row by the table's merge rules, which are associative,
  except for sums that could overflow.
- An update is merged into the write before it in two cases: it sets only columns that the write
  replaces; or a delete precedes that write, so that the row after the write is known.
- A write supersedes an update before it if the write replaces all columns that the update sets.
- Every other update needs the row as it is in the table, so it stays a separate operation,
  before or after the write.

So the pending operations of one key are always one of: a delete; a delete and a write; or an
update, a write and an update, each optional. A batch executes them in four steps for all keys:
deletes, updates, writes, updates. A delete by the `delete_by` column may match any key, so it ends
the four steps, and later entries start new ones. So does a row whose sums could overflow if it were
merged: the row in the table is not known here, and if a sum becomes a float depends on it.

All this assumes that the table accepts each row. If the table would have refused a row, its values
still take part in the merge. A table may therefore turn coalescing off. Without coalescing, or
without a key, each entry stays a separate operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias, TypeVar, cast

from forebay._batching.batch import Batch, FlushReason, WriteStep
from forebay._batching.segments import CoalescedSegment, DeleteBySegment, OrderedSegment
from forebay._table.operations import DeleteBy, Entry, Row, Update
from forebay._table.row_merger import RowMerger
from forebay._table.table import Table, is_coalesced

_Segment: TypeAlias = CoalescedSegment | OrderedSegment | DeleteBySegment
_S = TypeVar("_S", bound=_Segment)


class Coalescer:
    """Collect the pending entries of one table until a batch is taken."""

    def __init__(self, table: Table[Any], *, stream: str = "", position: int = 0) -> None:
        """Start without pending entries.

        Args:
            table: the table.
            stream: the unique id of the buffer, for its batches.
            position: how many entries of the buffer are settled.
        """
        self._table = table
        self._merger = RowMerger(table) if is_coalesced(table) else None
        self._stream = stream
        self.position: int = position
        """How many entries of the buffer precede the next batch."""
        self._reset()

    def _reset(self) -> None:
        self._accepted: list[Sequence[Entry]] = []
        self._ended: list[_Segment] = []
        self._ended_len = 0
        self._segment: _Segment = self._new_segment()
        self._entries = 0

    def __len__(self) -> int:
        """Return how many operations a batch would have if it were taken now."""
        return self._ended_len + len(self._segment)

    @property
    def entries(self) -> int:
        """The number of entries added since the last batch, superseded ones included."""
        return self._entries

    def add(self, entries: Sequence[Entry], *, only_rows: bool) -> None:
        """Add entries in the order of acceptance.

        Args:
            entries: validated entries. The batch refers to this sequence, so it must not change.
            only_rows: whether all entries are rows.
        """
        self._accepted.append(entries)
        self._entries += len(entries)
        if only_rows:
            self._keyed_segment().write_all(cast("Sequence[Row]", entries))
            return
        for entry in entries:
            if isinstance(entry, DeleteBy):
                self._delete_by(entry.value)
                continue
            segment = self._keyed_segment()
            if isinstance(entry, tuple):
                segment.write_all((entry,))
            elif isinstance(entry, Update):
                segment.update(entry.key, entry.columns)
            else:
                segment.delete(entry.key)

    def _new_segment(self) -> CoalescedSegment | OrderedSegment:
        return OrderedSegment() if self._merger is None else CoalescedSegment(self._merger)

    def _keyed_segment(self) -> CoalescedSegment | OrderedSegment:
        if isinstance(self._segment, DeleteBySegment):
            return self._start_segment(self._new_segment())
        return self._segment

    def _delete_by(self, value: Any) -> None:
        segment = self._segment
        if isinstance(segment, CoalescedSegment):
            segment = self._start_segment(DeleteBySegment())
        segment.delete_by(value)

    def _start_segment(self, segment: _S) -> _S:
        self._ended.append(self._segment)
        self._ended_len += len(self._segment)
        self._segment = segment
        return segment

    def take(self, reason: FlushReason) -> Batch:
        """Return a batch of all pending entries, and start again without any."""
        steps = self._segment.steps()
        if self._ended:
            steps = [step for segment in (*self._ended, self._segment) for step in segment.steps()]
        batch = Batch(
            table=self._table,
            accepted=tuple(self._accepted),
            entries=self._entries,
            steps=tuple(steps),
            reason=reason,
            stream=self._stream,
            position=self.position,
        )
        self.position += self._entries
        self._reset()
        return batch

    def batch_of_row(self, row: Row, reason: FlushReason) -> Batch:
        """Return a batch of one row, while no entries are pending.

        Set `position` to its end if this is the next batch.
        """
        return Batch(
            table=self._table,
            accepted=((row,),),
            entries=1,
            steps=(WriteStep((row,)),),
            reason=reason,
            stream=self._stream,
            position=self.position,
        )


def remaining_batch(batch: Batch, position: int) -> Batch:
    """Return a batch of the entries that are not settled yet.

    Args:
        batch: a batch of which the first entries are settled.
        position: how many entries of the buffer are settled.
    """
    entries = list(chain.from_iterable(batch.accepted))[position - batch.position :]
    return _batch_of(batch, entries, position)


def split_batch(batch: Batch) -> tuple[Batch, Batch]:
    """Return the first and the second half of the entries of a batch as two batches.

    Each half is coalesced on its own. Committed in order, they have the effect of the batch.

    Args:
        batch: a batch of at least two entries.
    """
    entries = list(chain.from_iterable(batch.accepted))
    middle = len(entries) // 2
    return (
        _batch_of(batch, entries[:middle], batch.position),
        _batch_of(batch, entries[middle:], batch.position + middle),
    )


def _batch_of(batch: Batch, entries: Sequence[Entry], position: int) -> Batch:
    part = Coalescer(batch.table, stream=batch.stream, position=position)
    part.add(entries, only_rows=all(isinstance(entry, tuple) for entry in entries))
    return part.take(batch.reason)
