"""The segments of a batch. Deletes by the `delete_by` column divide a batch into segments.

Consecutive deletes of this kind are a segment of their own. Such a delete may match rows of any
key, so nothing may be coalesced across it. A batch without coalescing is one segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from forebay._batching.batch import DeleteByStep, DeleteStep, Step, UpdateStep, WriteStep
from forebay._table.operations import Key, Row
from forebay._table.row_merger import RowMerger

_Kind: TypeAlias = type[WriteStep] | type[DeleteStep] | type[DeleteByStep] | tuple[str, ...]
"""The class of a step; for updates, the columns that they set."""


class CoalescedSegment:
    """The pending operations by key, between two deletes by the `delete_by` column.

    If a row cannot be merged into the pending operation of its key, all pending operations become
    steps, and later ones are coalesced among themselves only.
    """

    def __init__(self, merger: RowMerger) -> None:
        """Start without operations.

        Args:
            merger: merges the rows of the table.
        """
        self._merger = merger
        self._ended_steps: list[Step] = []
        self._ended_len = 0
        self._deletes: dict[Key, None] = {}
        self._updates_before: dict[Key, Mapping[str, Any]] = {}
        """The updates to execute before the writes."""
        self._writes: dict[Key, Row] = {}
        self._updates_after: dict[Key, Mapping[str, Any]] = {}
        """The updates to execute after the writes."""

    def __len__(self) -> int:
        return self._ended_len + self._pending_len()

    def _pending_len(self) -> int:
        return (
            len(self._deletes)
            + len(self._updates_before)
            + len(self._writes)
            + len(self._updates_after)
        )

    def write_all(self, rows: Sequence[Row]) -> None:
        """Add writes of these rows, in order."""
        key_of = self._merger.key_of
        if self._merger.replaces_rows and not self._updates_before:
            # The common case, without a loop in Python: a later row replaces an earlier one.
            self._writes.update(zip(map(key_of, rows), rows, strict=True))
            return
        for row in rows:
            self._write(key_of(row), row)

    def _write(self, key: Key, row: Row) -> None:
        pending = self._writes.get(key)
        later = self._updates_after.get(key)
        if (pending is not None and not self._merger.may_merge(pending, row)) or (
            later is not None and not self._merger.may_merge_columns(later, row)
        ):
            self._end_pending()
            pending = later = None
        self._writes[key] = row if pending is None else self._merger.merge(pending, row)
        if later is not None:
            self._updates_after[key] = self._merger.merge_columns(later, row)
            return
        earlier = self._updates_before.get(key)
        if earlier is not None and self._merger.replaces(earlier):
            del self._updates_before[key]

    def update(self, key: Key, columns: Mapping[str, Any]) -> None:
        """Add an update of these columns of one row."""
        if key in self._updates_after:
            self._updates_after[key] = {**self._updates_after[key], **columns}
        elif (row := self._writes.get(key)) is not None:
            if key in self._deletes or self._merger.replaces(columns):
                self._writes[key] = self._merger.set_columns(row, columns)
            else:
                self._updates_after[key] = columns
        elif key not in self._deletes:
            self._updates_before[key] = {**self._updates_before.get(key, {}), **columns}

    def delete(self, key: Key) -> None:
        """Add a delete of one row by its key."""
        for pending in (self._updates_before, self._writes, self._updates_after):
            pending.pop(key, None)
        self._deletes[key] = None

    def steps(self) -> list[Step]:
        """Return the steps of the segment. None of them is empty."""
        return [*self._ended_steps, *self._pending_steps()]

    def _pending_steps(self) -> list[Step]:
        steps: list[Step] = []
        if self._deletes:
            steps.append(DeleteStep(tuple(self._deletes)))
        if self._updates_before:
            steps += _update_steps(self._updates_before)
        if self._writes:
            steps.append(WriteStep(tuple(self._writes.values())))
        if self._updates_after:
            steps += _update_steps(self._updates_after)
        return steps

    def _end_pending(self) -> None:
        self._ended_steps += self._pending_steps()
        self._ended_len += self._pending_len()
        for pending in (self._deletes, self._updates_before, self._writes, self._updates_after):
            pending.clear()


def _update_steps(updates: Mapping[Key, Mapping[str, Any]]) -> list[UpdateStep]:
    """Return one step per set of columns, since one statement sets the same columns of all rows."""
    by_columns: dict[tuple[str, ...], list[tuple[Key, tuple[Any, ...]]]] = {}
    for key, columns in updates.items():
        names = tuple(sorted(columns))
        by_columns.setdefault(names, []).append((key, tuple(columns[name] for name in names)))
    return [UpdateStep(names, tuple(rows)) for names, rows in by_columns.items()]


class OrderedSegment:
    """The pending operations of a table without coalescing: one per entry, in order.

    Consecutive entries of the same kind form one step.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[_Kind, list[Any]]] = []
        self._len = 0

    def __len__(self) -> int:
        return self._len

    def _add(self, kind: _Kind, items: Sequence[Any]) -> None:
        if not items:
            return
        if not self._runs or self._runs[-1][0] != kind:
            self._runs.append((kind, []))
        self._runs[-1][1].extend(items)
        self._len += len(items)

    def write_all(self, rows: Sequence[Row]) -> None:
        """Add writes of these rows, in order."""
        self._add(WriteStep, rows)

    def update(self, key: Key, columns: Mapping[str, Any]) -> None:
        """Add an update of these columns of one row."""
        names = tuple(sorted(columns))
        self._add(names, [(key, tuple(columns[name] for name in names))])

    def delete(self, key: Key) -> None:
        """Add a delete of one row by its key."""
        self._add(DeleteStep, [key])

    def delete_by(self, value: Any) -> None:
        """Add a delete of the rows with this value in the `delete_by` column."""
        self._add(DeleteByStep, [value])

    def steps(self) -> list[Step]:
        """Return the steps of the segment. None of them is empty."""
        return [
            UpdateStep(kind, tuple(items)) if isinstance(kind, tuple) else kind(tuple(items))
            for kind, items in self._runs
        ]


class DeleteBySegment:
    """Consecutive deletes by the `delete_by` column of a table with coalescing."""

    def __init__(self) -> None:
        self._values: dict[Any, None] = {}

    def __len__(self) -> int:
        return len(self._values)

    def delete_by(self, value: Any) -> None:
        """Add a delete of the rows with this value."""
        self._values[value] = None

    def steps(self) -> list[Step]:
        """Return the only step of the segment, which is not empty."""
        return [DeleteByStep(tuple(self._values))]
