"""The default of a column, which rows have that were inserted without it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from forebay._table.columns import Column
from forebay._table.declaration import check_mapping
from forebay._table.sqlite_rules import is_sql_text
from forebay._table.values import check_value


def declare_defaults(
    table: str,
    columns: Sequence[Column],
    *,
    key: Collection[str],
    declared: Mapping[str, Any],
    of_row_type: Mapping[str, Any],
    nan_as_null: bool,
) -> tuple[Column, ...]:
    """Return the columns of a table with their defaults.

    Args:
        table: the table's name, for the errors.
        columns: the columns without defaults.
        key: the fields of the key columns, which have no default.
        declared: the defaults that the program passed, by field. None means no default.
        of_row_type: the defaults of the row type's fields. One that cannot be stored, or cannot be
            written as SQL, is left out.
        nan_as_null: whether NaN is stored as NULL.

    Raises:
        TypeError: `declared` is not a mapping, or a column does not allow values of this type.
        ValueError: a field in `declared` is unknown or in the key, or its default cannot be stored.
    """
    check_mapping(table, "defaults", declared, [column.field for column in columns])
    with_defaults: list[Column] = []
    for column in columns:
        field, default = column.field, None
        where = f"table {table!r}, column {column.label}, default"
        if field in declared and field in key:
            raise ValueError(
                f"{where}: a column of the key has no default, since each row has its own key; "
                f"remove the default"
            )
        if declared.get(field) is not None:
            default = _stored(column, declared[field], where, nan_as_null=nan_as_null)
        elif field in of_row_type and field not in declared and field not in key:
            with suppress(TypeError, ValueError):
                default = _stored(column, of_row_type[field], where, nan_as_null=nan_as_null)
        with_defaults.append(replace(column, default=default))
    return tuple(with_defaults)


def _stored(column: Column, value: object, where: str, *, nan_as_null: bool) -> Any:
    stored = check_value(column, value, where=where, nan_as_null=nan_as_null, in_key=False)
    if isinstance(stored, str) and not is_sql_text(stored):
        raise ValueError(
            f"{where}: {stored!r} cannot be part of an SQL statement; use a text without NUL "
            f"characters and lone surrogates"
        )
    return stored
