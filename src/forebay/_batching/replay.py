"""Execute the pending entries of one key in memory, on the row that the table has for it.

The result is the row that the table would have if every entry had been executed, in order. What the
database adds of its own is not simulated: triggers, cascades, defaults, refused rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from forebay._table.operations import Delete, Entry, Row, Update
from forebay._table.row_merger import RowMerger
from forebay._table.table import Table


class DeletesValue(Protocol):
    """Return whether an entry numbered from `after + 1` to `up_to` deletes rows by this value."""

    def __call__(self, value: Any, after: int, up_to: int) -> bool: ...


class Replay:
    """Executes the entries of single keys of one table.

    Args:
        table: the table, which has a key.
    """

    def __init__(self, table: Table[Any]) -> None:
        self._merger = RowMerger(table)
        names = [column.name for column in table.columns]
        self._delete_by = None if table.delete_by is None else names.index(table.delete_by)

    def decided_from(self, entries: Sequence[tuple[int, Entry]]) -> int | None:
        """Return the index of the last entry whose result does not depend on the row before it.

        Args:
            entries: the entries of one key with their numbers, in order.

        Returns:
            The index of the last delete, or of the last write if writes replace all columns; None
            if the row in the table is needed.
        """
        for i in range(len(entries) - 1, -1, -1):
            entry = entries[i][1]
            if isinstance(entry, Delete) or (
                self._merger.replaces_rows and isinstance(entry, tuple)
            ):
                return i
        return None

    def run(
        self,
        row: Row | None,
        entries: Sequence[tuple[int, Entry]],
        *,
        after: int,
        up_to: int,
        deletes_value: DeletesValue,
    ) -> Row | None:
        """Return the row after the entries numbered from ``after + 1`` to `up_to`.

        Args:
            row: the row after the entry numbered `after`; None if there is no row.
            entries: the entries of the row's key with their numbers, in order.
            after: the number of the last entry that `row` reflects.
            up_to: the number of the last entry to execute.
            deletes_value: finds deletes by the `delete_by` column.
        """
        for number, entry in entries:
            if number <= after:
                continue
            row = self._without_deleted(row, after, number, deletes_value)
            row = self._execute(row, entry)
            after = number
        return self._without_deleted(row, after, up_to, deletes_value)

    def _execute(self, row: Row | None, entry: Entry) -> Row | None:
        if isinstance(entry, tuple):
            return tuple(entry) if row is None else self._merger.merge(row, entry)
        if isinstance(entry, Update) and row is not None:
            return self._merger.set_columns(row, entry.columns)
        return None

    def _without_deleted(
        self, row: Row | None, after: int, up_to: int, deletes_value: Callable[..., bool]
    ) -> Row | None:
        if row is None or self._delete_by is None:
            return row
        return None if deletes_value(row[self._delete_by], after, up_to) else row
