"""A connection that the tasks of a Trio program share, one call at a time."""

from __future__ import annotations

import enum
import math
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, TypeVar, TypeVarTuple

import trio

from forebay._owner import Owner
from forebay._protection import protected_context, raise_together, run_to_end
from forebay.sqlite._opening import make_opener
from forebay.sqlite._thread import BegunCall, ConnectionThread
from forebay.sqlite._transaction import transact

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]
"""The values to bind to a statement: a sequence for ``?``, a mapping for ``:name``."""


class ConnectionState(enum.Enum):
    """The states of a connection."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True)
class ConnectionStatistics:
    """The state of a connection at one moment.

    Attributes:
        state: whether it is open, closing or closed.
        running: whether a call runs in a thread.
        waiting: the number of calls that wait for their turn, including `Connection.aclose`.
    """

    state: ConnectionState
    running: bool
    waiting: int


@dataclass(frozen=True)
class Result:
    """The result of one statement.

    Attributes:
        rows: all rows, in order; empty if the statement returns no rows.
        columns: the names of the columns; empty if the statement returns no rows.
        rowcount: the number of rows that INSERT, UPDATE, DELETE or REPLACE changed; otherwise -1.
        lastrowid: the rowid of the last row that INSERT or REPLACE added; undefined after any
            other statement.
    """

    rows: list[tuple[Any, ...]]
    columns: tuple[str, ...]
    rowcount: int
    lastrowid: int | None


class Connection:
    """One SQLite connection that the tasks of one Trio program share.

    `connect` opens a connection for a block; `open` opens one that you close with `aclose`. The
    docstring of `forebay.sqlite` has the rules that every call follows.

    Every method that calls SQLite raises `trio.ClosedResourceError` after `aclose` was called, and
    `RuntimeError` in a thread or process other than the one that opened the connection. A function
    that runs on a connection must not wait for a call on the same connection: this is a deadlock.

    Attributes:
        path: the path of the database file, as passed, or ``":memory:"``.
    """

    def __init__(
        self,
        raw: sqlite3.Connection,
        path: str,
        thread: ConnectionThread,
        *,
        readonly: bool,
        close_timeout: float,
    ) -> None:
        self.path = path
        self._raw = raw
        self._thread = thread
        # To interrupt a statement that writes could roll back a transaction of several calls.
        self._interrupt = raw.interrupt if readonly else None
        self._close_timeout = close_timeout
        self._state = ConnectionState.OPEN
        self._closes_later = False
        self._owner = Owner(
            repr(path), calls="trio.from_thread.run(connection.run, fn, trio_token=token)"
        )

    def __repr__(self) -> str:
        now = self.statistics()
        activity = "running" if now.running else "idle"
        return f"<Connection {self.path!r} {now.state.value}, {activity}, {now.waiting} waiting>"

    @classmethod
    @trio.lowlevel.enable_ki_protection  # or an interrupt could leave an open file to nobody
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        readonly: bool = False,
        mode: int = 0o600,
        busy_timeout: float = 0.05,
        cached_statements: int = 128,
        pragmas: Mapping[str, str | int] | None = None,
        uri_parameters: Mapping[str, str] | None = None,
        configure: Callable[[sqlite3.Connection], object] | None = None,
        factory: type[sqlite3.Connection] = sqlite3.Connection,
        close_timeout: float = 30.0,
    ) -> Self:
        """Open a connection that the caller closes with `aclose`.

        Arguments, errors and cancellation are the same as for `connect`.
        """
        path = os.fsdecode(path)
        if not 0 < close_timeout < math.inf:
            raise ValueError(
                f"close_timeout={close_timeout!r}: expected a finite number of seconds above 0"
            )
        open_raw = make_opener(
            path,
            readonly=readonly,
            mode=mode,
            busy_timeout=busy_timeout,
            cached_statements=cached_statements,
            pragmas=pragmas or {},
            uri_parameters=uri_parameters or {},
            configure=configure,
            factory=factory,
        )
        thread = ConnectionThread(f"forebay.sqlite {path}")
        try:
            raw = await thread.run_sync(open_raw)
        except BaseException:
            thread.stop()
            raise
        return cls(raw, path, thread, readonly=readonly, close_timeout=close_timeout)

    async def run(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Wait for this call's turn, then call ``fn(raw, *args)`` in the connection's thread.

        Args:
            fn: called with the `sqlite3.Connection` and `args`; bind keyword arguments with
                `functools.partial`. It must return plain values, because a cursor would be read
                in another thread. It must end every transaction that it begins, because the next
                call may come from another task. A long function can call
                `trio.from_thread.check_cancelled` at intervals, which raises if the caller is
                cancelled.
            *args: further arguments of `fn`.

        Returns:
            The result of `fn`.

        Raises:
            BaseException: the exception of `fn`.
        """
        self._check_usable()
        return await self._thread.run_sync(fn, self._raw, *args)

    async def run_eagerly(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Call ``fn(raw, *args)`` like `run`, but let other tasks run only if this has to wait.

        After a short function, no other task has run when this returns. So the caller can act on
        the result first. It must await a checkpoint of its own soon after.
        """
        self._check_usable()
        return await self._thread.run_sync(fn, self._raw, *args, eager=True)

    def begin(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> BegunCall[T]:
        """Begin to call ``fn(raw, *args)`` in the connection's thread, without waiting for a turn.

        If the function is short, it has ended when this returns. No other task runs meanwhile.

        Returns:
            The call. `BegunCall.wait` returns the result of the function, or raises its exception.

        Raises:
            trio.WouldBlock: another call has the turn, or the last one was not short. `fn` is not
                called.
        """
        self._check_usable()
        return self._thread.begin(fn, self._raw, *args)

    async def transaction(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Call ``fn(raw, *args)`` in the connection's thread, inside one transaction.

        Arguments, result and errors are the same as for `transact`.
        """
        self._check_usable()
        return await self._thread.run_sync(transact, self._raw, fn, *args)

    async def read(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Call ``fn(raw, *args)`` like `run`, and interrupt it if the task is cancelled.

        If the connection is ``readonly``, the cancellation interrupts the statement that runs, and
        the next one, and is raised once `fn` has ended.
        """
        self._check_usable()
        return await self._thread.run_sync(fn, self._raw, *args, interrupt=self._interrupt)

    async def execute(self, sql: str, parameters: Parameters = ()) -> Result:
        """Execute one statement and read its whole result in the connection's thread.

        Args:
            sql: one SQL statement.
            parameters: the values to bind.

        Raises:
            sqlite3.Error: the error of SQLite.
        """
        return await self.run(_execute, sql, parameters)

    async def fetch_all(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Execute one statement and return all its rows. See `execute`.

        If the task is cancelled and the connection is ``readonly``, the statement is interrupted,
        and the cancellation is raised once it has ended.
        """
        return await self.read(_fetch_all, sql, parameters)

    async def fetch_one(self, sql: str, parameters: Parameters = ()) -> tuple[Any, ...] | None:
        """Execute one statement and return its first row, or None. See `fetch_all`.

        Further rows are not read.
        """
        return await self.read(_fetch_one, sql, parameters)

    @trio.lowlevel.enable_ki_protection  # also as a task of its own, as `Readers` calls it
    async def aclose(self) -> None:
        """Wait for the calls made before this one, then close the connection.

        SQLite rolls back a transaction that is still open. You may call this any number of times.
        In a forked child it does nothing, because the connection belongs to the parent process.

        Cancellation does not interrupt it: it closes the connection within ``close_timeout``
        seconds.

        Raises:
            trio.TooSlowError: a call was still running after ``close_timeout`` seconds. New calls
                are refused, and the connection is closed when the running call has ended.
        """
        if self._state is ConnectionState.CLOSED or not self._owner.is_this_process:
            await trio.lowlevel.checkpoint()
            return
        self._state = ConnectionState.CLOSING
        with trio.move_on_after(self._close_timeout, shield=True) as scope:
            await self._close()
        if scope.cancelled_caught:
            if not self._closes_later:
                self._closes_later = True
                trio.lowlevel.spawn_system_task(self._close)
            raise trio.TooSlowError(
                f"{self!r}: a call still runs after close_timeout={self._close_timeout} seconds; "
                "the connection is closed when it has ended"
            )

    @trio.lowlevel.enable_ki_protection  # also as a system task
    async def _close(self) -> None:
        try:
            await self._thread.run_sync(self._raw.close)
        except trio.RunFinishedError:  # `trio.run` has ended since, or another task closed it
            self._raw.close()
        self._thread.stop()
        self._state = ConnectionState.CLOSED

    def statistics(self) -> ConnectionStatistics:
        """Return the state of the connection and the number of waiting calls."""
        return ConnectionStatistics(
            state=self._state, running=self._thread.running, waiting=self._thread.waiting
        )

    def _check_usable(self) -> None:
        self._owner.check()
        if self._state is not ConnectionState.OPEN:
            raise trio.ClosedResourceError(f"{self!r}: aclose() was called on this connection")


@protected_context
async def connect(
    path: str | os.PathLike[str],
    *,
    readonly: bool = False,
    mode: int = 0o600,
    busy_timeout: float = 0.05,
    cached_statements: int = 128,
    pragmas: Mapping[str, str | int] | None = None,
    uri_parameters: Mapping[str, str] | None = None,
    configure: Callable[[sqlite3.Connection], object] | None = None,
    factory: type[sqlite3.Connection] = sqlite3.Connection,
    close_timeout: float = 30.0,
) -> AsyncGenerator[Connection, None]:
    """Open a `Connection` for the time of an ``async with`` block.

    By default only the owner of a new database file can read it. The path is never interpreted as
    a URI.

    If the task is cancelled before the thread starts, no file is created. After that, the
    connection is opened, and the end of the block closes it. The block always ends with
    `Connection.aclose`.

    Args:
        path: the database file, or ``":memory:"`` for a database that only this connection sees.
        readonly: refuse to write, and refuse a file that does not exist.
        mode: the permissions of a new database file, whatever the umask is. SQLite creates the
            files beside it with the same permissions. An existing file keeps its own.
        busy_timeout: how long SQLite waits for another connection's lock, in seconds. Keep it
            short, because a thread in that wait cannot be woken. To wait longer, sleep with
            `trio.sleep` and call again.
        cached_statements: the number of prepared statements to keep for reuse.
        pragmas: settings by name or ``schema.name``, set in this order when the file is open.
        uri_parameters: how SQLite opens the file, such as ``{"immutable": "1"}``; see
            https://sqlite.org/uri.html#recognized_query_parameters.
        configure: called once with the `sqlite3.Connection`, after the pragmas were set, in the
            thread that opened it: it can create SQL functions, for example. If it raises, the
            connection is closed, and the error is raised.
        factory: the class of the `sqlite3.Connection`.
        close_timeout: how long closing waits for the calls made before it, in seconds.

    Yields:
        The connection.

    Raises:
        OSError: the file cannot be opened or created: its folder does not exist, the path is a
            folder, or the permission is missing.
        sqlite3.Error: SQLite refused the file or a pragma; the message has the path.
        ValueError: an argument is invalid, for example a pragma that SQLite does not know, which
            SQLite itself ignores.
        trio.TooSlowError: see `Connection.aclose`.
    """
    connection = await Connection.open(
        path,
        readonly=readonly,
        mode=mode,
        busy_timeout=busy_timeout,
        cached_statements=cached_statements,
        pragmas=pragmas,
        uri_parameters=uri_parameters,
        configure=configure,
        factory=factory,
        close_timeout=close_timeout,
    )
    errors: list[BaseException] = []
    try:
        yield connection
    except BaseException as error:  # noqa: BLE001  # raised again when the connection is closed
        errors.append(error)
    errors += await run_to_end(connection.aclose)
    raise_together(f"the connection to {connection.path!r} was closed after an error", errors)


# These close the cursor at once: until it is read to its end, a cursor holds a read lock.


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
