"""Read-only connections, so that a reader never waits for the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from forebay.sqlite import Connection
from forebay.sqlite._codes import copy_code
from forebay.stores.sqlite._errors import FILE_FAILURES, failure_code
from forebay.stores.sqlite._pragmas import only_reads
from forebay.stores.sqlite._waiting import retry_while_locked

T = TypeVar("T")

_CLOSE_TIMEOUT = 30.0
"""The longest wait for running calls when the readers close, in seconds.

A connection waits as long for its calls.
"""

_ALLOWED: Final = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
        # SQLite itself refuses to write to a file that is open for reading only. And virtual
        # tables, such as R*Trees, prepare statements that write before they are read.
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
    }
)
"""The actions of queries.

Others could write to another file (ATTACH, which VACUUM INTO uses), or change what the next query
on the same connection finds: an open transaction, a TEMP table.
"""


class _Guard:
    """The authorizer of a reader, which SQLite calls when it compiles a statement."""

    def __init__(self) -> None:
        self.refused = False
        """Whether it refused a statement. SQLite's error code does not tell in every case."""

    def __call__(
        self, action: int, first: str | None, second: str | None, *_origin: str | None
    ) -> int:
        if action == sqlite3.SQLITE_PRAGMA:
            allowed = first is not None and only_reads(first, second)
        else:
            allowed = action in _ALLOWED
        if not allowed:
            self.refused = True
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


@dataclass(frozen=True, slots=True)
class _Reader:
    connection: Connection
    guard: _Guard


class BorrowedReader:
    """A connection that one task has for the time of a block.

    Attributes:
        keep: whether others may have it after the block. False if a cursor is open.
    """

    def __init__(self, reader: _Reader, sql: str) -> None:
        self._reader = reader
        self._sql = sql
        self.keep = True

    async def run(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        """Run the query, or a part of it.

        Args:
            query: called with the connection.

        Raises:
            sqlite3.Error: the error of SQLite, or the statement does more than read.
        """
        connection, guard = self._reader.connection, self._reader.guard
        guard.refused = False
        try:
            return await query(connection)
        except sqlite3.Error as error:
            explained = _explained(error, self._sql, connection.path, refused=guard.refused)
            if explained is None:
                raise
            raise explained from error


class Readers:
    """Read-only connections to one file. They are opened when needed, and kept for reuse."""

    def __init__(self, path: str, *, limit: int, pragmas: Mapping[str, str | int]) -> None:
        self._path = path
        self._pragmas = pragmas
        self._turns = trio.Semaphore(limit)
        self._idle: list[_Reader] = []
        self._all: list[Connection] = []
        self._closed = False
        self._all_closed = False
        self._calls = 0
        self._last_call_ended = trio.Event()

    @trio.lowlevel.enable_ki_protection
    async def run(self, sql: str, query: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a query on a connection that no other task uses. Waiting tasks are served in order.

        While a lock makes the query fail, it is repeated.

        Args:
            sql: the statement of the query, for error messages.
            query: called with the connection. It may be called several times.

        Returns:
            The result of `query`.

        Raises:
            sqlite3.Error: the error of SQLite, or the statement does more than read.
            trio.ClosedResourceError: the store is closed.
        """
        await self._begin_call()
        try:
            return await retry_while_locked(lambda: self._try(sql, query))
        finally:
            self._end_call()

    @asynccontextmanager
    async def borrow(self, sql: str) -> AsyncGenerator[BorrowedReader, None]:
        """Take a connection for the time of a block, which is protected from Ctrl-C.

        Args:
            sql: the statement of the query, for error messages.

        Raises:
            sqlite3.Error: the file cannot be opened.
            trio.ClosedResourceError: the store is closed.
        """
        await self._begin_call()
        try:
            reader = await retry_while_locked(self._take)
            borrowed = BorrowedReader(reader, sql)
            try:
                yield borrowed
            finally:
                if borrowed.keep:
                    self._idle.append(reader)
        finally:
            self._end_call()

    async def _begin_call(self) -> None:
        """Count a call, and wait for its turn."""
        if self._closed:
            raise trio.ClosedResourceError(f"the store {self._path!r} is closed")
        self._calls += 1
        try:
            self._turns.acquire_nowait()  # the call itself is a checkpoint
        except trio.WouldBlock:
            try:
                await self._turns.acquire()
            except BaseException:
                self._uncount_call()
                raise

    def _end_call(self) -> None:
        self._turns.release()
        self._uncount_call()

    def _uncount_call(self) -> None:
        self._calls -= 1
        if self._closed and not self._calls:
            self._last_call_ended.set()

    async def _try(self, sql: str, query: Callable[[Connection], Awaitable[T]]) -> T:
        reader = await self._take()
        try:
            return await BorrowedReader(reader, sql).run(query)
        finally:
            self._idle.append(reader)

    async def _take(self) -> _Reader:
        return self._idle.pop() if self._idle else await self._open()

    async def _open(self) -> _Reader:
        guard = _Guard()
        connection = await Connection.open(
            self._path,
            readonly=True,
            pragmas=self._pragmas,
            configure=lambda raw: raw.set_authorizer(guard),
        )
        # No checkpoint may come before this: if the task is cancelled, others use the connection.
        self._all.append(connection)
        if self._all_closed:
            await connection.aclose()
        return _Reader(connection, guard)

    async def aclose(self) -> None:
        """Refuse new calls, wait for the calls made before, and close all connections.

        Cancellation does not interrupt it: it waits for at most `_CLOSE_TIMEOUT` seconds. A call
        that has not ended by then finds its connection closed.
        """
        self._closed = True
        if self._calls:
            with trio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await self._last_call_ended.wait()
        self._all_closed = True
        async with trio.open_nursery() as nursery:
            for connection in self._all:
                nursery.start_soon(connection.aclose)


def _explained(error: sqlite3.Error, sql: str, path: str, *, refused: bool) -> sqlite3.Error | None:
    """Return an error that also says what to do, or None if the error of SQLite says enough."""
    if refused or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY:
        message = (
            f"{error}: a query may only read, and this statement does more; execute it in a "
            f"function with store.run: {sql!r}"
        )
    elif failure_code(error) == sqlite3.SQLITE_CANTOPEN:
        message = (
            f"{path!r}: {error}. This can be the file, one beside it, or a temporary file: check "
            f"the permissions, and how many files the process may open"
        )
    elif failure_code(error) in FILE_FAILURES:
        message = f"{path!r}: {error}"
    else:
        return None
    explained = type(error)(message)
    copy_code(error, explained)
    return explained
