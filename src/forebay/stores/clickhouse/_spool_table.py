"""The SQL that adds, merges, reads and deletes what waits in a spool to be delivered.

The functions that write run in an open transaction.
"""

from __future__ import annotations

import secrets
import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

COLUMNS: Final = (
    "sequence, place, buffer, token, statement, compression, layout, bytes, length(block), entries,"
    " spooled_at, sent, in_doubt, is_part, attempts, error_code, error"
)


class Spooled(NamedTuple):
    """A row of the spool, without its block."""

    sequence: int
    place: int
    buffer: str
    token: str
    statement: str
    compression: str
    layout: str
    bytes: int
    stored_bytes: int
    entries: int
    spooled_at: float
    sent: bool
    in_doubt: bool
    is_part: bool
    attempts: int
    error_code: str | None
    error: str | None


class SpoolSize(NamedTuple):
    """How much waits: for one buffer, or for all.

    Attributes:
        blocks: the number of INSERTs.
        entries: the number of their rows.
        bytes: the size of the blocks in the file, in bytes.
        oldest: when the oldest row was spooled, in Unix seconds; None if nothing waits.
    """

    blocks: int
    entries: int
    bytes: int
    oldest: float | None


EMPTY: Final = SpoolSize(0, 0, 0, None)


class KnownTable(NamedTuple):
    """What the spool knows about a table that was checked."""

    declaration: str
    types: str
    has_views: bool
    version: int


def new_token() -> str:
    """Return a token that no other block has."""
    return secrets.token_hex(16)


ROOM: Final = 1 << 20
"""How far apart the places of two blocks are. A block may be split into as many parts as it has
rows, at most `MAX_ROWS`, and each part needs a place before that of the next block."""

_NEXT_PLACE: Final = f"""(
    SELECT coalesce(max(seq), 0) + 1 FROM main.sqlite_sequence WHERE name = 'forebay_spool'
) * {ROOM}"""


def insert(raw: sqlite3.Connection, values: dict[str, Any], *, place: int | None = None) -> None:
    """Add a block that was never sent.

    Args:
        raw: a connection with an open transaction.
        values: the values of its other columns, by name.
        place: its place; None for the last one.
    """
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    where = _NEXT_PLACE if place is None else ":place"
    raw.execute(
        f"INSERT INTO main.forebay_spool (place, sent, in_doubt, attempts, {names})"
        f" VALUES ({where}, 0, 0, 0, {marks})",
        {**values, "place": place},
    )


def select(raw: sqlite3.Connection, *, buffer: str | None = None, limit: int = -1) -> list[Spooled]:
    """Return the oldest blocks, of one buffer or of all, without their bytes."""
    where = "TRUE" if buffer is None else "buffer = :buffer"
    order = "sequence" if buffer is None else "place"
    rows = raw.execute(
        f"SELECT {COLUMNS} FROM main.forebay_spool WHERE {where} ORDER BY {order} LIMIT :limit",
        {"buffer": buffer, "limit": limit},
    ).fetchall()
    return [_spooled(row) for row in rows]


def _spooled(row: Sequence[Any]) -> Spooled:
    found = Spooled(*row)
    return found._replace(
        sent=bool(found.sent), in_doubt=bool(found.in_doubt), is_part=bool(found.is_part)
    )


def read_block(raw: sqlite3.Connection, sequence: int) -> bytes:
    """Return the bytes of a block.

    Raises:
        ValueError: they are not the bytes that were written.
    """
    [block, checksum] = raw.execute(
        "SELECT block, checksum FROM main.forebay_spool WHERE sequence = ?", (sequence,)
    ).fetchone()
    data = bytes(block)
    if checksum is not None and checksum != zlib.crc32(data):
        raise ValueError(f"block {sequence} is damaged: its bytes are not those that were written")
    return data


def read_damaged_block(raw: sqlite3.Connection, sequence: int) -> bytes:
    """Return the bytes of a block, whatever they are."""
    [block] = raw.execute(
        "SELECT block FROM main.forebay_spool WHERE sequence = ?", (sequence,)
    ).fetchone()
    return bytes(block)


def delete(raw: sqlite3.Connection, sequences: Sequence[int]) -> None:
    """Delete blocks."""
    raw.executemany(
        "DELETE FROM main.forebay_spool WHERE sequence = ?", [(number,) for number in sequences]
    )


def update(raw: sqlite3.Connection, sequence: int, values: dict[str, Any]) -> None:
    """Change columns of a block."""
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    raw.execute(
        f"UPDATE main.forebay_spool SET {assignments} WHERE sequence = :sequence",
        {**values, "sequence": sequence},
    )


def sizes(raw: sqlite3.Connection) -> dict[str, SpoolSize]:
    """Return how much waits, by buffer."""
    buffers = raw.execute("SELECT buffer FROM main.forebay_spool_sizes WHERE blocks > 0").fetchall()
    return {buffer: size_of(raw, buffer) for (buffer,) in buffers}


def size_of(raw: sqlite3.Connection, buffer: str) -> SpoolSize:
    """Return how much of one buffer waits."""
    row = raw.execute(
        "SELECT blocks, entries, bytes, (SELECT spooled_at FROM main.forebay_spool WHERE"
        " buffer = :buffer ORDER BY place LIMIT 1) FROM main.forebay_spool_sizes"
        " WHERE buffer = :buffer",
        {"buffer": buffer},
    ).fetchone()
    return EMPTY if row is None else SpoolSize(*row)


def first_place(raw: sqlite3.Connection, buffer: str) -> int | None:
    """Return the place of the oldest block of a buffer, or None."""
    [found] = raw.execute(
        "SELECT min(place) FROM main.forebay_spool WHERE buffer = ?", (buffer,)
    ).fetchone()
    return None if found is None else int(found)


def last_place(raw: sqlite3.Connection, buffer: str) -> int | None:
    """Return the last place of the newest block of a buffer and its parts, or None."""
    [found] = raw.execute(
        "SELECT max(place) FROM main.forebay_spool WHERE buffer = ?", (buffer,)
    ).fetchone()
    return None if found is None else int(found) + ROOM - 1


def load_table(raw: sqlite3.Connection, buffer: str) -> KnownTable | None:
    """Return what the spool knows about a table, or None."""
    row = raw.execute(
        "SELECT declaration, types, has_views, version FROM main.forebay_spool_tables"
        " WHERE buffer = ?",
        (buffer,),
    ).fetchone()
    return None if row is None else KnownTable(row[0], row[1], bool(row[2]), row[3])


def save_table(
    raw: sqlite3.Connection, buffer: str, *, declaration: str, types: str, has_views: bool
) -> KnownTable:
    """Save what was found out about a table, and return it with its version, which stays."""
    [(version,)] = raw.execute(
        "INSERT INTO main.forebay_spool_tables VALUES (?, ?, ?, ?, 0) ON CONFLICT (buffer)"
        " DO UPDATE SET declaration = excluded.declaration, types = excluded.types,"
        " has_views = excluded.has_views RETURNING version",
        (buffer, declaration, types, has_views),
    ).fetchall()
    return KnownTable(declaration, types, has_views, version)


def save_version(raw: sqlite3.Connection, buffer: str, version: int) -> None:
    """Save the last version that was given to a row of a table."""
    raw.execute(
        "UPDATE main.forebay_spool_tables SET version = ? WHERE buffer = ?", (version, buffer)
    )
