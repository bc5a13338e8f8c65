"""Merge rows in memory by the rules of their table, as the database merges them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from forebay._table.merge import Merge
from forebay._table.operations import Key, Row
from forebay._table.table import Table, key_getter, value_columns


class RowMerger:
    """Merge rows of one table that have the same key.

    Attributes:
        key_of: returns the key of a row.
        replaces_rows: whether a later row replaces an earlier one of the same key as a whole,
            whatever both hold.
    """

    def __init__(self, table: Table[Any]) -> None:
        """Prepare to merge rows of a table.

        Args:
            table: the table.

        Raises:
            TypeError: the table has no key.
        """
        self.key_of: Callable[[Row], Key] = key_getter(table)
        self.replaces_rows: bool = all(c.merge is Merge.REPLACE for c in value_columns(table))
        self._rules = tuple(column.merge for column in table.columns)
        self._sums = tuple(i for i, rule in enumerate(self._rules) if rule is Merge.SUM)
        self._index = {column.name: i for i, column in enumerate(table.columns)}

    def may_merge(self, old: Row, new: Row) -> bool:
        """Return whether two rows may be merged before they meet the row in the table.

        Args:
            old: a row.
            new: the row of the same key that is written next.
        """
        return all(Merge.SUM.is_associative(old[i], new[i]) for i in self._sums)

    def may_merge_columns(self, old: Mapping[str, Any], new: Row) -> bool:
        """Return whether a row may be merged into the values of some columns.

        Args:
            old: the values of these columns before, by name.
            new: the row that is written next.
        """
        index = self._index
        return all(
            self._rules[index[name]].is_associative(value, new[index[name]])
            for name, value in old.items()
        )

    def merge(self, old: Row, new: Row) -> Row:
        """Return the row that is stored after `new` was written over `old`."""
        return tuple(map(Merge.combine, self._rules, old, new))

    def merge_columns(self, old: Mapping[str, Any], new: Row) -> dict[str, Any]:
        """Return the values of some columns after `new` was written over them.

        Args:
            old: the values of these columns before, by name.
            new: the row that is written.
        """
        merged: dict[str, Any] = {}
        for name, value in old.items():
            i = self._index[name]
            merged[name] = self._rules[i].combine(value, new[i])
        return merged

    def set_columns(self, row: Row, values: Mapping[str, Any]) -> Row:
        """Return a copy of a row with some columns set to these values."""
        changed = list(row)
        for name, value in values.items():
            changed[self._index[name]] = value
        return tuple(changed)

    def replaces(self, columns: Iterable[str]) -> bool:
        """Return whether a later row replaces all of these columns, whatever they hold."""
        return all(self._rules[self._index[name]] is Merge.REPLACE for name in columns)
