"""Connections for reading, so that a reader never waits for the writer."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import trio

from forebay.sqlite import Connection


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
        async with self._turns:
            self._check_open()
            connection = self._idle.pop() if self._idle else await self._open()
            try:
                yield connection
            finally:
                self._idle.append(connection)

    async def _open(self) -> Connection:
        connection = await Connection.open(self._path, readonly=True, pragmas=self._pragmas)
        if self._closed:  # meanwhile, and without this one
            await connection.aclose()
        self._check_open()
        self._all.append(connection)
        return connection

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"the store {self._path!r} is closed")

    async def aclose(self) -> None:
        """Close all of them, at the same time, and open no more."""
        self._closed = True
        async with trio.open_nursery() as nursery:
            for connection in self._all:
                nursery.start_soon(connection.aclose)
