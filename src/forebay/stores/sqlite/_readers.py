"""Connections for reading, so that a reader never waits for the writer."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import trio

from forebay.sqlite import Connection

_CLOSE_TIMEOUT = 30.0
"""Seconds, as many as a connection waits for its calls when it closes."""


_REFUSED = frozenset(
    {
        sqlite3.SQLITE_ATTACH,  # another file could be written to, or made; VACUUM INTO needs it
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_TRANSACTION,  # left open, it would hide all that is committed later
        sqlite3.SQLITE_SAVEPOINT,
    }
)
"""What a statement may not do on a read-only connection that somebody else uses after it."""


def _let_it_only_read(raw: sqlite3.Connection) -> None:
    """Refuse what a file that is opened read-only does not."""

    def authorize(action: int, *_: object) -> int:
        return sqlite3.SQLITE_DENY if action in _REFUSED else sqlite3.SQLITE_OK

    raw.set_authorizer(authorize)


class Readers:
    """Read-only connections to one file, opened when one is needed and kept for the next."""

    def __init__(
        self, path: str | os.PathLike[str], *, most: int, pragmas: Mapping[str, str | int]
    ) -> None:
        self._path = path
        self._pragmas = pragmas
        self._turns = trio.Semaphore(most)
        self._idle: list[Connection] = []
        self._all: list[Connection] = []
        self._closed = False
        self._calls = 0
        self._last_call_ended = trio.Event()
        self._pid = os.getpid()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection, None]:
        """Lend a connection. Waits, first come, first served, while all are lent.

        Raises:
            trio.ClosedResourceError: `aclose` was called.
            RuntimeError: this is a forked child of the process that opened the store.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"the store {self._path!r} belongs to process {self._pid}, and this is a fork of "
                f"it: open a store after the fork"
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
        await connection.run(_let_it_only_read)
        return connection

    async def aclose(self) -> None:
        """Lend no more, wait for the calls made before, and close all connections.

        Cancelling does not cut it short: it waits for `_CLOSE_TIMEOUT` seconds at the most, and
        what is not over by then finds its connection closed.
        """
        self._closed = True
        if self._calls:
            with trio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await self._last_call_ended.wait()
        async with trio.open_nursery() as nursery:
            for connection in self._all:
                nursery.start_soon(connection.aclose)
