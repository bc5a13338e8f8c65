"""Open a SQLite file as a store: check the arguments, use WAL, create tables, close at the end."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import trio

from forebay import sqlite
from forebay._errors import StoreError
from forebay._protection import protected_context, raise_together, run_to_end
from forebay._table.table import Table
from forebay.stores.sqlite._alteration import create_tables
from forebay.stores.sqlite._errors import SQLITE_ERRORS
from forebay.stores.sqlite._files import DatabaseFiles, use_wal
from forebay.stores.sqlite._format_table import check_database_format
from forebay.stores.sqlite._positions import SavedPositions
from forebay.stores.sqlite._pragmas import (
    Settings,
    check_new_file,
    sort_settings,
    store_values,
)
from forebay.stores.sqlite._readers import Readers
from forebay.stores.sqlite._store import SqliteStore
from forebay.stores.sqlite._waiting import retry_while_locked
from forebay.stores.sqlite._writer_connection import WriterConnection

Synchronous: TypeAlias = Literal["OFF", "NORMAL", "FULL", "EXTRA"]


@protected_context
async def open_sqlite(
    path: str | os.PathLike[str],
    *,
    create: Sequence[Table[Any]] = (),
    alter: bool = False,
    strict_tables: bool = False,
    mode: int = 0o600,
    synchronous: Synchronous = "NORMAL",
    busy_timeout: float = 0.05,
    lock_timeout: float = 30.0,
    readers: int = 4,
    wal_warning: int = 1 << 30,
    pragmas: Mapping[str, str | int] | None = None,
) -> AsyncGenerator[SqliteStore, None]:
    """Open a SQLite file as a store for buffers, for the time of an `async with` block.

    The file is put into WAL mode. If it does not exist, it is created, by default with access for
    its owner only. When the block ends, the store waits for the calls made before and closes the
    file.

    Args:
        path: the file, or a symbolic link to it, which is resolved when the store opens.
            ``:memory:`` is refused, because readers open connections of their own.
        create: the tables to create, with their indexes. A table that exists already is not
            changed, unless `alter` is true.
        alter: whether to add what an existing table of `create` lacks: columns that allow None or
            have a default, and indexes. All is added in one transaction, or nothing. No column,
            index or row is changed or removed. To build an index of a large table takes time, in
            which no other program can write to the file.
        strict_tables: create them as STRICT tables, in which SQLite itself refuses a value of
            another type, whoever writes it. SQLite supports this since 3.37: an older one cannot
            read the file.
        mode: the permissions of a new file, whatever the umask is, such as ``0o660``. SQLite
            creates the files beside it with the same permissions. An existing file keeps its own.
        synchronous: when SQLite waits for the disk. With ``NORMAL`` a power cut may lose the last
            transactions; a crash of the program never does, and the file stays intact. With
            ``FULL`` every commit survives a power cut, at the price of one sync each.
            See https://sqlite.org/pragma.html#pragma_synchronous.
        busy_timeout: how long SQLite itself waits for another process's lock, in seconds. Keep it
            short, because a thread in that wait cannot be woken; forebay then waits in Trio.
        lock_timeout: how long opening and creating tables wait for such a lock together, in
            seconds.
        readers: the largest number of read connections, for the queries of the program; and as
            many for `Buffer.get`, which therefore never waits for a query.
        wal_warning: the size of the write-ahead log, in bytes, above which the logger ``forebay``
            logs a warning: a reader that stays open makes the log grow without limit.
        pragmas: further settings, such as ``{"cache_size": -65536}``. Those that only matter to
            writes are not set for the read connections; ``user_version`` and ``application_id``
            are stored in the file. Settings with which the store does not work are refused.

    Yields:
        The store.

    Raises:
        SchemaError: `alter` cannot add a column or an index; the error has the SQL.
        StoreError: the file is not a database, cannot be written, or stayed locked; or the tables
            of forebay in it have a newer format than this version knows; or `pragmas` has a
            property that only a new file can get, and the file was created with another.
        OSError: the file cannot be created: its folder does not exist, the path is a folder, or
            the permission is missing.
        ValueError: an argument is invalid.
        TypeError: `alter` is not a bool, or a value in `pragmas` is neither a str nor an int.
    """
    name = os.fsdecode(path)
    if name in ("", ":memory:"):
        raise ValueError(
            f"path={name!r}: the store needs a file; for tests without a file use "
            f"forebay.testing.MemoryStore"
        )
    if synchronous not in get_args(Synchronous):
        raise ValueError(f"synchronous={synchronous!r}: expected one of {get_args(Synchronous)}")
    if readers < 1 or readers % 1:
        raise ValueError(f"readers={readers!r}: expected a whole number, 1 or more")
    if not isinstance(alter, bool):
        raise TypeError(f"alter={alter!r}: pass True or False")
    if alter and not create:
        raise ValueError("alter=True: it changes the tables of create=[…], which is empty")
    if strict_tables and sqlite3.sqlite_version_info < (3, 37):  # pragma: no cover  # older SQLite
        raise ValueError(
            f"strict_tables=True: SQLite supports it since 3.37, and this is "
            f"{sqlite3.sqlite_version}"
        )
    settings = sort_settings({"synchronous": synchronous, **(pragmas or {})})
    # Readers open the file later, after the program may have changed its current folder, or the
    # target of a link. And SQLite keeps its other files beside the real file, not beside the link.
    name = os.path.join(os.getcwd(), name)  # noqa: PTH109, PTH118  # pathlib would access the disk
    file = await trio.to_thread.run_sync(os.path.realpath, name)
    deadline = trio.current_time() + lock_timeout
    with _errors_of("opened", file, lock_timeout, deadline):
        writer = await retry_while_locked(
            lambda: sqlite.Connection.open(
                file,
                mode=mode,
                busy_timeout=busy_timeout,
                cached_statements=1024,
                pragmas=settings.writer,
                configure=partial(check_new_file, settings=settings),
                factory=WriterConnection,
            )
        )
    pool = Readers(file, limit=readers, pragmas=settings.readers)
    # `Buffer.get` has connections of its own: it may be called while `iterate` holds the others.
    key_pool = Readers(file, limit=readers, pragmas=settings.readers)
    saved_positions = SavedPositions(writer)

    errors: list[BaseException] = []
    try:
        with _errors_of("written", file, lock_timeout, deadline):
            await retry_while_locked(lambda: writer.run(_prepare_file, file))
            await retry_while_locked(
                lambda: writer.transaction(
                    partial(
                        _set_up,
                        tables=create,
                        strict=strict_tables,
                        alter=alter,
                        settings=settings,
                    )
                )
            )
        yield SqliteStore(
            file,
            writer=writer,
            readers=pool,
            key_readers=key_pool,
            files=DatabaseFiles(file, wal_warning=wal_warning),
            saved_positions=saved_positions,
        )
        await saved_positions.delete()
    except BaseException as error:  # noqa: BLE001  # raised again when the file is closed
        errors.append(error)
    errors += await run_to_end(pool.aclose)
    errors += await run_to_end(key_pool.aclose)
    # The writer is the last one, because SQLite empties the WAL when the last connection closes.
    errors += await run_to_end(writer.aclose)
    raise_together(f"{file!r} was closed after an error", errors)


@contextmanager
def _errors_of(
    done: str, file: str, lock_timeout: float, deadline: float
) -> Generator[None, None, None]:
    """Convert errors of SQLite, and a lock that lasts past the deadline, into a `StoreError`."""
    try:
        with trio.fail_at(deadline):
            yield
    except trio.TooSlowError:
        raise StoreError(
            f"{file!r} stayed locked by another process for {lock_timeout} s (lock_timeout); find "
            f"the process that holds the lock, end it or wait for it, and try again"
        ) from None
    except SQLITE_ERRORS as error:
        raise StoreError(f"{file!r} cannot be {done}: {error}") from error


def _prepare_file(raw: sqlite3.Connection, file: str) -> None:
    check_database_format(raw, file)
    use_wal(raw, file)


def _set_up(
    raw: sqlite3.Connection,
    *,
    tables: Sequence[Table[Any]],
    strict: bool,
    alter: bool,
    settings: Settings,
) -> None:
    create_tables(raw, tables, strict=strict, alter=alter)
    store_values(raw, settings)
    # BEGIN IMMEDIATE succeeds on a file that cannot be written; only a write fails.
    version = raw.execute("PRAGMA main.user_version").fetchone()[0]
    raw.execute(f"PRAGMA main.user_version = {version}")
