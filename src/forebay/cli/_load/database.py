"""Look at the database before a load, without a change of it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from forebay import sqlite
from forebay.cli._errors import LoadError
from forebay.cli._load.convert import COMPUTED
from forebay.stores.sqlite._errors import store_errors
from forebay.stores.sqlite._statements import quoted
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


@asynccontextmanager
async def _open(database: str) -> AsyncGenerator[sqlite.Connection, None]:
    # A read-only connection would leave a log and shared memory beside a file in WAL mode.
    with store_errors(database):
        async with sqlite.connect(database, pragmas={"query_only": 1}) as connection:
            yield connection


async def existing_columns(database: str, table: str) -> dict[str, ExistingColumn]:
    """Return the columns of a table by name, in order; nothing if the table does not exist.

    If this is cancelled, nothing has changed.

    Raises:
        StoreError: the file cannot be read.
        LoadError: another process has locked the file for reading.
    """
    if not await trio.Path(database).exists():
        return {}
    try:
        with trio.fail_after(_LOCK_TIMEOUT):
            async with _open(database) as connection:
                columns = await retry_while_locked(lambda: connection.run(_columns, table))
    except trio.TooSlowError as error:
        raise LoadError(
            f"the database {database!r} stayed locked by another process for {_LOCK_TIMEOUT:g} s; "
            f"end that process or wait for it, and try again"
        ) from error
    return {column.name: column for column in columns}


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
