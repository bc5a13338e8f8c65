"""The id of a database, saved in the table `forebay_database`, so that a spill can name it."""

from __future__ import annotations

import sqlite3
from typing import Final
from uuid import uuid4

from forebay.stores.sqlite._format_table import create_table

_EXISTS: Final = (
    "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = 'forebay_database'"
)


def read_id(raw: sqlite3.Connection) -> str | None:
    """Return the id of a database, or None if it has none."""
    if raw.execute(_EXISTS).fetchone() is None:
        return None
    row = raw.execute("SELECT id FROM main.forebay_database").fetchone()
    return None if row is None else str(row[0])


def create_id(raw: sqlite3.Connection) -> str:
    """Return the id of a database. Create one in the open transaction if it has none."""
    known = read_id(raw)
    if known is not None:
        return known
    created = uuid4().hex
    create_table(
        raw, "CREATE TABLE IF NOT EXISTS main.forebay_database (id TEXT PRIMARY KEY NOT NULL)"
    )
    raw.execute("INSERT INTO main.forebay_database VALUES (?)", (created,))
    return created
