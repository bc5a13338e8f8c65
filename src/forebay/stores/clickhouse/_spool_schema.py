"""The tables of a spool: how they are created, and how a spool is told from other databases.

A spool is a SQLite file. Each row of `forebay_spool` is one INSERT: its statement, its bytes, and
the token by which the server recognises it. The token and the bytes never change once `sent` is 1.
"""

from __future__ import annotations

import sqlite3
from typing import Final

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
