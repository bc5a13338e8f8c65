"""Read rows by their keys, together with the position of the buffer that writes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from forebay._table.operations import Key, Row
from forebay._table.table import Table, key_getter, select_columns
from forebay.stores import StoredRows
from forebay.stores.sqlite._positions import EXISTS as POSITIONS_EXIST
from forebay.stores.sqlite._positions import TABLE as POSITIONS
from forebay.stores.sqlite._statements import existing_value, in_main, placeholders, quoted

_KEYS_PER_STATEMENT: Final = (1, 5, 20, 100, 500)
"""The numbers of keys that a statement may have, so that SQLite can reuse prepared statements."""


def read_rows(
    raw: sqlite3.Connection,
    table: Table[Any],
    keys: Sequence[Key],
    stream: str,
    variables: int,
    *,
    saved: bool,
) -> StoredRows:
    """Read the rows with these keys and the position of a buffer, as of one moment.

    Args:
        raw: a connection without an open transaction.
        table: the table, which has a key.
        keys: at least one key.
        stream: the unique id of the buffer.
        variables: the largest number of parameters that a statement may have.
        saved: whether the buffer is known to have saved its position.

    Raises:
        sqlite3.Error: the error of SQLite.
    """
    width = len(table.key)
    limit = max(1, min(_KEYS_PER_STATEMENT[-1], (variables - 1) // width))
    if len(keys) <= limit:
        rows, position = _read(raw, table, keys, stream, saved=saved)
        return StoredRows(rows, position)
    rows = {}
    position = 0
    # SQLite's transaction, and so the moment, lasts as long as a statement has rows left.
    with closing(raw.execute("SELECT 1 FROM main.sqlite_schema UNION ALL SELECT 1")):
        for start in range(0, len(keys), limit):
            part, position = _read(raw, table, keys[start : start + limit], stream, saved=saved)
            rows.update(part)
    return StoredRows(rows, position)


def _read(
    raw: sqlite3.Connection, table: Table[Any], keys: Sequence[Key], stream: str, *, saved: bool
) -> tuple[dict[Key, Row], int]:
    size = next((size for size in _KEYS_PER_STATEMENT if size >= len(keys)), len(keys))
    padded = [*keys, *[keys[-1]] * (size - len(keys))]  # a key may occur any number of times
    flat = list(chain.from_iterable(padded)) if len(table.key) > 1 else padded
    found = _fetch(raw, table, size, stream, flat, saved=saved)
    key_of = key_getter(table)
    rows = (tuple(row) for _, exists, *row in found if exists)
    return {key_of(row): row for row in rows}, found[0][0] or 0


def _fetch(
    raw: sqlite3.Connection,
    table: Table[Any],
    size: int,
    stream: str,
    keys: Sequence[Any],
    *,
    saved: bool,
) -> list[tuple[Any, ...]]:
    while True:
        # The first batch of the first buffer creates the table of the positions. As long as it
        # does not exist, the file has no entry of this buffer.
        if saved or _has_positions(raw):
            with closing(raw.execute(_read_sql(table, size, _POSITION), (stream, *keys))) as cursor:
                return cursor.fetchall()
        with closing(raw.execute(_read_sql(table, size, "0"), keys)) as cursor:
            found = cursor.fetchall()
        if not _has_positions(raw):
            return found


def _has_positions(raw: sqlite3.Connection) -> bool:
    return raw.execute(POSITIONS_EXIST).fetchone() is not None


_POSITION: Final = f"(SELECT position FROM {POSITIONS} WHERE stream = ?)"


@lru_cache(maxsize=4096)
def _read_sql(table: Table[Any], keys: int, position: str) -> str:
    """Return the SQL for a row per key: the position, whether the row exists, its columns.

    Args:
        table: the table.
        keys: the number of keys.
        position: the SQL for the position.
    """
    names = ", ".join(f"old.{quoted(column.name)}" for column in table.columns)
    # SQLite names the columns of VALUES column1, column2, …
    match = " AND ".join(
        f"{existing_value(column)} = wanted.column{i}"
        for i, column in enumerate(select_columns(table, table.key), start=1)
    )
    return (
        f"SELECT {position}, old.{quoted(table.key[0])} IS NOT NULL, {names} "
        f"FROM (VALUES {placeholders(keys, len(table.key))}) AS wanted "
        f"LEFT JOIN {in_main(table.name)} AS old ON {match}"
    )
