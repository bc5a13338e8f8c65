"""The tables of a spool: the SQL that adds, merges, reads and deletes what waits to be delivered.

A spool is a SQLite file. Each row of `forebay_spool` is one INSERT: its statement, its bytes, and
the token by which the server recognises it. The token and the bytes never change once `sent` is 1.
The functions that write run in an open transaction.
"""

from __future__ import annotations

import secrets
import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from forebay._errors import StoreError
from forebay._format import SPOOL_ID
from forebay.stores.sqlite._format_table import check_database_format, create_table

# AUTOINCREMENT: a sequence is never used again, except after a power cut. So nothing is derived
# from it that a server remembers.
_SPOOL: Final = """\
CREATE TABLE IF NOT EXISTS main.forebay_spool (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    place INTEGER NOT NULL,        -- the order in which the blocks of a table are sent
    buffer TEXT NOT NULL,          -- the name of the table
    bytes INTEGER NOT NULL,        -- the size of the block without compression
    entries INTEGER NOT NULL,      -- its rows
    spooled_at REAL NOT NULL,      -- of its oldest row; Unix seconds, UTC
    sent INTEGER NOT NULL,         -- 1 once it may have reached the server
    in_doubt INTEGER NOT NULL,     -- 1 once it was sent and no answer came
    is_part INTEGER NOT NULL,      -- 1 for a part of a block that the server refused
    attempts INTEGER NOT NULL,
    error_code TEXT,               -- of the last attempt
    token TEXT NOT NULL,           -- by which the server recognises the block
    compression TEXT NOT NULL,     -- of the block: zstd, gzip or none
    statement TEXT NOT NULL,       -- INSERT INTO … FORMAT Native
    layout TEXT NOT NULL,          -- where the columns are in the block, as JSON
    error TEXT,                    -- of the last attempt
    checksum INTEGER,              -- CRC-32 of the block; NULL if an early version wrote it
    block BLOB NOT NULL            -- last: SQLite reads it to find the columns after it
)"""

_INDEX: Final = (
    "CREATE INDEX IF NOT EXISTS main.forebay_spool_buffer ON forebay_spool (buffer, place)"
)

# How much waits. To count it anew takes a third of a second after an outage with small blocks.
_SIZES: Final = """\
CREATE TABLE IF NOT EXISTS main.forebay_spool_sizes (
    buffer TEXT PRIMARY KEY NOT NULL,
    blocks INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    bytes INTEGER NOT NULL         -- of the blocks in the file
)"""

_ADD_SIZE: Final = """
    INSERT INTO forebay_spool_sizes VALUES (new.buffer, 1, new.entries, length(new.block))
        ON CONFLICT (buffer) DO UPDATE SET blocks = blocks + 1,
        entries = entries + excluded.entries, bytes = bytes + excluded.bytes;"""
_SUBTRACT_SIZE: Final = """
    UPDATE forebay_spool_sizes SET blocks = blocks - 1, entries = entries - old.entries,
        bytes = bytes - length(old.block) WHERE buffer = old.buffer;"""

_SIZE_TRIGGERS: Final = tuple(
    f"CREATE TRIGGER IF NOT EXISTS main.forebay_spool_{name} AFTER {name} {columns}"
    f"ON forebay_spool BEGIN{statements}\nEND"
    for name, columns, statements in (
        ("insert", "", _ADD_SIZE),
        ("delete", "", _SUBTRACT_SIZE),
        ("update", "OF entries, block ", _SUBTRACT_SIZE + _ADD_SIZE),
    )
)

# For a spool that was written before this table existed.
_COUNT: Final = """\
INSERT INTO main.forebay_spool_sizes
    SELECT buffer, count(*), sum(entries), sum(length(block)) FROM main.forebay_spool
    WHERE NOT EXISTS (SELECT 1 FROM main.forebay_spool_sizes) GROUP BY buffer"""

# What is needed to encode batches while the server does not answer.
_TABLES: Final = """\
CREATE TABLE IF NOT EXISTS main.forebay_spool_tables (
    buffer TEXT PRIMARY KEY NOT NULL,
    declaration TEXT NOT NULL,     -- the table as the program declared it, as JSON
    types TEXT NOT NULL,           -- the types of its columns in the server, as JSON
    has_views INTEGER NOT NULL,    -- 1 if views or shards get parts of what is inserted
    version INTEGER NOT NULL       -- the last version that was given to a row
)"""

_TARGET: Final = """\
CREATE TABLE IF NOT EXISTS main.forebay_spool_target (
    server TEXT NOT NULL,          -- scheme, host and port
    database TEXT NOT NULL
)"""

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


def check_spool(raw: sqlite3.Connection, path: str) -> None:
    """Check that a file is a spool, or empty.

    Raises:
        StoreError: it is another database, or was written by a newer version of forebay.
    """
    [tables] = raw.execute("SELECT count(*) FROM main.sqlite_schema").fetchone()
    [application_id] = raw.execute("PRAGMA main.application_id").fetchone()
    if application_id != SPOOL_ID and (tables or application_id):
        raise StoreError(
            f"{path!r} is not a spool, but another SQLite database; pass the path of a new file"
        )
    check_database_format(raw, path)


def create_tables(raw: sqlite3.Connection, path: str, server: str, database: str) -> None:
    """Create the tables of a spool unless they exist, and check for which server it is.

    Raises:
        StoreError: what waits in it is for another server or database.
    """
    raw.execute(f"PRAGMA main.application_id = {SPOOL_ID}")
    for statement in (_SPOOL, _INDEX, _SIZES, *_SIZE_TRIGGERS, _TABLES, _TARGET):
        create_table(raw, statement)
    raw.execute(_COUNT)
    names = raw.execute("SELECT name FROM pragma_table_info('forebay_spool', 'main')").fetchall()
    if ("checksum",) not in names:
        raw.execute("ALTER TABLE main.forebay_spool ADD COLUMN checksum INTEGER")
    row = raw.execute("SELECT server, database FROM main.forebay_spool_target").fetchone()
    if row is not None and tuple(row) != (server, database):
        [waiting] = raw.execute("SELECT count(*) FROM main.forebay_spool").fetchone()
        if waiting:
            raise StoreError(
                f"{path!r} has {waiting} blocks for database {row[1]!r} of {row[0]}, not for "
                f"database {database!r} of {server}; let a program with that URL deliver them, or "
                f"pass another file as spool"
            )
        raw.execute("DELETE FROM main.forebay_spool_tables")
    raw.execute("DELETE FROM main.forebay_spool_target")
    raw.execute("INSERT INTO main.forebay_spool_target VALUES (?, ?)", (server, database))


def new_token() -> str:
    """Return a token that no other block has."""
    return secrets.token_hex(16)


ROOM: Final = 1 << 20
"""The places from a block to the next one: more than it has rows, each of which may become a part
of its own (`MAX_ROWS`)."""

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
