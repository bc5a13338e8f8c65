"""The SQLite store: one writer connection, whose turns are the lane, and readers beside it."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Literal, TypeAlias, TypeVar, TypeVarTuple, get_args

import trio

from forebay import sqlite
from forebay._batching.batch import Batch
from forebay._database import Database
from forebay._errors import StoreError
from forebay._options import RetryPolicy
from forebay._table.table import Table
from forebay.stores import BatchError, Outcome
from forebay.stores.sqlite import _database_id as database
from forebay.stores.sqlite import _progress as progress
from forebay.stores.sqlite._commit import Also, Committer
from forebay.stores.sqlite._errors import (
    LOCKED,
    SQLITE_ERRORS,
    code_name,
    failure_code,
    failure_kind,
    store_errors,
)
from forebay.stores.sqlite._files import FileIdentity, Wal
from forebay.stores.sqlite._readers import Readers
from forebay.stores.sqlite._schema import check_table
from forebay.stores.sqlite._silent_rules import silent_rules
from forebay.stores.sqlite._statements import create as create_sql

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Synchronous: TypeAlias = Literal["OFF", "NORMAL", "FULL", "EXTRA"]

_HOUSEKEEPING = 1.0
"""Seconds that tidying up may take when the store closes."""

_logger = logging.getLogger("forebay")

_jitter = random.Random()  # noqa: S311  # no secret; and a program's own random numbers stay as seeded

_WAITS = RetryPolicy()
"""How the program's own calls wait for a lock of another process."""


class SqliteStore:
    """A SQLite file. `open_sqlite` opens it.

    Writes, those of the buffers and those of `run`, take turns on one connection, in the order
    in which they asked. Reads run beside them, on connections of their own.
    """

    def __init__(
        self, path: str, writer: sqlite.Connection, readers: Readers, *, wal_warning: int
    ) -> None:
        self.path = path
        self._writer = writer
        self._readers = readers
        self._identity = FileIdentity(path)
        self._shared_memory = FileIdentity(f"{path}-shm")
        self._wal = Wal(path, warn_at=wal_warning)
        self._variables = 0
        self._committers: dict[str, Committer] = {}
        """The attempts at the batch in flight, by its stream."""
        self._noted: set[str] = set()
        """The streams whose progress is noted in the file."""

    def __repr__(self) -> str:
        return f"<forebay.SqliteStore {self.path!r}: {self._writer.statistics().state.value}>"

    @property
    def attributes(self) -> Mapping[str, str]:
        """How telemetry names this database."""
        return {"db.system.name": "sqlite", "db.namespace": self.path}

    def wal_size(self) -> int | None:
        """Tell the size of the file's write-ahead log, in bytes; None where there is none now."""
        return self._wal.size()

    async def prepare(self, tables: Sequence[Table[Any]]) -> None:
        """Check that the tables are in the file as they are declared. `open_buffers` calls it.

        Of a table's own rules that drop rows without an error a warning is logged.

        Raises:
            SchemaError: one is not; the error has the SQL that would mend it.
            StoreError: the file cannot be read.
        """
        with store_errors(self.path):
            await _patiently(lambda: self._writer.run(_check_tables, tables))
        self._variables = await self._writer.run(_variables)

    async def identify(self) -> Database:
        """Tell where the file is, and its id. `open_buffers` calls it where it may have to spill.

        The id is made up at the first call and kept in a table of forebay's own. While another
        process has the write lock, that call waits for it, and can be cancelled.

        Raises:
            StoreError: the file cannot be read, or not written.
        """
        with store_errors(self.path):
            known = await _patiently(lambda: self._writer.run(database.read_id))
            if known is None:
                known = await self.run(database.make_id)
        return Database.at(self.path, known)

    async def commit(
        self,
        batch: Batch,
        *,
        attempt: int,
        most_rejections: float,
        also: Also | None = None,
    ) -> Outcome:
        """Commit a batch in one transaction. The buffers call it.

        Once the transaction has begun, cancellation waits for its end, so that the outcome is
        always known.

        Args:
            batch: what to do.
            attempt: which attempt at this batch it is, counted from 1.
            most_rejections: how many of its entries may go to the dead letters.
            also: called in each transaction of the batch, before it commits.

        Raises:
            BatchError: it was not committed, or may not have been.
        """
        committer = self._committers.get(batch.stream)
        if committer is None or committer.batch is not batch:
            committer = Committer(batch, variables=self._variables, also=also)
            self._committers[batch.stream] = committer
        try:
            outcome = await self._writer.run_in_own_thread(
                self._commit, committer, attempt, most_rejections
            )
        except BatchError as error:
            error.settled, error.outcome = committer.settled, committer.outcome()
            raise
        except Exception as error:
            # With the file, the part of the batch that was committed to it is gone.
            gone = isinstance(error, StoreError)
            raise BatchError(
                str(error) if gone else f"{code_name(error)}: {error}",
                kind=failure_kind(error, in_commit=isinstance(error, sqlite.CommitError)),
                code=code_name(error),
                settled=0 if gone else committer.settled,
                outcome=None if gone else committer.outcome(),
                in_doubt=committer.in_doubt,
            ) from error
        if committer.noted:
            self._noted.add(batch.stream)
        del self._committers[batch.stream]
        return outcome

    def _commit(
        self, raw: sqlite3.Connection, committer: Committer, attempt: int, most_rejections: float
    ) -> Outcome:
        """Commit, in the writer's thread, with the files checked."""
        with self._files_checked():
            return committer.commit(raw, attempt, most_rejections)

    @contextmanager
    def _files_checked(self) -> Generator[None, None, None]:
        """Around a transaction: refuse to write to a wrong file, or to tell that it was written."""
        self._check_files()  # another database could find in its log what is written now
        yield
        self._check_files()

    def _check_files(self) -> None:
        self._identity.check()
        self._wal.check()
        # Without it, who opens the file next shares no locks with this program.
        self._shared_memory.check()

    async def run(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Run a function of the program's own in one transaction, in turn with the buffers.

        For migrations, and for logic that reads and writes at once. What the buffers hold is
        not in the table yet: `flush` before, where that matters.

        While another process has the write lock, this waits for it. Cancelled while it waits,
        the function is not called; once it is called, cancellation waits for the transaction's
        end, so that its outcome is always known.

        Args:
            fn: called in a worker thread with a `sqlite3.Connection` in a transaction, and
                `args`. When it returns the transaction is committed; when it raises, rolled
                back. It returns plain values, and leaves COMMIT and ROLLBACK to the store.
            *args: further arguments of `fn`.

        Returns:
            What `fn` returned.

        Raises:
            BaseException: what `fn` raised, or SQLite; nothing was written.
            forebay.sqlite.CommitError: COMMIT failed.
            StoreError: the file was deleted or replaced; what was written is lost with it.
            trio.ClosedResourceError: the store is closed.
        """
        called = False

        def call(raw: sqlite3.Connection) -> T:
            nonlocal called
            called = True
            return fn(raw, *args)

        def transaction(raw: sqlite3.Connection) -> T:
            with self._files_checked():
                return sqlite.transact(raw, call)

        return await _patiently(
            lambda: self._writer.run(transaction), may_repeat=lambda: not called
        )

    async def forget(self) -> None:
        """Remove the notes that this store's buffers left in the file, when they have ended.

        Without it nothing is lost; each is a row in a table of forebay's own.
        """
        if self._noted:
            with trio.move_on_after(_HOUSEKEEPING), suppress(sqlite3.Error):
                await self._writer.transaction(progress.forget, self._noted)

    async def fetch_all(
        self, sql: str, parameters: sqlite.Parameters = ()
    ) -> list[tuple[Any, ...]]:
        """Run a query on a read-only connection and return all its rows.

        It sees what is committed when it starts, and waits for no writer. Cancelled, it ends
        when the query does. Other statements are refused: those that write, and those that would
        change the connection for the next query, such as ATTACH and BEGIN.

        Args:
            sql: one statement that only reads.
            parameters: the values bound to it: a sequence for ``?``, a mapping for ``:name``.

        Raises:
            sqlite3.Error: what SQLite answered.
            trio.ClosedResourceError: the store is closed.
        """
        async with self._readers.connection() as connection:
            return await _patiently(lambda: connection.fetch_all(sql, parameters))

    async def fetch_one(
        self, sql: str, parameters: sqlite.Parameters = ()
    ) -> tuple[Any, ...] | None:
        """Run a query on a read-only connection and return its first row, None without one.

        Cancellation, arguments and errors are those of `fetch_all`.
        """
        async with self._readers.connection() as connection:
            return await _patiently(lambda: connection.fetch_one(sql, parameters))


@asynccontextmanager
async def open_sqlite(
    path: str | os.PathLike[str],
    *,
    create: Sequence[Table[Any]] = (),
    synchronous: Synchronous = "NORMAL",
    busy_timeout: float = 0.05,
    lock_timeout: float = 30.0,
    readers: int = 4,
    wal_warning: int = 1 << 30,
    pragmas: Mapping[str, str | int] | None = None,
) -> AsyncGenerator[SqliteStore, None]:
    """Open a SQLite file as a store for buffers, for the time of an `async with` block.

    The file is put into WAL mode, and created, for its owner only, where there is none. The
    block closes it when it ends, after the calls that were made before.

    Args:
        path: the file. Not ``:memory:``, since readers have connections of their own.
        create: tables to create where they are not there yet. One that is there is left as it is.
        synchronous: when SQLite waits for the disk. ``NORMAL``: a power cut may take the last
            transactions, a crash of the program never does, and the file stays sound. ``FULL``:
            a commit survives a power cut, at the price of a sync each.
            See https://sqlite.org/pragma.html#pragma_synchronous.
        busy_timeout: how long SQLite itself waits for another process's lock, in seconds: short,
            since a thread in that wait cannot be woken. forebay goes on waiting in Trio.
        lock_timeout: how long opening and creating tables wait for such a lock, in seconds.
        readers: how many read connections there may be.
        wal_warning: the size of the write-ahead log, in bytes, past which a warning is logged
            (by the logger ``forebay``): a reader that stays open makes it grow without end.
        pragmas: further settings of each connection, such as ``{"cache_size": -65536}``.

    Yields:
        The store.

    Raises:
        StoreError: the file is no database, cannot be written, or stayed locked.
        OSError: the file cannot be there: no such folder, a folder itself, no permission.
        ValueError: an argument cannot be used.
    """
    name = os.fsdecode(path)
    if name in ("", ":memory:"):
        raise ValueError(
            f"path={name!r}: the store needs a file; for tests without one there is "
            f"forebay.testing.MemoryStore"
        )
    # Readers open the file later, when the program may have changed its folder.
    name = os.path.join(os.getcwd(), name)  # noqa: PTH109, PTH118  # asks no disk
    if synchronous not in get_args(Synchronous):
        raise ValueError(f"synchronous={synchronous!r}: expected one of {get_args(Synchronous)}")
    if readers < 1:
        raise ValueError(f"readers={readers!r}: expected 1 or more")
    settings = dict(pragmas or {})
    try:
        writer = await sqlite.Connection.open(
            name,
            busy_timeout=busy_timeout,
            cached_statements=1024,
            pragmas={"synchronous": synchronous, **settings},
        )
    except SQLITE_ERRORS as error:
        raise StoreError(f"{name!r} cannot be opened: {error}") from error
    pool = Readers(name, most=readers, pragmas=settings)
    try:
        await _set_up(writer, name, create, lock_timeout)
        store = SqliteStore(name, writer, pool, wal_warning=wal_warning)
        yield store
        await store.forget()
    finally:
        try:
            await pool.aclose()
        finally:
            await writer.aclose()


async def _set_up(
    writer: sqlite.Connection, name: str, create: Sequence[Table[Any]], lock_timeout: float
) -> None:
    try:
        with trio.fail_after(lock_timeout):
            await _patiently(lambda: writer.run(_use_wal, name))
            await _patiently(lambda: writer.transaction(_create_tables, create))
    except trio.TooSlowError:
        raise StoreError(
            f"{name!r} stayed locked by another process for {lock_timeout} s (lock_timeout); find "
            f"that process, and try again"
        ) from None
    except SQLITE_ERRORS as error:
        raise StoreError(f"{name!r} cannot be written: {error}") from error


async def _patiently(
    call: Callable[[], Awaitable[T]], may_repeat: Callable[[], bool] = lambda: True
) -> T:
    """Make a call again while another process's lock is in its way, with waits between."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except sqlite3.OperationalError as error:
            if failure_code(error) not in LOCKED or not may_repeat():
                raise
        await trio.sleep(_WAITS.delay(attempt, _jitter.random()))


# What runs in the writer's thread.


def _use_wal(raw: sqlite3.Connection, name: str) -> None:
    mode = raw.execute("PRAGMA journal_mode = wal").fetchone()[0]
    if mode != "wal":
        raise StoreError(
            f"{name!r} stays in journal mode {mode!r}, and the store needs WAL: readers beside "
            f"the writer; network file systems do not have it"
        )


def _create_tables(raw: sqlite3.Connection, tables: Sequence[Table[Any]]) -> None:
    for table in tables:
        raw.execute(create_sql(table))
    # BEGIN IMMEDIATE succeeds on a file that cannot be written; only a write tells.
    version = raw.execute("PRAGMA user_version").fetchone()[0]
    raw.execute(f"PRAGMA user_version = {version}")


def _check_tables(raw: sqlite3.Connection, tables: Sequence[Table[Any]]) -> None:
    for table in tables:
        check_table(raw, table)
        for rule in silent_rules(raw, table.name):
            _logger.warning(
                "%s: SQLite drops rows by it without an error, and they count as committed", rule
            )


def _variables(raw: sqlite3.Connection) -> int:
    return raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
