"""The calls of a store that read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import date
from typing import Any, TypeVar, overload

from forebay import sqlite
from forebay._owner import Owner
from forebay._table.table import Table
from forebay.stores.sqlite._readers import Readers
from forebay.stores.sqlite._row_batches import fetch_rows, iterate_rows

R = TypeVar("R")


class Reading:
    """The calls of `SqliteStore` that read. Each has a connection that no other task uses."""

    _owner: Owner
    _readers: Readers

    @overload
    async def fetch_all(
        self, sql: str, parameters: sqlite.Parameters = (), *, table: None = None
    ) -> list[tuple[Any, ...]]: ...

    @overload
    async def fetch_all(
        self, sql: str, parameters: sqlite.Parameters = (), *, table: Table[R]
    ) -> list[R]: ...

    async def fetch_all(
        self, sql: str, parameters: sqlite.Parameters = (), *, table: Table[Any] | None = None
    ) -> list[Any]:
        """Run a query on a read-only connection and return all its rows.

        The query sees what is committed when it starts, and never waits for the writer. If the
        task is cancelled, the query is interrupted. Every statement that does more than
        read is refused, so that a query cannot change what the next one finds: ATTACH, BEGIN,
        CREATE TEMP TABLE, a PRAGMA with a value. Use `run` for these.

        Args:
            sql: one statement that only reads.
            parameters: the values to bind: a sequence for ``?``, a mapping for ``:name``. They are
                stored values, also in columns with a codec.
            table: the table whose rows are returned, decoded, as instances of its row type. The
                result must have each of its columns, under the column's name; the order and
                further columns do not matter. Codecs and the row type are called in a worker
                thread. None: the rows are tuples of stored values.

        Raises:
            sqlite3.Error: the error of SQLite.
            DecodeError: a stored value is not one of its column.
            TypeError: a parameter is a date or datetime, which `sqlite3` would write in a format
                of its own; `Table.stored` returns the stored value.
            ValueError: the result does not have each column of the table once.
            trio.ClosedResourceError: the store is closed.
            RuntimeError: this thread or process is not the one that opened the store.
        """
        self._owner.check()
        _check_arguments(parameters, table)
        if table is None:
            return await self._readers.run(
                sql, lambda connection: connection.fetch_all(sql, parameters)
            )
        return await self._readers.run(
            sql, lambda connection: connection.read(fetch_rows, sql, parameters, table, None)
        )

    @overload
    async def fetch_one(
        self, sql: str, parameters: sqlite.Parameters = (), *, table: None = None
    ) -> tuple[Any, ...] | None: ...

    @overload
    async def fetch_one(
        self, sql: str, parameters: sqlite.Parameters = (), *, table: Table[R]
    ) -> R | None: ...

    async def fetch_one(
        self, sql: str, parameters: sqlite.Parameters = (), *, table: Table[Any] | None = None
    ) -> Any:
        """Run a query on a read-only connection and return its first row, or None.

        Cancellation, arguments and errors are the same as for `fetch_all`.
        """
        self._owner.check()
        _check_arguments(parameters, table)
        if table is None:
            return await self._readers.run(
                sql, lambda connection: connection.fetch_one(sql, parameters)
            )
        rows = await self._readers.run(
            sql, lambda connection: connection.read(fetch_rows, sql, parameters, table, 1)
        )
        return rows[0] if rows else None

    @overload
    def iterate(
        self,
        sql: str,
        parameters: sqlite.Parameters = (),
        *,
        table: None = None,
        batch_size: int = 1000,
    ) -> AbstractAsyncContextManager[AsyncIterator[list[tuple[Any, ...]]], bool | None]: ...

    @overload
    def iterate(
        self,
        sql: str,
        parameters: sqlite.Parameters = (),
        *,
        table: Table[R],
        batch_size: int = 1000,
    ) -> AbstractAsyncContextManager[AsyncIterator[list[R]], bool | None]: ...

    def iterate(
        self,
        sql: str,
        parameters: sqlite.Parameters = (),
        *,
        table: Table[Any] | None = None,
        batch_size: int = 1000,
    ) -> AbstractAsyncContextManager[AsyncIterator[list[Any]], bool | None]:
        """Run a query, and read a large result in batches, without holding all its rows.

        ``async with store.iterate(sql) as batches:`` runs the query, and ``async for rows in
        batches:`` reads its rows, as lists. The result is one snapshot: what was committed when
        the block was entered. Until the block is left, it has one of the ``readers`` of
        `open_sqlite`, and SQLite cannot reuse the write-ahead log. So nested blocks, or many at
        once, can leave no reader for other reads, which then wait.

        The reader is released however the block is left. If the task is cancelled while it waits
        for a batch, the query is interrupted.

        Args:
            sql: one statement that only reads, as for `fetch_all`.
            parameters: as for `fetch_all`.
            table: as for `fetch_all`.
            batch_size: the largest number of rows in a list, at least 1.

        Returns:
            A context manager that returns an async iterator of lists. None is empty.

        Raises:
            sqlite3.Error: the error of SQLite.
            DecodeError: a stored value is not one of its column. The reading cannot be continued.
            ValueError: `batch_size` is below 1, or the result does not have each column of the
                table once.
            trio.ClosedResourceError: the store is closed, or the block has been left.
            RuntimeError: this thread or process is not the one that opened the store.
        """
        self._owner.check()
        _check_arguments(parameters, table)
        if batch_size < 1 or batch_size % 1:
            raise ValueError(f"batch_size={batch_size!r}: expected a whole number, 1 or more")
        return iterate_rows(self._readers, sql, parameters, table=table, batch_size=batch_size)


def _check_arguments(parameters: sqlite.Parameters, table: object) -> None:
    if not isinstance(table, Table | None):
        raise TypeError(f"table={table!r}: expected a forebay.Table or None")
    values = parameters.values() if isinstance(parameters, Mapping) else parameters
    for value in values:
        if isinstance(value, date):  # a datetime is a date
            raise TypeError(
                f"the parameter {value!r} would be compared as a text in another format than the "
                f"stored one; bind table.stored(FIELD, value)"
            )
