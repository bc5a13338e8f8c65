"""Open a spool, and own it: two programs would send each block twice."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import trio

from forebay import sqlite
from forebay._errors import StoreError
from forebay._protection import run_to_end
from forebay.stores.clickhouse import _spool_table as rows
from forebay.stores.clickhouse._spool import Spool, Synchronous
from forebay.stores.clickhouse._spool_schema import check_spool, create_tables
from forebay.stores.sqlite._errors import SQLITE_ERRORS, store_errors
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
        try:
            connection = await sqlite.Connection.open(
                path,
                pragmas={"synchronous": synchronous},
                configure=partial(check_spool, path=path),
            )
        except SQLITE_ERRORS as error:
            raise StoreError(f"the spool {path!r} cannot be opened: {error}") from error
        try:
            with store_errors(path):
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
