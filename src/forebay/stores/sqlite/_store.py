"""The SQLite store: batches and transactions take turns on one connection, reads have others."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, cast

from forebay import sqlite
from forebay._batching.batch import Batch
from forebay._database import Database
from forebay._errors import SchemaError, raise_schema_errors
from forebay._owner import Owner
from forebay._table.columns import join_alternatives
from forebay._table.operations import Key
from forebay._table.table import Table
from forebay.stores import Store, StoredRows
from forebay.stores.sqlite._attempt import SqliteAttempt
from forebay.stores.sqlite._commit import TransactionHook
from forebay.stores.sqlite._database_id import create_id, read_id
from forebay.stores.sqlite._errors import batch_error, store_errors
from forebay.stores.sqlite._files import DatabaseFiles
from forebay.stores.sqlite._key_reads import read_rows
from forebay.stores.sqlite._maintenance import Maintenance
from forebay.stores.sqlite._own_triggers import own_triggers
from forebay.stores.sqlite._positions import SavedPositions
from forebay.stores.sqlite._readers import Readers
from forebay.stores.sqlite._reading import Reading
from forebay.stores.sqlite._schema import check_table, conversions
from forebay.stores.sqlite._sharing import KnownEffects
from forebay.stores.sqlite._silent_rules import silent_rules
from forebay.stores.sqlite._waiting import retry_while_locked
from forebay.stores.sqlite._writer_connection import WriterConnection

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_logger = logging.getLogger(__name__)


class SqliteStore(Reading, Maintenance, Store):
    """A SQLite file. `open_sqlite` opens it.

    Batches of the buffers and transactions of `run` take turns on one connection, in the order of
    the calls. Reads run at the same time, on other connections.

    Attributes:
        path: the path of the file, absolute and without symbolic links.
    """

    def __init__(
        self,
        path: str,
        *,
        writer: sqlite.Connection,
        readers: Readers,
        key_readers: Readers,
        files: DatabaseFiles,
        saved_positions: SavedPositions,
    ) -> None:
        self.path = path
        self._writer = writer
        self._readers = readers
        self._key_readers = key_readers
        self._files = files
        self._saved_positions = saved_positions
        self._known_effects = KnownEffects()
        self._variables = 0
        self._owner = Owner(
            f"the store {path!r}",
            calls="trio.from_thread.run(store.run, fn, trio_token=token) or "
            "trio.from_thread.run(store.fetch_all, sql, trio_token=token)",
        )
        self._warnings: set[tuple[str, ...]] = set()
        self._conversions: dict[str, list[str]] = {}
        """The columns that do not store every value as it is, by the names of their tables."""

    def __repr__(self) -> str:
        return f"<forebay.SqliteStore {self.path!r}: {self._writer.statistics().state.value}>"

    @property
    def attributes(self) -> Mapping[str, str]:
        """The OpenTelemetry attributes of this database."""
        return {"db.system.name": "sqlite", "db.namespace": self.path}

    def wal_size(self) -> int | None:
        """Return the size of the write-ahead log in bytes, or None if there is no such file."""
        return self._files.wal_size()

    async def prepare(self, tables: Sequence[Table[Any]]) -> None:
        """Check that the tables in the file match their declarations. `open_buffers` calls it.

        Log a warning, once, for each rule of a table that drops rows without an error, and for each
        trigger that writes a coalesced table when its rows are written.

        Raises:
            SchemaError: a table does not match; the error has the SQL that corrects it.
            StoreError: the file cannot be read.
        """
        with store_errors(self.path):
            await retry_while_locked(lambda: self._writer.run(self._check_tables, tables))
        self._variables = await self._writer.run(_variable_limit)

    async def recheck(self, table: Table[Any]) -> None:
        """Check again that a table in the file matches its declaration.

        A suspended buffer calls it before each attempt.

        Raises:
            SchemaError: the table does not match; the error has the SQL that corrects it.
            BatchError: the file cannot be read.
        """
        try:
            await self._writer.run(self._recheck, table)
        except SchemaError:
            raise
        except Exception as error:
            raise batch_error(error) from error

    def _recheck(self, raw: sqlite3.Connection, table: Table[Any]) -> None:
        with self._files.checked():
            self._check_tables(raw, [table])

    def _check_tables(self, raw: sqlite3.Connection, tables: Sequence[Table[Any]]) -> None:
        errors: list[SchemaError] = []
        for table in tables:
            try:
                check_table(raw, table)
            except SchemaError as error:
                errors.append(error)
                continue
            self._conversions[table.name] = conversions(raw, table)
            for rule in silent_rules(raw, table.name):
                if self._is_new(rule):
                    _logger.warning(
                        "%s: SQLite drops rows because of it without an error, and the buffer "
                        "counts them as committed",
                        rule,
                    )
            for trigger in own_triggers(raw, table):
                if self._is_new(table.name, trigger):
                    _logger.warning(
                        "table %r: the trigger %r writes the table itself when a row is written; "
                        "with coalescing it runs for merged rows only, in an order of their own; "
                        "if what it does depends on other rows or on the order, declare the table "
                        "with coalesce=False",
                        table.name,
                        trigger,
                    )
        raise_schema_errors(errors)

    def _is_new(self, *warning: str) -> bool:
        """Return whether this warning was not logged before, and note that it is logged now."""
        if warning in self._warnings:
            return False
        self._warnings.add(warning)
        return True

    def unsupported_calls(self, table: Table[Any]) -> Mapping[str, str]:
        """Return `get` and `get_many` if a row in the file can differ from the row written."""
        if not (columns := self._conversions.get(table.name)):
            return {}
        reason = (
            f"{join_alternatives(columns)} converts values when they are stored; create the table "
            f"with the types of the row type"
        )
        return dict.fromkeys(("get", "get_many"), reason)

    async def read_rows(self, table: Table[Any], keys: Sequence[Key], *, stream: str) -> StoredRows:
        """Read the rows with these keys and the position of a buffer. `Buffer.get` calls it.

        It sees what is committed when it starts, and never waits for the writer.

        Raises:
            StoreError: the file cannot be read.
        """
        query = partial(read_rows, saved=stream in self._saved_positions)
        with store_errors(self.path):
            return await self._key_readers.run(
                f"read rows of {table.name!r} by key",
                lambda connection: connection.read(query, table, keys, stream, self._variables),
            )

    async def identify(self) -> Database:
        """Return the path and the id of the database. `open_buffers` calls it if it may spill.

        The first call creates the id and saves it in the table `forebay_database`. While another
        process holds the write lock, that call waits for it, and can be cancelled.

        Raises:
            StoreError: the file cannot be read or written.
        """
        with store_errors(self.path):
            known = await retry_while_locked(lambda: self._writer.run(read_id))
            if known is None:
                known = await self.run(create_id)
        return Database.at(self.path, known)

    def begin(self, batch: Batch, *, before_commit: TransactionHook | None = None) -> SqliteAttempt:
        """Return an attempt to commit a batch. The buffers call it.

        Args:
            batch: the batch.
            before_commit: for forebay's own use: a function that each transaction of the batch
                calls before COMMIT.
        """
        return SqliteAttempt(
            batch,
            writer=self._writer,
            files=self._files,
            saved_positions=self._saved_positions,
            known_effects=self._known_effects,
            variables=self._variables,
            before_commit=before_commit,
        )

    async def run(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Run a function of the program in one transaction, in turn with the buffers.

        Use it for migrations, and for logic that reads and writes in one transaction. Pending
        entries are not in the table yet: call `Buffer.flush` first if that matters.

        While another process holds the write lock, this waits for it. If the task is cancelled
        during that wait, the function is not called. After the function is called, cancellation
        waits until the transaction has ended, so that its outcome is always known; the function
        can ask for it with `trio.from_thread.check_cancelled`.

        What the function leaves on the connection: cursors and blobs are closed, attached
        databases are detached, and `row_factory`, `text_factory`, `isolation_level`, `autocommit`,
        the authorizer and the progress handler are reset. SQL functions, collations, TEMP tables
        and triggers, PRAGMA settings, limits and the trace callback stay; the transactions of the
        buffers use the same connection, so they are subject to them too.

        Args:
            fn: called in the writer's thread with a `sqlite3.Connection` in a transaction, and
                `args`. If it returns, the transaction is committed; if it raises, it is rolled
                back. `fn` must return plain values, and must not execute COMMIT or ROLLBACK, nor
                call ``executescript()``, which commits first. If it raises after it ended the
                transaction, the error has a note that says so.
            *args: further arguments of `fn`.

        Returns:
            The result of `fn`.

        Raises:
            BaseException: the error of `fn` or of SQLite; nothing was written.
            forebay.sqlite.CommitError: COMMIT failed.
            StoreError: the file was deleted or replaced, and the transaction is lost with it.
            trio.ClosedResourceError: the store is closed.
            RuntimeError: this thread or process is not the one that opened the store.
        """
        self._owner.check()
        called = False

        def call(raw: sqlite3.Connection) -> T:
            nonlocal called
            called = True
            writer = cast("WriterConnection", raw)
            writer.begin_loan()
            try:
                result = fn(raw, *args)
            finally:
                writer.end_loan()
            self._files.check()
            return result

        def transaction(raw: sqlite3.Connection) -> T:
            try:
                return self._files.guard(sqlite.transact, raw, call)
            finally:
                if called:
                    self._known_effects.forget()
                    cast("WriterConnection", raw).reset()

        return await retry_while_locked(
            lambda: self._writer.run(transaction), may_repeat=lambda: not called
        )


def _variable_limit(raw: sqlite3.Connection) -> int:
    return raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
