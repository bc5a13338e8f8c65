"""The table of dead letters: operations that SQLite refused, beside the tables that refused them.

What is here runs in the writer's thread, in a transaction that is open: so a bad row leaves its
table's batch and reaches the dead letters in one commit.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any, Final

from forebay._letters import encode_declaration, encode_operation, operation_name
from forebay._operations import Operation
from forebay._table import Table

TABLE: Final = "forebay_dead_letters"

# AUTOINCREMENT: the id of a letter that is gone never becomes another's, so a script or a person
# who noted it cannot purge the wrong one.
CREATE: Final = f"""\
CREATE TABLE IF NOT EXISTS {TABLE} (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    buffer TEXT NOT NULL,               -- the name of the table that refused it
    operation TEXT NOT NULL,            -- write, update, delete or delete_by
    entry TEXT NOT NULL,                -- the operation itself, as JSON
    declaration TEXT NOT NULL,          -- the table as the program declared it, as JSON
    error_code TEXT NOT NULL,           -- SQLite's name of the error, or Python's
    error TEXT NOT NULL,
    failed_at REAL NOT NULL,            -- Unix seconds, UTC
    attempts INTEGER NOT NULL,
    history TEXT NOT NULL DEFAULT '[]'  -- its earlier failures, oldest first, as JSON
)"""


def insert(
    raw: sqlite3.Connection,
    table: Table[Any],
    operation: Operation,
    *,
    code: str,
    message: str,
    attempts: int,
) -> int:
    """Put an operation into the dead letters.

    Args:
        raw: a connection in an open transaction; the letter, and the table of dead letters
            where there was none, are part of it.
        table: the table that refused the operation.
        operation: what was refused.
        code: the name of the error, such as ``SQLITE_CONSTRAINT_NOTNULL``.
        message: the error's text.
        attempts: how often the operation was tried.

    Returns:
        The id of the letter.

    Raises:
        sqlite3.Error: what SQLite answered.
    """
    raw.execute(CREATE)
    cursor = raw.execute(
        f"INSERT INTO {TABLE}"
        " (buffer, operation, entry, declaration, error_code, error, failed_at, attempts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            table.name,
            operation_name(operation),
            encode_operation(table, operation),
            encode_declaration(table),
            code,
            storable(message),
            time.time(),
            attempts,
        ),
    )
    [(letter,)] = cursor.fetchall()
    return int(letter)


def storable(text: str) -> str:
    """Give a text that SQLite takes and its shell shows whole: no lone surrogates, no NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
