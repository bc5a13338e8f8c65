"""The last committed position of a buffer, saved in the transaction that commits a batch.

Each transaction of a buffer saves the number of entries settled so far in the table
`forebay_progress`, one row per buffer. So whoever reads the file knows which entries it has. When
COMMIT fails with an I/O error, the transaction may be in the file or not: the next attempt looks.
`Buffer.get` reads a row together with the position, and replays only the entries after it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import trio

from forebay.sqlite import Connection
from forebay.stores.sqlite._format_table import create_table
from forebay.stores.sqlite._statements import in_main

TABLE: Final = in_main("forebay_progress")

_CREATE: Final = f"""CREATE TABLE IF NOT EXISTS {TABLE} (
    stream TEXT PRIMARY KEY,
    buffer TEXT NOT NULL,
    position INTEGER NOT NULL
) WITHOUT ROWID"""

EXISTS: Final = (
    "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = 'forebay_progress'"
)

_SAVE: Final = (
    f"INSERT INTO {TABLE} VALUES (?, ?, ?) "
    f"ON CONFLICT (stream) DO UPDATE SET position = excluded.position"
)

_DELETE_TIMEOUT: Final = 1.0
"""The longest wait to delete saved positions when the store closes, in seconds."""


def save_position(
    raw: sqlite3.Connection, stream: str, buffer: str, position: int, *, create: bool
) -> None:
    """Save the number of entries of a stream that are settled when the transaction commits.

    Args:
        raw: a connection with an open transaction.
        stream: the unique id of the buffer.
        buffer: the name of the buffer.
        position: the number of settled entries.
        create: whether to create the table if it does not exist.
    """
    if create:
        create_table(raw, _CREATE)
    raw.execute(_SAVE, (stream, buffer, position))


def load_position(raw: sqlite3.Connection, stream: str) -> int | None:
    """Return the number of settled entries of a stream, or None if it was never saved."""
    create_table(raw, _CREATE)
    row = raw.execute(f"SELECT position FROM {TABLE} WHERE stream = ?", (stream,)).fetchone()
    return None if row is None else int(row[0])


def _delete_positions(raw: sqlite3.Connection, streams: Iterable[str]) -> None:
    create_table(raw, _CREATE)
    for stream in streams:
        raw.execute(f"DELETE FROM {TABLE} WHERE stream = ?", (stream,))


class SavedPositions:
    """The streams whose positions one store saved in its file."""

    def __init__(self, writer: Connection) -> None:
        self._writer = writer
        self._streams: set[str] = set()

    def __contains__(self, stream: str) -> bool:
        return stream in self._streams

    def add(self, stream: str) -> None:
        """Remember that a position of this stream was saved."""
        self._streams.add(stream)

    async def delete(self) -> None:
        """Delete the positions from the file, after all buffers of the store have ended.

        A failure is ignored: a row that stays in the table does no harm.
        """
        if self._streams:
            with trio.move_on_after(_DELETE_TIMEOUT), suppress(sqlite3.Error):
                await self._writer.transaction(_delete_positions, self._streams)
