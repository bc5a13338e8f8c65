"""Open a spool, and own it: two programs would send each block twice."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import trio

from forebay import sqlite
from forebay._errors import StoreError
from forebay._protection import run_to_end
from forebay.stores.clickhouse import _spool_table as rows
from forebay.stores.clickhouse._spool import Spool, Synchronous
from forebay.stores.clickhouse._spool_schema import check_spool, create_tables
from forebay.stores.sqlite._errors import SQLITE_ERRORS, code_name, failure_code
from forebay.stores.sqlite._files import DatabaseFiles, use_wal


@asynccontextmanager
async def open_spool(
    path: str,
    *,
    server: str,
    database: str,
    compression: str,
    synchronous: Synchronous,
    limit: int,
) -> AsyncGenerator[Spool, None]:
    """Open a spool for the time of an `async with` block, and own it.

    Args:
        path: the path of the file, absolute. A new file is readable by its owner only.
        server: scheme, host and port of the server for which it is.
        database: the database.
        compression: the compression of new blocks.
        synchronous: when a commit waits for the disk.
        limit: how many bytes may wait.

    Yields:
        The spool.

    Raises:
        StoreError: another program owns the file, it is not a spool, it is for another server, or
            it cannot be used.
        OSError: the file cannot be created.
    """
    owned = await trio.to_thread.run_sync(lock_spool, path)
    try:
        with _opening_errors(path):
            connection = await sqlite.Connection.open(
                path,
                pragmas={"synchronous": synchronous},
                configure=partial(check_spool, path=path),
            )
        try:
            with _opening_errors(path):
                await connection.run(use_wal, path)
                await connection.transaction(create_tables, path, server, database)
                sizes = await connection.run(rows.sizes)
            yield Spool(
                path,
                connection,
                DatabaseFiles(path, wal_warning=1 << 40),
                compression=compression,
                synchronous=synchronous,
                limit=limit,
                sizes=sizes,
            )
        finally:
            await run_to_end(connection.aclose)
    finally:
        os.close(owned)


_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


@contextmanager
def _opening_errors(path: str) -> Generator[None, None, None]:
    """Raise SQLite's errors as StoreError, with what to do about a damaged file."""
    try:
        yield
    except SQLITE_ERRORS as error:
        advice = ""
        if failure_code(error) in _DAMAGED:
            advice = (
                f"; to read what is left of it, run `sqlite3 {path} .recover`. To start with an "
                f"empty spool, move the file and those with -wal and -shm away: what waits in it "
                f"is not delivered then"
            )
        raise StoreError(
            f"the spool {path!r} cannot be opened: {error} ({code_name(error)}){advice}"
        ) from error


def lock_spool(path: str) -> int:
    """Take the ownership of a spool, and return the descriptor that holds it.

    The lock is on a file of its own: to close any descriptor of a database loses SQLite's locks.

    Raises:
        StoreError: another program owns the spool.
        OSError: the lock cannot be created.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(f"{path}.lock", flags, 0o600)
    except FileNotFoundError as error:
        text = "the folder of the spool does not exist; create it"
        raise FileNotFoundError(error.errno, text, os.path.dirname(path)) from None  # noqa: PTH120
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise
        raise StoreError(
            f"another program uses the spool {path!r}; each program needs a spool of its own, so "
            f"end that program, or pass another file"
        ) from None
    return descriptor
