"""Build the SQL that creates tables, columns and indexes as they are declared. Pure.

These statements are executed, and error messages show them to people. So the names of tables have
no schema: SQLite creates all of it in the file.
"""

from __future__ import annotations

import math
from typing import Any, Final

from forebay._table.columns import Column
from forebay._table.indexes import Index
from forebay._table.table import Table
from forebay.stores.sqlite._statements import quoted, quoted_list

_SQL_TYPES: Final = {str: "TEXT", int: "INTEGER", float: "REAL", bytes: "BLOB", None: ""}


def create_sql(table: Table[Any], *, strict: bool = False) -> str:
    """Return the SQL that creates a table as declared, if no table of its name exists.

    Args:
        table: the table.
        strict: whether it is a STRICT table. Its columns of several types have the type ANY.
    """
    lines = [column_sql(column, strict=strict) for column in table.columns]
    if table.key:
        lines.append(f"PRIMARY KEY ({quoted_list(table.key)})")
    body = ",\n    ".join(lines)
    options = " STRICT" if strict else ""
    return f"CREATE TABLE IF NOT EXISTS {quoted(table.name)} (\n    {body}\n){options}"


def create_index_sql(table: Table[Any], index: Index) -> str:
    """Return the SQL that creates an index of a table."""
    unique = "UNIQUE " if index.unique else ""
    where = "" if index.where is None else f" WHERE {index.where}"
    return (
        f"CREATE {unique}INDEX {quoted(index.name)} ON {quoted(table.name)} "
        f"({quoted_list(index.columns)}){where}"
    )


def add_column_sql(table: Table[Any], column: Column, *, strict: bool) -> str:
    """Return the SQL that adds a column to a table.

    Args:
        table: the table.
        column: the column. If it can have no value in the rows that exist, the SQL adds it
            without NOT NULL.
        strict: whether the table is a STRICT table.
    """
    definition = column_sql(column, strict=strict, may_be_null=not can_be_added(column))
    return f"ALTER TABLE {quoted(table.name)} ADD COLUMN {definition}"


def can_be_added(column: Column) -> bool:
    """Return whether the rows that exist can have a value that the column allows."""
    return column.nullable or column.default is not None


def column_sql(column: Column, *, strict: bool, may_be_null: bool = False) -> str:
    """Return the SQL that declares a column.

    Args:
        column: the column.
        strict: whether the table is a STRICT table.
        may_be_null: whether the column may be NULL although the declaration does not allow it.
    """
    sql_type = _SQL_TYPES[column.storage] or ("ANY" if strict else "")
    return " ".join(
        [
            quoted(column.name),
            *([sql_type] if sql_type else []),
            *([] if column.nullable or may_be_null else ["NOT NULL"]),
            *([] if column.default is None else [f"DEFAULT {literal(column.default)}"]),
        ]
    )


def literal(value: str | float | bytes) -> str:
    """Return a value as SQL. A text has no NUL character: see `declare_defaults`."""
    match value:
        case str():
            return "'" + value.replace("'", "''") + "'"
        case bytes():
            return f"X'{value.hex()}'"
        case float() if math.isinf(value):
            return "9e999" if value > 0 else "-9e999"
        case _:
            return repr(value + 0)  # a bool becomes an int
