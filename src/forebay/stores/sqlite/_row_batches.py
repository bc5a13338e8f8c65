"""Run one query on a read connection: all rows of its result at once, or a batch after another."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import closing, suppress
from typing import Any, Final, Generic, Self, TypeVar

import trio

from forebay._decoding import RowReader
from forebay._protection import protected_context
from forebay._table.table import Table
from forebay.sqlite import Parameters
from forebay.stores.sqlite._readers import BorrowedReader, Readers
from forebay.stores.sqlite._waiting import retry_while_locked

T = TypeVar("T")

_CHUNK: Final = 1000
"""Rows that are read before they are decoded. Between two chunks a cancelled read ends."""

_CLOSE_TIMEOUT: Final = 30.0
"""The longest wait for a batch that is read while the block ends, in seconds."""


def fetch_rows(
    raw: sqlite3.Connection, sql: str, parameters: Parameters, table: Table[T], limit: int | None
) -> list[T]:
    """Run a query, and return the rows of its result as rows of a table.

    Args:
        raw: the connection.
        sql: the query.
        parameters: the values to bind.
        table: the table.
        limit: the largest number of rows to read; None for all.

    Raises:
        DecodeError: a stored value is not one of its column.
        ValueError: the result does not have the columns of the table.
    """
    rows: list[T] = []
    with closing(raw.execute(sql, parameters)) as cursor:
        reader = RowReader(table, [name for name, *_ in cursor.description or ()])
        if limit is not None:
            return reader.read(cursor.fetchmany(limit))
        while found := cursor.fetchmany(_CHUNK):
            rows += reader.read(found)
    return rows


class _Result:
    """The result of a query that is read in batches.

    Its methods are called in the connection's thread, except the constructor.
    """

    def __init__(self, sql: str, parameters: Parameters, table: Table[Any] | None) -> None:
        self._sql = sql
        self._parameters = parameters
        self._table = table
        self._cursor: sqlite3.Cursor | None = None
        self._reader: RowReader[Any] | None = None

    def open(self, raw: sqlite3.Connection) -> None:
        self._cursor = raw.execute(self._sql, self._parameters)
        if self._table is not None:
            names = [name for name, *_ in self._cursor.description or ()]
            self._reader = RowReader(self._table, names)

    def fetch(self, _raw: sqlite3.Connection, size: int) -> list[Any]:
        rows = [] if self._cursor is None else self._cursor.fetchmany(size)
        return rows if self._reader is None else self._reader.read(rows)

    def close(self, _raw: sqlite3.Connection) -> None:
        if self._cursor is not None:
            self._cursor.close()


class RowBatches(AsyncIterator[list[T]], Generic[T]):
    """The batches of a result, each a list of rows, for `async for`."""

    def __init__(self, reader: BorrowedReader, result: _Result, size: int) -> None:
        self._reader = reader
        self._result = result
        self._size = size
        self._ended: str | None = None

    def __aiter__(self) -> Self:
        return self

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> list[T]:
        if self._ended is not None:
            raise trio.ClosedResourceError(self._ended)
        try:
            rows: list[T] = await self._reader.run(
                lambda connection: connection.read(self._result.fetch, self._size)
            )
        except BaseException:
            # SQLite has ended the query. To go on would look like the end of the result.
            self._ended = "an earlier batch of this store.iterate could not be read"
            raise
        if not rows:
            raise StopAsyncIteration
        return rows

    async def open(self) -> None:
        """Run the query, up to its first row. While a lock makes it fail, it is repeated."""
        await retry_while_locked(
            lambda: self._reader.run(lambda connection: connection.read(self._result.open))
        )

    async def close(self) -> None:
        """Close the result, so that others can have the connection."""
        self._ended = "the block of this store.iterate has been left"
        self._reader.keep = False
        with (
            trio.move_on_after(_CLOSE_TIMEOUT, shield=True),
            suppress(trio.ClosedResourceError),  # the store was closed within the block
        ):
            await self._reader.run(lambda connection: connection.run(self._result.close))
            self._reader.keep = True


@protected_context
async def iterate_rows(
    readers: Readers,
    sql: str,
    parameters: Parameters,
    *,
    table: Table[Any] | None,
    batch_size: int,
) -> AsyncGenerator[AsyncIterator[list[Any]], None]:
    """Run a query, and read its result in batches, for the time of a block.

    Args:
        readers: the connections; the block has one of them.
        sql: the query.
        parameters: the values to bind.
        table: the table whose rows are returned; None for plain tuples.
        batch_size: the largest number of rows in a batch.

    Raises:
        sqlite3.Error: the error of SQLite.
        ValueError: the result does not have the columns of the table.
        trio.ClosedResourceError: the store is closed.
    """
    async with readers.borrow(sql) as reader:
        batches = RowBatches[Any](reader, _Result(sql, parameters, table), batch_size)
        try:
            await batches.open()
            yield batches
        finally:
            await batches.close()
