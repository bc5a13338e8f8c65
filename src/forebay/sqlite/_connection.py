"""A connection for the tasks of a Trio program, and its turns."""

from __future__ import annotations

import enum
import math
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
import trio

from forebay.sqlite._handover import hand_over
from forebay.sqlite._opening import opener
from forebay.sqlite._thread import OwnThread
from forebay.sqlite._transaction import transact

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]
"""The values bound to a statement: a sequence for ``?``, a mapping for ``:name``."""


class ConnectionState(enum.Enum):
    """What a connection can be."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True)
class ConnectionStatistics:
    """A connection at one moment.

    Attributes:
        state: whether it is open, closing or closed.
        running: whether a call's turn has come and is not over.
        waiting: how many calls wait for their turn, that of `Connection.aclose` included.
    """

    state: ConnectionState
    running: bool
    waiting: int


@dataclass(frozen=True)
class Result:
    """All that one statement gave.

    Attributes:
        rows: every row, in order; empty for a statement that returns none.
        columns: the names of the rows' columns; empty for a statement that returns no rows.
        rowcount: how many rows INSERT, UPDATE, DELETE or REPLACE changed; -1 otherwise.
        lastrowid: the rowid of the last row that this INSERT or REPLACE added; without meaning
            after any other statement.
    """

    rows: list[tuple[Any, ...]]
    columns: tuple[str, ...]
    rowcount: int
    lastrowid: int | None


class Connection:
    """One SQLite connection, for the tasks of one Trio program.

    Opened by `connect`, or by `open` where something else will call `aclose`. The module's
    docstring has the rules that every call follows; each method says only what it adds.

    Every method that calls SQLite raises `trio.ClosedResourceError` once `aclose` was called, and
    `RuntimeError` in a forked child of the process that opened the connection. A function given to
    a connection must not wait for that same connection: its turn would never come.

    Attributes:
        path: the database file as it was given, or ``":memory:"``.
    """

    def __init__(self, raw: sqlite3.Connection, path: str, close_timeout: float) -> None:
        self.path = path
        self._raw = raw
        self._close_timeout = close_timeout
        self._state = ConnectionState.OPEN
        self._turn = anyio.CapacityLimiter(1)
        self._thread: OwnThread | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        now = self.statistics()
        activity = "running" if now.running else "idle"
        return f"<Connection {self.path!r} {now.state.value}, {activity}, {now.waiting} waiting>"

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        readonly: bool = False,
        busy_timeout: float = 0.05,
        cached_statements: int = 128,
        pragmas: Mapping[str, str | int] | None = None,
        close_timeout: float = 30.0,
    ) -> Self:
        """Open a connection that its owner closes with `aclose`, as a pool would.

        Arguments, errors and cancellation are those of `connect`.
        """
        path = os.fsdecode(path)
        if not 0 < close_timeout < math.inf:
            raise ValueError(f"close_timeout={close_timeout!r}: expected seconds, more than 0")
        open_raw = opener(
            path,
            readonly=readonly,
            busy_timeout=busy_timeout,
            cached_statements=cached_statements,
            pragmas=pragmas or {},
        )
        raw = await anyio.to_thread.run_sync(open_raw, limiter=anyio.CapacityLimiter(1))
        return cls(raw, path, close_timeout)

    async def run(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Call ``fn(raw, *args)`` in a worker thread, when this call's turn comes.

        Args:
            fn: called with the `sqlite3.Connection` and `args`; keyword arguments go through
                `functools.partial`. It returns plain values, since a cursor would be read in
                another thread, and ends every transaction it begins, since the next call may be
                another task's. A long one can let itself be cancelled by calling
                `trio.from_thread.check_cancelled` now and then.
            *args: further arguments of `fn`.

        Returns:
            What `fn` returned.

        Raises:
            BaseException: what `fn` raised.
        """
        self._check_usable()
        with hand_over():
            return await anyio.to_thread.run_sync(fn, self._raw, *args, limiter=self._turn)

    async def run_in_own_thread(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Do as `run` does, at half the cost of the hop, in a thread of the connection's own.

        The thread starts with the first such call and ends when the connection is closed. Trio
        does not know it: there `trio.from_thread` needs its `trio_token`, and
        `trio.from_thread.check_cancelled` does not work.
        """
        self._check_usable()
        if self._thread is None:
            self._thread = OwnThread(f"forebay.sqlite {self.path}")
        return await self._thread.run_sync(fn, self._raw, *args, limiter=self._turn)

    async def transaction(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Call ``fn(raw, *args)`` in a worker thread, inside one transaction: all or nothing.

        Arguments, result and errors are those of `transact`.
        """
        self._check_usable()
        with hand_over():
            return await anyio.to_thread.run_sync(
                transact, self._raw, fn, *args, limiter=self._turn
            )

    async def execute(self, sql: str, parameters: Parameters = ()) -> Result:
        """Execute one statement and read its whole result in the worker thread.

        Args:
            sql: one SQL statement.
            parameters: the values bound to it.

        Raises:
            sqlite3.Error: what SQLite answered.
        """
        return await self.run(_execute, sql, parameters)

    async def fetch_all(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Execute one statement and return all its rows. See `execute`."""
        return await self.run(_fetch_all, sql, parameters)

    async def fetch_one(self, sql: str, parameters: Parameters = ()) -> tuple[Any, ...] | None:
        """Execute one statement and return its first row, None where there is none.

        Further rows are not read. See `execute`.
        """
        return await self.run(_fetch_one, sql, parameters)

    async def aclose(self) -> None:
        """Close the connection, once the calls made before this one have had their turn.

        A transaction that is still open is rolled back by SQLite. May be called any number of
        times. In a forked child it leaves the connection, which is the parent's, alone.

        Cancelling does not cut it short: it closes the connection all the same, within
        ``close_timeout`` seconds.

        Raises:
            trio.TooSlowError: a call was still running after ``close_timeout`` seconds. No new
                call is let in; the connection is closed by calling `aclose` again.
        """
        if self._state is ConnectionState.CLOSED or self._pid != os.getpid():
            await trio.lowlevel.checkpoint()
            return
        self._state = ConnectionState.CLOSING
        with trio.move_on_after(self._close_timeout, shield=True) as scope:
            await anyio.to_thread.run_sync(self._raw.close, limiter=self._turn)
            self._state = ConnectionState.CLOSED
            if self._thread is not None:
                self._thread.stop()
        if scope.cancelled_caught:
            raise trio.TooSlowError(
                f"{self!r}: a call still runs after close_timeout={self._close_timeout} seconds; "
                "call aclose() again once it is over"
            )

    def statistics(self) -> ConnectionStatistics:
        """Return the state and the queue of the connection, at this moment."""
        turn = self._turn.statistics()
        return ConnectionStatistics(
            state=self._state, running=turn.borrowed_tokens > 0, waiting=turn.tasks_waiting
        )

    def _check_usable(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError(
                f"{self.path!r} was opened in process {self._pid} and this is its forked child "
                f"{os.getpid()}: a SQLite connection does not survive a fork, open another one here"
            )
        if self._state is not ConnectionState.OPEN:
            raise trio.ClosedResourceError(f"{self!r}: the connection was closed by aclose()")


@asynccontextmanager
async def connect(
    path: str | os.PathLike[str],
    *,
    readonly: bool = False,
    busy_timeout: float = 0.05,
    cached_statements: int = 128,
    pragmas: Mapping[str, str | int] | None = None,
    close_timeout: float = 30.0,
) -> AsyncGenerator[Connection, None]:
    """Open a `Connection` for the length of an ``async with`` block.

    A new database file is created with mode 0600, readable by its owner only, and SQLite gives the
    same mode to the files it keeps beside it. The path is never taken for a URI.

    Cancelled before its thread starts, it leaves no trace; after that it opens, and leaving the
    block closes. Leaving the block is `Connection.aclose`, however it is left.

    Args:
        path: the database file, or ``":memory:"`` for one that this connection alone can see.
        readonly: refuse every write, and a file that is not there.
        busy_timeout: how long SQLite waits for another connection's lock, in seconds. Short,
            since a thread inside that wait cannot be woken: to wait for longer, call again after
            a `trio.sleep`.
        cached_statements: how many prepared statements are kept for reuse.
        pragmas: settings, by name or ``schema.name``, made in this order once the file is open.
        close_timeout: how long closing waits for the calls made before it, in seconds.

    Yields:
        The connection.

    Raises:
        OSError: the file cannot be there (no such folder, a folder itself, no permission).
        sqlite3.Error: SQLite refused the file or a pragma; the message bears the path.
        ValueError: an argument cannot be used, a pragma unknown to SQLite among them, which SQLite
            itself would pass over in silence.
        trio.TooSlowError: see `Connection.aclose`.
    """
    connection = await Connection.open(
        path,
        readonly=readonly,
        busy_timeout=busy_timeout,
        cached_statements=cached_statements,
        pragmas=pragmas,
        close_timeout=close_timeout,
    )
    try:
        yield connection
    finally:
        await connection.aclose()


# Cursors are closed at once: one that was not read to its end would keep its read lock.


def _execute(raw: sqlite3.Connection, sql: str, parameters: Parameters) -> Result:
    with closing(raw.execute(sql, parameters)) as cursor:
        rows = cursor.fetchall()
        columns = tuple(column[0] for column in cursor.description or ())
        return Result(rows, columns, cursor.rowcount, cursor.lastrowid)


def _fetch_all(raw: sqlite3.Connection, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    with closing(raw.execute(sql, parameters)) as cursor:
        return cursor.fetchall()


def _fetch_one(raw: sqlite3.Connection, sql: str, parameters: Parameters) -> tuple[Any, ...] | None:
    with closing(raw.execute(sql, parameters)) as cursor:
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row
