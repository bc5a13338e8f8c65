"""Read a spool, or change one that no program uses."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

import click
import trio

from forebay._errors import ForebayError, StoreError
from forebay._table.json_format import decode_declaration, encode_operation
from forebay.cli._failures import Failed, Interrupted, check_database, describe_os_error
from forebay.stores.clickhouse import _spool_table as rows
from forebay.stores.clickhouse._compression import decompress
from forebay.stores.clickhouse._encoder import BlockEncoder
from forebay.stores.clickhouse._native import Block
from forebay.stores.clickhouse._spool_opening import lock_spool
from forebay.stores.clickhouse._spool_schema import check_spool
from forebay.stores.clickhouse._spool_table import Spooled, SpoolSize
from forebay.stores.sqlite._errors import SQLITE_ERRORS
from forebay.stores.sqlite._inspector import open_inspector

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

spool_argument = click.argument("spool", metavar="SPOOL", type=click.Path())

_LOCK_TIMEOUT = 5.0
"""Seconds to wait for a program with an exclusive lock on the file."""


@dataclass(frozen=True)
class Contents:
    """What is in a spool.

    Attributes:
        server: scheme, host and port of the server for which it is.
        database: the database.
        sizes: how much waits, by table.
        blocks: the blocks that wait, oldest first.
    """

    server: str
    database: str
    sizes: dict[str, SpoolSize]
    blocks: list[Spooled]


class DamagedBlockError(StoreError):
    """The rows of a block cannot be read."""


@contextmanager
def failures() -> Generator[None, None, None]:
    """Convert the errors that a user can understand.

    Raises:
        Failed: instead of such an error.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted") from error
    except OSError as error:
        raise Failed(describe_os_error(error)) from error
    except (ForebayError, *SQLITE_ERRORS) as error:
        raise Failed(str(error)) from error


def inspect(path: str, fn: Callable[[sqlite3.Connection, *Ts], T], *arguments: *Ts) -> T:
    """Call a function with a connection that only reads, while a program may use the spool.

    Raises:
        Failed: the file cannot be read, or is no spool.
    """

    async def read() -> T:
        async with open_inspector(path, busy_timeout=_LOCK_TIMEOUT) as inspector:
            await inspector.run(check_spool, path)
            return await inspector.run(fn, *arguments)

    check_database(path)
    with failures():
        return trio.run(read)


@contextmanager
def owned(path: str) -> Generator[sqlite3.Connection, None, None]:
    """Own a spool that no program uses, for the time of a block.

    Raises:
        Failed: a program uses it, or it cannot be written.
    """
    inspect(path, lambda _: None)
    with failures():
        lock = lock_spool(os.path.realpath(path))
        try:
            with closing(sqlite3.connect(path, isolation_level=None)) as raw:
                yield raw
        finally:
            os.close(lock)


def read_contents(raw: sqlite3.Connection, limit: int) -> Contents:
    """Return what is in a spool.

    Args:
        raw: a connection.
        limit: how many blocks to return at most; -1 for all.

    Raises:
        StoreError: the file does not say for which server it is.
    """
    target = raw.execute("SELECT server, database FROM main.forebay_spool_target").fetchone()
    if target is None:
        raise StoreError("the spool does not say for which server it is")
    server, database = target
    return Contents(server, database, rows.sizes(raw), rows.select(raw, limit=limit))


def read_rows(raw: sqlite3.Connection, block: Spooled) -> list[str]:
    """Return the operations in a block as JSON.

    Raises:
        DamagedBlockError: the block is damaged.
        StoreError: the spool does not have the declaration of its table.
    """
    known = rows.load_table(raw, block.buffer)
    if known is None:
        raise StoreError(f"the spool does not have the declaration of table {block.buffer!r}")
    table = decode_declaration(known.declaration)
    try:
        body = decompress(rows.read_block(raw, block.sequence), block.compression)
        found = Block.from_bytes(body, block.layout)
        encoder = BlockEncoder(table, "", json.loads(known.types), stored=True).of_block(found)
        operations = encoder.decode(found)
    except ValueError as error:
        raise DamagedBlockError(f"block {block.sequence} cannot be read: {error}") from error
    return [encode_operation(table, operation) for operation in operations]


def select_blocks(raw: sqlite3.Connection, ids: Sequence[int], table: str | None) -> list[Spooled]:
    """Return the blocks with these ids, or of a table, or all.

    Raises:
        Failed: there is no block with one of the ids.
    """
    blocks = rows.select(raw, buffer=table)
    if not ids:
        return blocks
    missing = set(ids) - {block.sequence for block in blocks}
    if missing:
        raise Failed(f"there is no block {', '.join(map(str, sorted(missing)))}")
    return [block for block in blocks if block.sequence in ids]
