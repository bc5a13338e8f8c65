"""How far a buffer is committed, noted in the transaction that commits.

When COMMIT fails with an I/O error, the transaction may be in the file or not. To find out, each
transaction that cannot simply be done again (rows appended, values added up, dead letters) leaves
the number of entries settled so far in a table of forebay's own, one row a buffer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

TABLE: Final = "forebay_progress"

_CREATE: Final = f"""CREATE TABLE IF NOT EXISTS {TABLE} (
    stream TEXT PRIMARY KEY,
    buffer TEXT NOT NULL,
    position INTEGER NOT NULL
) WITHOUT ROWID"""


def note(raw: sqlite3.Connection, stream: str, buffer: str, position: int) -> None:
    """Note how many entries of a stream are settled once the open transaction commits."""
    upsert = (
        f"INSERT INTO {TABLE} VALUES (?, ?, ?) "
        f"ON CONFLICT (stream) DO UPDATE SET position = excluded.position"
    )
    raw.execute(_CREATE)
    raw.execute(upsert, (stream, buffer, position))


def position(raw: sqlite3.Connection, stream: str) -> int | None:
    """Read how many entries of a stream are settled; None where it was never noted."""
    raw.execute(_CREATE)
    row = raw.execute(f"SELECT position FROM {TABLE} WHERE stream = ?", (stream,)).fetchone()
    return None if row is None else int(row[0])


def forget(raw: sqlite3.Connection, streams: Iterable[str]) -> None:
    """Remove the notes of streams that have ended."""
    raw.execute(_CREATE)
    for stream in streams:
        raw.execute(f"DELETE FROM {TABLE} WHERE stream = ?", (stream,))
