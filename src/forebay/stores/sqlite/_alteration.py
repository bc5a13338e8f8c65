"""Create the tables that a program declares, and add the columns and indexes that are missing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from forebay._errors import SchemaError
from forebay._table.table import Table
from forebay.stores.sqlite._ddl import (
    add_column_sql,
    can_be_added,
    create_index_sql,
    create_sql,
    literal,
)
from forebay.stores.sqlite._errors import failure_code
from forebay.stores.sqlite._indexes import missing_indexes, read_indexes
from forebay.stores.sqlite._schema import check_kind, is_strict, missing_columns

_OF_THE_STATEMENT: Final = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT})
"""The codes of an error that comes from the declaration, or from the rows of the table."""


def create_tables(
    raw: sqlite3.Connection, tables: Sequence[Table[Any]], *, strict: bool, alter: bool
) -> None:
    """Create tables with their indexes.

    Args:
        raw: a connection with an open transaction.
        tables: the declarations.
        strict: whether new tables are STRICT tables.
        alter: whether to add missing columns and indexes to tables that exist. Nothing else of
            them is changed.

    Raises:
        SchemaError: a column cannot be added, an index cannot be created, or a default cannot be
            written as SQL. The caller must roll the transaction back.
    """
    for table in tables:
        _check_defaults(raw, table)
        if not _exists(raw, table):
            raw.execute(create_sql(table, strict=strict))
            _add_indexes(raw, table)
        elif alter:
            check_kind(raw, table)
            _add_columns(raw, table)
            _add_indexes(raw, table)


def _check_defaults(raw: sqlite3.Connection, table: Table[Any]) -> None:
    """Check that SQLite reads each default back from its SQL.

    Raises:
        SchemaError: it reads one as another number. SQLite's conversion of decimal numbers is not
            exact for about one float in 10,000: https://sqlite.org/floatingpoint.html.
    """
    for column in table.columns:
        if isinstance(column.default, float):
            (read,) = raw.execute(f"SELECT {literal(column.default)}").fetchone()
            if read != column.default:
                raise SchemaError(
                    f"table {table.name!r}, column {column.label}: SQLite reads the default "
                    f"{column.default!r} as {read!r}; declare another default, or none with "
                    f"defaults={{{column.field!r}: None}}",
                    table=table.name,
                )


def _exists(raw: sqlite3.Connection, table: Table[Any]) -> bool:
    query = (
        "SELECT 1 FROM main.sqlite_schema "
        "WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')"
    )
    return raw.execute(query, (table.name,)).fetchone() is not None


def _add_columns(raw: sqlite3.Connection, table: Table[Any]) -> None:
    strict = is_strict(raw, table.name)
    for column in missing_columns(raw, table):
        sql = add_column_sql(table, column, strict=strict)
        if column.name in table.key:
            raise SchemaError(
                f"table {table.name!r} has no column {column.label}, which alter=True cannot add, "
                f"since it is in the key and each row needs its own value; create the table anew "
                f"in a migration",
                table=table.name,
            )
        if not can_be_added(column):
            raise SchemaError(
                f"table {table.name!r} has no column {column.label}, which alter=True cannot add, "
                f"since the rows that exist would have no value: the field does not allow None "
                f"and has no default; declare one of them (a default of the field, or "
                f"Table(…, defaults=…)), or add the column without NOT NULL and set its values",
                table=table.name,
                sql=f"{sql};",
            )
        _execute(raw, table, sql, f"column {column.label} cannot be added")


def _add_indexes(raw: sqlite3.Connection, table: Table[Any]) -> None:
    for index in missing_indexes(raw, table, read_indexes(raw, table.name)):
        _execute(
            raw, table, create_index_sql(table, index), f"index {index.name!r} cannot be created"
        )


def _execute(raw: sqlite3.Connection, table: Table[Any], sql: str, problem: str) -> None:
    """Execute a statement, and convert an error into one that says what cannot be done.

    Raises:
        SchemaError: the statement cannot be executed.
        sqlite3.Error: another error: of the file, or of a lock.
    """
    try:
        raw.execute(sql)
    except sqlite3.Error as error:
        if failure_code(error) not in _OF_THE_STATEMENT:
            raise
        duplicates = isinstance(error, sqlite3.IntegrityError)
        what_to_do = "change or delete the duplicate rows, then" if duplicates else "correct"
        raise SchemaError(
            f"table {table.name!r}: {problem}: {error}; {what_to_do} the declaration, or the SQL",
            table=table.name,
            sql=f"{sql};",
        ) from error
