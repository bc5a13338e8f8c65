"""The pending entries of one table, and how a later one supersedes an earlier one. Pure.

Correct means sequentially equivalent: the batch leaves the table as if each entry had been
executed alone, in the order of acceptance. What that allows, for the entries of one key:

- a delete makes all before it void;
- a write after a write merges into one row by the table's rules, which are associative;
- an update folds into a pending write where it sets columns that the write replaces, or where a
  delete came before that write, so that the row is the pending one for certain;
- any other update must see the row as the table has it, so it stays an operation of its own,
  before the write or after it.

So what is pending for one key is always one of: a delete; a delete, a write; or an update, a
write, an update, each of the three optional. A batch can run them as four steps over all keys:
deletes, updates, writes, updates. A delete by another column cannot be ordered by key: it ends
the steps before it, and what follows starts anew.

All of this takes for granted that the table takes each row: one that it would have refused leaves
what it was merged into. A table may therefore ask for no coalescing, and tables without a key have
none: then each entry is an operation of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias, TypeVar, cast

from forebay._batching.batch import (
    Batch,
    DeleteByStep,
    DeleteStep,
    FlushReason,
    Step,
    UpdateStep,
    WriteStep,
)
from forebay._table.operations import DeleteBy, Entry, Key, Row, Update
from forebay._table.row_merger import RowMerger
from forebay._table.table import Table

_Kind: TypeAlias = type[WriteStep] | type[DeleteStep] | tuple[str, ...]
"""The kind of a step; of an update, the columns that it sets."""


class _Keyed:
    """What is pending by key, between two deletes by another column."""

    def __init__(self, merger: RowMerger) -> None:
        self._merger = merger
        self._deletes: dict[Key, None] = {}
        self._before: dict[Key, Mapping[str, Any]] = {}
        self._writes: dict[Key, Row] = {}
        self._after: dict[Key, Mapping[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._deletes) + len(self._before) + len(self._writes) + len(self._after)

    def write_all(self, rows: Sequence[Row]) -> None:
        key_of = self._merger.key_of
        if self._merger.replaces_rows and not self._before:
            # The common case, in C: a later row of a key makes the earlier one void.
            self._writes.update(zip(map(key_of, rows), rows, strict=True))
            return
        for row in rows:
            self._write(key_of(row), row)

    def _write(self, key: Key, row: Row) -> None:
        pending = self._writes.get(key)
        self._writes[key] = row if pending is None else self._merger.merge(pending, row)
        if (later := self._after.get(key)) is not None:
            self._after[key] = self._merger.merge_columns(later, row)
        elif (earlier := self._before.get(key)) is not None and self._merger.replaces(earlier):
            del self._before[key]

    def update(self, key: Key, columns: Mapping[str, Any]) -> None:
        if key in self._after:
            self._after[key] = {**self._after[key], **columns}
        elif (row := self._writes.get(key)) is not None:
            if key in self._deletes or self._merger.replaces(columns):
                self._writes[key] = self._merger.set_columns(row, columns)
            else:
                self._after[key] = columns
        elif key not in self._deletes:
            self._before[key] = {**self._before.get(key, {}), **columns}

    def delete(self, key: Key) -> None:
        for pending in (self._before, self._writes, self._after):
            pending.pop(key, None)
        self._deletes[key] = None

    def steps(self) -> tuple[Step, ...]:
        return (
            DeleteStep(tuple(self._deletes)),
            *_update_steps(self._before),
            WriteStep(tuple(self._writes.values())),
            *_update_steps(self._after),
        )


def _update_steps(updates: Mapping[Key, Mapping[str, Any]]) -> list[UpdateStep]:
    """Give a step for each set of columns that updates name, as one statement names them."""
    by_columns: dict[tuple[str, ...], list[tuple[Key, tuple[Any, ...]]]] = {}
    for key, columns in updates.items():
        names = tuple(sorted(columns))
        by_columns.setdefault(names, []).append((key, tuple(columns[name] for name in names)))
    return [UpdateStep(names, tuple(rows)) for names, rows in by_columns.items()]


class _InOrder:
    """What is pending of a table that does not coalesce: an operation for each entry, in order.

    Entries of one kind that follow each other are a step; two updates of one key are not, since
    one statement sets a row once.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[_Kind, list[Any]]] = []
        self._updated: set[Key] = set()
        self._len = 0

    def __len__(self) -> int:
        return self._len

    def _add(self, kind: _Kind, items: Sequence[Any]) -> None:
        if not self._runs or self._runs[-1][0] != kind:
            self._runs.append((kind, []))
            self._updated.clear()
        self._runs[-1][1].extend(items)
        self._len += len(items)

    def write_all(self, rows: Sequence[Row]) -> None:
        self._add(WriteStep, rows)

    def update(self, key: Key, columns: Mapping[str, Any]) -> None:
        names = tuple(sorted(columns))
        if key in self._updated:
            self._runs.append((names, []))
            self._updated.clear()
        self._add(names, [(key, tuple(columns[name] for name in names))])
        self._updated.add(key)

    def delete(self, key: Key) -> None:
        self._add(DeleteStep, [key])

    def steps(self) -> tuple[Step, ...]:
        return tuple(
            UpdateStep(kind, tuple(items)) if isinstance(kind, tuple) else kind(tuple(items))
            for kind, items in self._runs
        )


class _DeletedBy:
    """Values of the `delete_by` column, one after another."""

    def __init__(self) -> None:
        self._values: dict[Any, None] = {}

    def __len__(self) -> int:
        return len(self._values)

    def delete(self, value: Any) -> None:
        self._values[value] = None

    def steps(self) -> tuple[Step, ...]:
        return (DeleteByStep(tuple(self._values)),)


_Segment: TypeAlias = _Keyed | _InOrder | _DeletedBy
_S = TypeVar("_S", bound=_Segment)


class Coalescer:
    """What is pending for one table, until a batch is taken."""

    def __init__(self, table: Table[Any], *, stream: str = "", position: int = 0) -> None:
        """Begin with nothing pending.

        Args:
            table: the table.
            stream: the name of the buffer, for its batches.
            position: how many of its entries are settled.
        """
        self._table = table
        self._merger = RowMerger(table) if table.key and table.coalesce else None
        self._stream = stream
        self._position = position
        self._clear()

    def _clear(self) -> None:
        self._accepted: list[Sequence[Entry]] = []
        self._ended: list[_Segment] = []
        self._ended_len = 0
        self._segment: _Segment = self._new_segment()
        self._entries = 0

    def __len__(self) -> int:
        """How many operations a batch taken now would hold."""
        return self._ended_len + len(self._segment)

    @property
    def entries(self) -> int:
        """How many entries were added since the last batch, superseded ones included."""
        return self._entries

    def add(self, entries: Sequence[Entry], *, only_rows: bool) -> None:
        """Add entries in the order of their acceptance.

        Args:
            entries: rows, updates and deletes that the table has checked; not to be changed any
                more, since the batch refers to them.
            only_rows: whether all of them are rows.
        """
        self._accepted.append(entries)
        self._entries += len(entries)
        if only_rows:
            self._rows_segment().write_all(cast("Sequence[Row]", entries))
            return
        for entry in entries:
            if isinstance(entry, DeleteBy):
                self._delete_by_segment().delete(entry.value)
                continue
            segment = self._rows_segment()
            if isinstance(entry, tuple):
                segment.write_all((entry,))
            elif isinstance(entry, Update):
                segment.update(entry.key, entry.columns)
            else:
                segment.delete(entry.key)

    def _new_segment(self) -> _Keyed | _InOrder:
        return _InOrder() if self._merger is None else _Keyed(self._merger)

    def _rows_segment(self) -> _Keyed | _InOrder:
        if isinstance(self._segment, _DeletedBy):
            return self._next(self._new_segment())
        return self._segment

    def _delete_by_segment(self) -> _DeletedBy:
        if isinstance(self._segment, _DeletedBy):
            return self._segment
        return self._next(_DeletedBy())

    def _next(self, segment: _S) -> _S:
        self._ended.append(self._segment)
        self._ended_len += len(self._segment)
        self._segment = segment
        return segment

    def take(self, reason: FlushReason) -> Batch:
        """Give all that is pending as a batch, and start anew."""
        steps = tuple(
            step
            for segment in (*self._ended, self._segment)
            for step in segment.steps()
            if len(step)
        )
        batch = Batch(
            table=self._table,
            accepted=tuple(self._accepted),
            entries=self._entries,
            steps=steps,
            reason=reason,
            stream=self._stream,
            position=self._position,
        )
        self._position += self._entries
        self._clear()
        return batch


def remainder(batch: Batch, position: int) -> Batch:
    """Give what is left of a batch when its entries up to a position are settled."""
    entries = list(chain.from_iterable(batch.accepted))[position - batch.position :]
    return _batch_of(batch, entries, position)


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """Cut a batch of two entries or more into two, to be done one after the other.

    Each half is coalesced anew, so that together they do what the whole was to do.
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
