"""Read-only connections, so that a reader never waits for the writer."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import trio

from forebay.sqlite import Connection

_CLOSE_TIMEOUT = 30.0
"""The longest wait for running calls when the readers close, in seconds.

A connection waits as long for its calls.
"""

_REFUSED_ACTIONS = frozenset(
    {
        sqlite3.SQLITE_ATTACH,  # it could write to another file or create one; so could VACUUM INTO
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_TRANSACTION,  # an open transaction would hide all later commits
        sqlite3.SQLITE_SAVEPOINT,
    }
)
"""The actions that would affect another file, or the next query on the same connection."""


def _refuse_actions(raw: sqlite3.Connection) -> None:
    """Refuse the actions that a read-only file allows and a shared connection must not do."""

    def authorize(action: int, *_: object) -> int:
        return sqlite3.SQLITE_DENY if action in _REFUSED_ACTIONS else sqlite3.SQLITE_OK

    raw.set_authorizer(authorize)


class Readers:
    """Read-only connections to one file. They are opened when needed, and kept for reuse."""

    def __init__(
        self, path: str | os.PathLike[str], *, limit: int, pragmas: Mapping[str, str | int]
    ) -> None:
        self._path = path
        self._pragmas = pragmas
        self._turns = trio.Semaphore(limit)
        self._idle: list[Connection] = []
        self._all: list[Connection] = []
        self._closed = False
        self._calls = 0
        self._last_call_ended = trio.Event()
        self._pid = os.getpid()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection, None]:
        """Acquire a connection for the time of a block. Waiting tasks are served in order.

        Raises:
            trio.ClosedResourceError: the store is closed.
            RuntimeError: this process is a fork of the one that opened the store.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"the store {self._path!r} was opened in process {self._pid}, and this is a fork "
                f"of that process: open a store after the fork"
            )
        if self._closed:
            raise trio.ClosedResourceError(f"the store {self._path!r} is closed")
        self._calls += 1
        try:
            async with self._turns:
                connection = self._idle.pop() if self._idle else await self._open()
                try:
                    yield connection
                finally:
                    self._idle.append(connection)
        finally:
            self._end_call()

    def _end_call(self) -> None:
        self._calls -= 1
        if self._closed and not self._calls:
            self._last_call_ended.set()

    async def _open(self) -> Connection:
        connection = await Connection.open(self._path, readonly=True, pragmas=self._pragmas)
        self._all.append(connection)
        await connection.run(_refuse_actions)
        return connection

    async def aclose(self) -> None:
        """Refuse new calls, wait for the calls made before, and close all connections.

        Cancellation does not interrupt it: it waits for at most `_CLOSE_TIMEOUT` seconds. A call
        that has not ended by then finds its connection closed.
        """
        self._closed = True
        if self._calls:
            with trio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await self._last_call_ended.wait()
        async with trio.open_nursery() as nursery:
            for connection in self._all:
                nursery.start_soon(connection.aclose)
