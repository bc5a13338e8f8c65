"""`Table`: the declaration of a table, from the row type to the merge rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from operator import itemgetter
from typing import Any, Generic, TypeVar

from forebay._table.columns import Column, resolve_annotations
from forebay._table.declaration import (
    check_columns,
    check_table_name,
    declare_column,
    key_names,
)
from forebay._table.merge import Merge, Replace
from forebay._table.operations import Key, Row

R = TypeVar("R")


class Table(Generic[R]):
    """The declaration of a table: the type of its rows, its key and its merge rules.

    The fields of the row type are the table's columns, in order. If the table has a `key`, a row
    whose key exists already is merged into the existing row by the `merge` rules. A table without
    a key is append-only: each row written is a new row.

    Attributes:
        name: the table's name in the database, which is also the buffer's name.
        row_type: the class of the rows.
        columns: the columns, in the order of the row type's fields.
        key: the names of the key columns; empty for an append-only table.
        delete_by: the column by whose value rows may be deleted, or None.
        nan_as_null: whether NaN is stored as NULL.
        coalesce: whether entries of the same key are merged before they are written.

    Example:
        >>> from typing import NamedTuple
        >>> class Hit(NamedTuple):
        ...     url: str
        ...     count: int
        ...     first_seen: float
        >>> Table(Hit, name="hits", key="url", merge={"count": Sum, "first_seen": Min})
        <forebay.Table 'hits' of Hit, key url>
    """

    def __init__(
        self,
        row_type: type[R],
        *,
        name: str,
        key: str | Sequence[str] | None = None,
        merge: Merge | Mapping[str, Merge] = Replace,
        delete_by: str | None = None,
        nan_as_null: bool = False,
        coalesce: bool = True,
    ) -> None:
        """Declare a table.

        Args:
            row_type: a NamedTuple, dataclass, attrs class or msgspec Struct. Each field is
                annotated with str, int, float, bytes or bool, or with a union of these and None.
            name: the table's name in the database. The buffer has the same name.
            key: the column, or columns, that a UNIQUE constraint of the table covers; None for
                an append-only table. A key column has exactly one type and never allows None.
            merge: what a later row does to an earlier one with the same key: one rule for all
                columns outside the key, or a mapping of rules by column. A column that the mapping
                does not name has the rule `Replace`.
            delete_by: one more column by whose value rows may be deleted.
            nan_as_null: what to do with NaN, which SQLite would store as NULL. False refuses NaN
                when a row is enqueued; True stores it as None.
            coalesce: whether entries of the same key are merged into one operation before they are
                written. The table then sees only the result: a row that it would have refused (by
                a CHECK, a trigger, …) is not refused if a later entry of its key was merged into
                it, and its values take part in the merge. Rows are written in the order of their
                keys. False executes each entry on its own, in the order of acceptance, which is
                slower.

        Raises:
            TypeError: SQLite cannot store values of an annotated type, `row_type` is not such a
                class, or a merge rule does not fit the type of its column.
            ValueError: a name is empty, reserved, duplicate or unknown, or a merge rule can have
                no effect.
        """
        self._declare(
            row_type,
            resolve_annotations(row_type),
            name=name,
            key=key,
            merge=merge,
            delete_by=delete_by,
            nan_as_null=nan_as_null,
            coalesce=coalesce,
        )

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Any],
        *,
        name: str,
        key: str | Sequence[str] | None = None,
        merge: Merge | Mapping[str, Merge] = Replace,
        delete_by: str | None = None,
        nan_as_null: bool = False,
        coalesce: bool = True,
    ) -> Table[tuple[Any, ...]]:
        """Declare a table whose columns are known only at run time.

        The table's rows are plain tuples with one value per column.

        Args:
            columns: the type of each column by the column's name, in order. A name may contain
                every character that SQLite allows in a name.
            name: as for `Table`.
            key: as for `Table`.
            merge: as for `Table`.
            delete_by: as for `Table`.
            nan_as_null: as for `Table`.
            coalesce: as for `Table`.

        Raises:
            TypeError: SQLite cannot store values of a type, or a merge rule does not fit it.
            ValueError: as for `Table`.
        """
        table: Table[tuple[Any, ...]] = Table.__new__(Table)
        table._declare(  # a second constructor
            tuple,
            columns,
            name=name,
            key=key,
            merge=merge,
            delete_by=delete_by,
            nan_as_null=nan_as_null,
            coalesce=coalesce,
        )
        return table

    def _declare(
        self,
        row_type: type[R],
        annotations: Mapping[str, Any],
        *,
        name: str,
        key: str | Sequence[str] | None,
        merge: Merge | Mapping[str, Merge],
        delete_by: str | None,
        nan_as_null: bool,
        coalesce: bool,
    ) -> None:
        self.name: str = check_table_name(name)
        self.row_type: type[R] = row_type
        if not annotations:
            raise ValueError(
                f"table {name!r} has no columns, since its row type has no fields; "
                f"declare at least one"
            )
        self.key: tuple[str, ...] = () if key is None else key_names(name, key)
        self.delete_by: str | None = delete_by
        self.nan_as_null: bool = nan_as_null
        self.coalesce: bool = coalesce
        rules = (
            merge
            if isinstance(merge, Mapping)
            else {column: merge for column in annotations if column not in self.key}
        )
        self.columns: tuple[Column, ...] = tuple(
            declare_column(name, column, annotation, rules.get(column, Replace))
            for column, annotation in annotations.items()
        )
        check_columns(
            name,
            self.columns,
            key=None if key is None else self.key,
            rules=rules,
            delete_by=delete_by,
        )

    def __repr__(self) -> str:
        key = f"key {', '.join(self.key)}" if self.key else "append-only"
        return f"<forebay.Table {self.name!r} of {self.row_type.__name__}, {key}>"


def value_columns(table: Table[Any]) -> tuple[Column, ...]:
    """Return the columns of a table that are not part of its key."""
    return tuple(column for column in table.columns if column.name not in table.key)


def select_columns(table: Table[Any], names: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns with these names, in the order of the names."""
    by_name = {column.name: column for column in table.columns}
    return tuple(by_name[name] for name in names)


def table_of_stored_values(table: Table[Any]) -> Table[Row]:
    """Return the declaration of a table whose rows are tuples of stored values."""
    stored: Table[Row] = copy(table)
    stored.row_type = tuple
    stored.columns = tuple(
        replace(column, type=replace(column.type, accepts=column.type.stored, codec=None))
        for column in table.columns
    )
    return stored


def key_getter(table: Table[Any]) -> Callable[[Row], Key]:
    """Return a function that takes a row and returns the row's key.

    Args:
        table: the table.

    Raises:
        TypeError: the table has no key.
    """
    if not table.key:
        raise TypeError(f"table {table.name!r} has no key")
    names = [column.name for column in table.columns]
    return itemgetter(*map(names.index, table.key))
