"""`Table`: which row type goes to which table, by which key, merged by which rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """A table, as a program declares it: the shape of its rows and the rules of its writes.

    The fields of the row type are the table's columns, in order. With a `key`, a row that is
    written while a row with its key is there is merged into it by the `merge` rules. Without
    one the table is append-only: each row written is a row more.

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
            row_type: a NamedTuple, dataclass, attrs class or msgspec Struct whose fields are
                annotated with str, int, float, bytes, bool, or one of these or None.
            name: the table's name in the database; the buffer goes by it too.
            key: the column, or columns, that a UNIQUE constraint of the table covers; None for
                an append-only table. Key columns have exactly one type and are never None.
            merge: what a later row does to an earlier one with its key: one rule for all
                columns outside the key, or a rule by column (`Replace` where none is given).
            delete_by: a further column by whose value rows may be deleted.
            nan_as_null: SQLite holds no NaN, it stores NULL instead. False refuses a NaN where
                it is enqueued; True takes it as None.
            coalesce: whether entries of one key become one operation before they are written.
                The table does not see what was merged, so a row that it would have refused (by a
                CHECK, a trigger, …) is neither refused nor without effect where a later entry of
                its key is merged into it; and rows are written in the order of their keys. False
                executes each entry by itself, in order, at the price of more work for SQLite.

        Raises:
            TypeError: the row type, or an annotation, is nothing that SQLite can hold.
            ValueError: a name is empty, doubled or unknown, or a rule does not fit its column.
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

        Args:
            columns: the type of each column by its name, in order. Any name that SQLite takes
                will do; rows are plain tuples with a value for each column.
            name: as for `Table`.
            key: as for `Table`.
            merge: as for `Table`.
            delete_by: as for `Table`.
            nan_as_null: as for `Table`.
            coalesce: as for `Table`.

        Raises:
            TypeError: a type is nothing that SQLite can hold.
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
            raise ValueError(f"table {name!r} has no columns: its row type has no fields")
        self.key: tuple[str, ...] = () if key is None else key_names(key)
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
