"""`Table`: the declaration of a table, from the row type to the merge rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from operator import itemgetter
from typing import Any, Generic, TypeVar

from forebay._table.columns import Column
from forebay._table.declaration import (
    check_columns,
    check_mapping,
    check_table_name,
    declare_column,
    key_names,
)
from forebay._table.defaults import declare_defaults
from forebay._table.indexes import Index, Indexes, declare_indexes
from forebay._table.merge import Merge, Replace
from forebay._table.operations import Key, Row
from forebay._table.row_types import default_values, resolve_annotations
from forebay._table.values import check_value

R = TypeVar("R")


class Table(Generic[R]):
    """The declaration of a table: the type of its rows, its key and its merge rules.

    The fields of the row type are the table's columns, in order. If the table has a `key`, a row
    whose key exists already is merged into the existing row by the `merge` rules. A table without
    a key is append-only: each row written is a new row.

    A column has the name of its field, unless `column_names` has another one. The arguments of
    `Table` and of calls name fields. The attributes of the table, and the entries in errors, have
    the names of columns.

    Attributes:
        name: the table's name in the database, which is also the buffer's name.
        row_type: the class of the rows.
        columns: the columns, in the order of the row type's fields.
        key: the names of the key columns; empty for an append-only table.
        delete_by: the column by whose value rows may be deleted, or None.
        nan_as_null: whether NaN is stored as NULL.
        coalesce: whether entries of the same key are merged before they are written.
        indexes: the indexes of the table, beside that of its key.

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
        indexes: Indexes = (),
        column_names: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
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
                keys. False commits or refuses each entry as if it were executed alone, in the
                order of acceptance, which is slower.
            indexes: the indexes to create with the table: a field, a sequence of fields, or an
                `Index`, which can also be unique or contain only some rows. With
                ``open_sqlite(..., alter=True)`` they are added to a table that exists.
            column_names: the names of columns in the database, by field, where they differ: a
                field cannot have the name of a Python keyword, nor contain a space.
            defaults: values of the row type's fields, by field. A row has the default if another
                program inserts it without the column, or if the column was added later by
                ``open_sqlite(..., alter=True)``. A column that `defaults` does not name has the
                default of its field, if that is a constant that can be stored. None means that it
                has no default. Rows that a buffer writes have a value in each column.

        Raises:
            TypeError: SQLite cannot store values of an annotated type, `row_type` is not such a
                class, a merge rule does not fit the type of its column, or another argument has a
                wrong type.
            ValueError: a name is empty, reserved, duplicate or unknown, a merge rule can have no
                effect, or a default cannot be stored.
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
            indexes=indexes,
            column_names={} if column_names is None else column_names,
            defaults={} if defaults is None else defaults,
            of_row_type=default_values(row_type),
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
        indexes: Indexes = (),
        defaults: Mapping[str, Any] | None = None,
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
            indexes: as for `Table`.
            defaults: as for `Table`.

        Raises:
            TypeError: SQLite cannot store values of a type, or a merge rule or a default does not
                fit it.
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
            indexes=indexes,
            column_names={},
            defaults={} if defaults is None else defaults,
            of_row_type={},
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
        indexes: Indexes,
        column_names: Mapping[str, str],
        defaults: Mapping[str, Any],
        of_row_type: Mapping[str, Any],
    ) -> None:
        self.name: str = check_table_name(name)
        self.row_type: type[R] = row_type
        if not annotations:
            raise ValueError(
                f"table {name!r} has no columns, since its row type has no fields; "
                f"declare at least one"
            )
        key_fields = () if key is None else key_names(name, key)
        rules = (
            merge
            if isinstance(merge, Mapping)
            else {field: merge for field in annotations if field not in key_fields}
        )
        check_mapping(name, "column_names", column_names, annotations)
        columns = tuple(
            declare_column(
                name,
                field,
                annotation,
                rules.get(field, Replace),
                name=column_names.get(field, field),
            )
            for field, annotation in annotations.items()
        )
        check_columns(
            name,
            columns,
            key=None if key is None else key_fields,
            rules=rules,
            delete_by=delete_by,
        )
        self.columns: tuple[Column, ...] = declare_defaults(
            name,
            columns,
            key=key_fields,
            declared=defaults,
            of_row_type=of_row_type,
            nan_as_null=nan_as_null,
        )
        by_field = {column.field: column for column in self.columns}
        self.key: tuple[str, ...] = tuple(by_field[field].name for field in key_fields)
        self.delete_by: str | None = None if delete_by is None else by_field[delete_by].name
        self.nan_as_null: bool = nan_as_null
        self.coalesce: bool = coalesce
        self.indexes: tuple[Index, ...] = declare_indexes(name, indexes, by_field)

    def stored(self, field: str, value: object) -> str | int | float | bytes | None:
        """Return a value as a column stores it, to bind it to a statement of your own.

        Args:
            field: the name of the row type's field.
            value: a value of the column.

        Raises:
            TypeError: the column does not allow values of this type.
            ValueError: there is no such field, or SQLite cannot store the value.

        Example:
            >>> due = jobs.stored("due", datetime.now(UTC))
            >>> await store.fetch_all("SELECT * FROM jobs WHERE due < ?", [due], table=jobs)
        """
        by_field = {column.field: column for column in self.columns}
        if field not in by_field:
            raise ValueError(
                f"table {self.name!r} has no field {field!r}; the fields are {', '.join(by_field)}"
            )
        column = by_field[field]
        stored: Any = check_value(
            column,
            value,
            where=f"table {self.name!r}, column {column.label}",
            nan_as_null=self.nan_as_null,
            in_key=column.name in self.key,
        )
        return int(stored) if type(stored) is bool else stored

    def __repr__(self) -> str:
        key = f"key {', '.join(self.key)}" if self.key else "append-only"
        return f"<forebay.Table {self.name!r} of {self.row_type.__name__}, {key}>"


def is_coalesced(table: Table[Any]) -> bool:
    """Return whether entries of the same key are merged before they are written."""
    return bool(table.key) and table.coalesce


def value_columns(table: Table[Any]) -> tuple[Column, ...]:
    """Return the columns of a table that are not part of its key."""
    return tuple(column for column in table.columns if column.name not in table.key)


def select_columns(table: Table[Any], names: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns with these names, in the order of the names."""
    by_name = {column.name: column for column in table.columns}
    return tuple(by_name[name] for name in names)


def table_of_stored_values(table: Table[Any]) -> Table[Row]:
    """Return the declaration of a table whose rows are tuples of stored values.

    Its fields have the names of the columns, as entries have them.
    """
    stored: Table[Row] = copy(table)
    stored.row_type = tuple
    stored.columns = tuple(
        replace(
            column,
            field=column.name,
            type=replace(column.type, accepts=column.type.stored, codec=None),
        )
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
