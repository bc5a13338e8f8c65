"""The version of the format of forebay's own tables, saved in the table `forebay_format`.

A database without this table has format 1: early versions did not save it.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from forebay._errors import StoreError
from forebay._format import FORMAT, check_format
from forebay.stores.sqlite._statements import in_main

TABLE: Final = in_main("forebay_format")

EXISTS: Final = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = 'forebay_format'"

VERSION: Final = f"SELECT max(version) FROM {TABLE}"

_CREATE: Final = f"CREATE TABLE IF NOT EXISTS {TABLE} (version INTEGER NOT NULL)"

_INSERT: Final = f"INSERT INTO {TABLE} SELECT ? WHERE NOT EXISTS (SELECT 1 FROM {TABLE})"


def create_table(raw: sqlite3.Connection, sql: str) -> None:
    """Create one of forebay's own tables, unless it exists, and save the version of the format.

    Args:
        raw: a connection with an open transaction.
        sql: the statement that creates the table.
    """
    raw.execute(sql)
    raw.execute(_CREATE)
    raw.execute(_INSERT, (FORMAT,))


def check_database_format(raw: sqlite3.Connection, path: str) -> None:
    """Check that this version of forebay can use the database.

    Raises:
        StoreError: a newer version of forebay wrote its tables.
    """
    if raw.execute(EXISTS).fetchone() is not None:
        check_version(raw.execute(VERSION).fetchone()[0], path)


def check_version(version: object, path: str) -> None:
    """Check the result of the query `VERSION`, as `check_database_format` does."""
    try:
        check_format(1 if version is None else version)
    except ValueError as error:
        raise StoreError(f"{path!r} cannot be used: {error}") from None
