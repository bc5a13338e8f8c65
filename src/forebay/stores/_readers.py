"""Connections for reading, so that a reader never waits for the writer."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
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

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection. Waits, first come, first served, while all are lent."""
        async with self._turns:
            if self._idle:
                connection = self._idle.pop()
            else:
                connection = await Connection.open(self._path, readonly=True, pragmas=self._pragmas)
                self._all.append(connection)
            try:
                yield connection
            finally:
                self._idle.append(connection)

    async def aclose(self) -> None:
        """Close all of them, at the same time."""
        async with trio.open_nursery() as nursery:
            for connection in self._all:
                nursery.start_soon(connection.aclose)
