"""Look at the database before a load, and restore it if the load commits nothing."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from forebay import sqlite
from forebay._table.table import Table
from forebay.cli._errors import LoadError
from forebay.cli._load.target_columns import COMPUTED
from forebay.stores.sqlite._errors import store_errors
from forebay.stores.sqlite._schema import check_table
from forebay.stores.sqlite._statements import in_main, quoted
from forebay.stores.sqlite._waiting import retry_while_locked

_LOCK_TIMEOUT = 30.0
"""Seconds that looking at the database waits for another process's lock."""

# The defaults that are the same for all rows of a load: https://sqlite.org/syntax/column-constraint.html
_LITERAL = re.compile(
    r"[+-]?\s*[0-9.]+(?:[eE][+-]?[0-9]+)?|'(?:[^']|'')*'|[xX]'[0-9a-fA-F]*'"
    r"|(?i:null|true|false|current_time|current_date|current_timestamp)"
)


@dataclass(frozen=True, slots=True)
class ExistingColumn:
    """A column of a table in the database.

    Attributes:
        name: its name.
        declared: its declared type; empty if it has none.
        default: the value for a row that does not name it; None for NULL, or `COMPUTED`.
        may_be_set: whether a row that does not name the column may set it to the default. This is
            false for generated columns, for the primary key, and for NOT NULL without a default.
    """

    name: str
    declared: str
    default: object = None
    may_be_set: bool = True


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """The database before a load.

    Attributes:
        size: the size of the file in bytes; None if it does not exist.
        uses_wal: whether it is in WAL mode.
        columns: the columns of the table by name, in order; empty if it does not exist.
        has_rows: whether the table has rows.
        indexes: the names of its indexes, without those of its constraints.
    """

    size: int | None = None
    uses_wal: bool = False
    columns: dict[str, ExistingColumn] = field(default_factory=dict[str, ExistingColumn])
    has_rows: bool = False
    indexes: frozenset[str] = frozenset()


@asynccontextmanager
async def _open(database: str, **pragmas: int) -> AsyncGenerator[sqlite.Connection, None]:
    # A read-only connection would leave a log and shared memory beside a file in WAL mode.
    with store_errors(database):
        async with sqlite.connect(database, busy_timeout=0.5, pragmas=pragmas) as connection:
            yield connection


async def look_at(database: str, table: str) -> DatabaseState:
    """Return the state of the database and its table, without a change of it.

    Raises:
        StoreError: the file cannot be read.
        LoadError: another process keeps the file locked for reading, or no table can have the name.
    """
    try:
        size = (await trio.Path(database).stat()).st_size
    except FileNotFoundError:
        return DatabaseState()
    try:
        with trio.fail_after(_LOCK_TIMEOUT):
            async with _open(database, query_only=1) as connection:
                return await retry_while_locked(lambda: connection.run(_look_at, table, size))
    except trio.TooSlowError as error:
        raise LoadError(
            f"the database {database!r} stayed locked by another process for {_LOCK_TIMEOUT:g} s; "
            f"end that process or wait for it, and try again"
        ) from error


async def check_table_in(database: str, table: Table[Any]) -> None:
    """Check that an existing table matches its declaration, without a change of the database.

    Raises:
        SchemaError: the table does not match.
        StoreError: the file cannot be read.
    """
    async with _open(database, query_only=1) as connection:
        await retry_while_locked(lambda: connection.run(check_table, table))


def delete_all(raw: sqlite3.Connection, table: str) -> None:
    """Delete the rows of a table."""
    raw.execute(f"DELETE FROM {in_main(table)}")  # noqa: S608  # quoted


async def restore(database: str, table: str, before: DatabaseState) -> None:
    """Undo what opening the database for a load has changed, after a load that committed nothing.

    The table is dropped if it is new and empty; new columns and indexes of an older table are
    dropped. A file that was in another mode than WAL is put back into it. A new file is removed if
    it has no other table.

    Raises:
        StoreError: another process uses the database, or it cannot be written.
    """
    if not await trio.Path(database).exists():
        return
    async with _open(database) as connection:
        await connection.run(_restore, database, table, before)


def _restore(raw: sqlite3.Connection, database: str, table: str, before: DatabaseState) -> None:
    if before.size and _read(raw, table, before.size) == before:
        return
    raw.execute("BEGIN IMMEDIATE")
    now = _read(raw, table, before.size)
    # Rows would be those of another process, or of a COMMIT of which the load knows no outcome.
    if not before.columns and now.columns and not now.has_rows:
        raw.execute(f"DROP TABLE {quoted(table)}")
    elif before.columns:
        for index in now.indexes - before.indexes:
            raw.execute(f"DROP INDEX {quoted(index)}")
        for name in now.columns.keys() - before.columns.keys():
            raw.execute(f"ALTER TABLE {quoted(table)} DROP COLUMN {quoted(name)}")
    raw.execute("COMMIT")
    if before.uses_wal:
        return
    # SQLite leaves WAL mode only if no other connection uses the file.
    if raw.execute("PRAGMA journal_mode = delete").fetchone() != ("delete",):
        raise sqlite3.OperationalError("the database stays in WAL mode")
    if before.size:
        return
    raw.execute("BEGIN EXCLUSIVE")
    if not raw.execute("SELECT 1 FROM sqlite_schema").fetchall():
        file = Path(os.path.realpath(database))
        if before.size is None:
            file.unlink()
        else:
            os.truncate(file, 0)
    raw.execute("ROLLBACK")


def _look_at(raw: sqlite3.Connection, table: str, size: int) -> DatabaseState:
    sql = "SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ? COLLATE NOCASE"
    if raw.execute(sql, (table,)).fetchone() is not None:
        raise LoadError(
            f"the database has an index named {table!r}, so no table can have that name; name "
            f"another one with --table"
        )
    return _read(raw, table, size)


def _read(raw: sqlite3.Connection, table: str, size: int | None) -> DatabaseState:
    [mode] = raw.execute("PRAGMA journal_mode").fetchone()
    columns = {column.name: column for column in _columns(raw, table)}
    indexes = raw.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        " AND tbl_name = ? COLLATE NOCASE",
        (table,),
    ).fetchall()
    sql = f"SELECT EXISTS (SELECT 1 FROM {quoted(table)})"  # noqa: S608  # quoted
    return DatabaseState(
        size,
        mode == "wal",
        columns,
        has_rows=bool(columns) and raw.execute(sql).fetchone() == (1,),
        indexes=frozenset(name for (name,) in indexes),
    )


def _columns(raw: sqlite3.Connection, table: str) -> list[ExistingColumn]:
    rows = raw.execute(f"PRAGMA table_xinfo({quoted(table)})").fetchall()
    return [
        ExistingColumn(
            name,
            declared,
            default := _default(raw, expression),
            may_be_set=not (hidden or in_primary_key or (not_null and default is None)),
        )
        for _, name, declared, not_null, expression, in_primary_key, hidden in rows
    ]


def _default(raw: sqlite3.Connection, expression: str | None) -> object:
    """Return the value of a default, or `COMPUTED` if it may differ from row to row."""
    if expression is None:
        return None
    if not _LITERAL.fullmatch(expression.strip()):
        return COMPUTED
    return raw.execute(f"SELECT {expression}").fetchone()[0]  # a literal, see above
