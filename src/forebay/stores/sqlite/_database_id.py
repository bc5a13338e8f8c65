"""The id of a database, kept in a table of forebay's own, so that a spill can name it."""

from __future__ import annotations

import sqlite3
from typing import Final
from uuid import uuid4

_EXISTS: Final = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'forebay_database'"


def read_id(raw: sqlite3.Connection) -> str | None:
    """Give the id of a database; None where it has none yet."""
    if raw.execute(_EXISTS).fetchone() is None:
        return None
    row = raw.execute("SELECT id FROM forebay_database").fetchone()
    return None if row is None else str(row[0])


def make_id(raw: sqlite3.Connection) -> str:
    """Give the id of a database, and one to a database that has none, in the open transaction."""
    known = read_id(raw)
    if known is not None:
        return known
    made = uuid4().hex
    raw.execute("CREATE TABLE IF NOT EXISTS forebay_database (id TEXT PRIMARY KEY NOT NULL)")
    raw.execute("INSERT INTO forebay_database VALUES (?)", (made,))
    return made
