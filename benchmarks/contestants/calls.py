"""Contestants that do one thing per call: read a row, execute a transaction, write a row.

Each function here opens a database and yields its calls, by the name of what they do. A call takes
a row of the workload. A function whose name ends in `_fastest` yields the fastest calls that the
library documents, unless they are those that it documents first.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import aiosqlite
import apsw
import sqlite_anyio
import trio

import forebay
from benchmarks.workload import Workload

Synchronous: TypeAlias = Literal["NORMAL", "FULL"]
Operation: TypeAlias = Literal["read", "transaction", "write"]
OPERATIONS: tuple[Operation, ...] = ("read", "transaction", "write")
Call: TypeAlias = Callable[[Any], Awaitable[Any]]
Calls: TypeAlias = Mapping[Operation, Call]
Opener: TypeAlias = Callable[[Path, Workload, Synchronous], AbstractAsyncContextManager[Calls]]


@asynccontextmanager
async def ours(path: Path, work: Workload, synchronous: Synchronous) -> AsyncIterator[Calls]:
    """Call `fetch_one`, `store.run` and `write`."""
    select, upsert = work.select(), work.upsert()

    def execute(raw: sqlite3.Connection, row: Any) -> None:
        raw.execute(upsert, row)

    async with (
        forebay.open_sqlite(path, synchronous=synchronous) as store,
        forebay.open_buffers(store, work.table) as buffers,
    ):
        yield {
            "read": lambda row: store.fetch_one(select, row[:1]),
            "transaction": lambda row: store.run(execute, row),
            "write": buffers[work.table].write,
        }


@asynccontextmanager
async def by_aiosqlite(
    path: Path, work: Workload, synchronous: Synchronous
) -> AsyncIterator[Calls]:
    """Call `execute`, then `fetchone` or `commit`, on asyncio."""
    select, upsert = work.select(), work.upsert()
    async with aiosqlite.connect(path) as db:
        await db.execute(f"PRAGMA synchronous = {synchronous}")

        async def read(row: Any) -> Any:
            async with db.execute(select, row[:1]) as cursor:
                return await cursor.fetchone()

        async def write(row: Any) -> None:
            await db.execute(upsert, row)
            await db.commit()

        yield {"read": read, "transaction": write, "write": write}


@asynccontextmanager
async def by_aiosqlite_fastest(
    path: Path, work: Workload, synchronous: Synchronous
) -> AsyncIterator[Calls]:
    """Call `execute_fetchall`, or `execute` without an explicit transaction, on asyncio."""
    select, upsert = work.select(), work.upsert()
    async with aiosqlite.connect(path, isolation_level=None) as db:
        await db.execute(f"PRAGMA synchronous = {synchronous}")

        async def read(row: Any) -> Any:
            [found] = await db.execute_fetchall(select, row[:1])
            return found

        async def write(row: Any) -> None:
            await db.execute(upsert, row)

        yield {"read": read, "write": write}


@asynccontextmanager
async def by_sqlite_anyio(
    path: Path, work: Workload, synchronous: Synchronous
) -> AsyncIterator[Calls]:
    """Call `execute`, then `fetchone` or `commit`, on Trio."""
    select, upsert = work.select(), work.upsert()
    db = await sqlite_anyio.connect(str(path))

    async def read(row: Any) -> Any:
        cursor = await db.execute(select, row[:1])
        return await cursor.fetchone()

    async def write(row: Any) -> None:
        await db.execute(upsert, row)
        await db.commit()

    try:
        await db.execute(f"PRAGMA synchronous = {synchronous}")
        yield {"read": read, "transaction": write, "write": write}
    finally:
        await db.close()


@asynccontextmanager
async def by_apsw(path: Path, work: Workload, synchronous: Synchronous) -> AsyncIterator[Calls]:
    """Call `execute` and `get`, `execute` in `async with`, or `execute` alone, on Trio.

    `apsw.aio` finds out that Trio runs, and executes each call in a thread of the connection.
    """
    select, upsert = work.select(), work.upsert()
    async with aclosing(await apsw.Connection.as_async(str(path))) as db:
        await db.pragma("synchronous", synchronous)

        async def read(row: Any) -> Any:
            cursor = await db.execute(select, row[:1])
            return await cursor.get

        async def transaction(row: Any) -> None:
            async with db:
                await db.execute(upsert, row)

        async def write(row: Any) -> None:
            await db.execute(upsert, row)

        yield {"read": read, "transaction": transaction, "write": write}


@asynccontextmanager
async def by_apsw_fastest(
    path: Path, work: Workload, synchronous: Synchronous
) -> AsyncIterator[Calls]:
    """Call `async_run` with a function that does all in the connection's thread, on Trio."""
    select, upsert = work.select(), work.upsert()
    async with aclosing(await apsw.Connection.as_async(str(path))) as db:
        await db.pragma("synchronous", synchronous)

        def read(row: Any) -> Any:
            return db.execute(select, row[:1]).get

        def transaction(row: Any) -> None:
            with db:
                db.execute(upsert, row)

        yield {
            "read": lambda row: db.async_run(read, row),
            "transaction": lambda row: db.async_run(transaction, row),
        }


def _run_asyncio(main: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    async def run() -> Any:
        return await main(*args)

    return asyncio.run(run())


class Library(NamedTuple):
    """One way to use a library.

    Attributes:
        open: the function that opens a database.
        run: runs an async function, with its arguments, on the event loop that the library needs.
        operations: the calls that the function yields.
    """

    open: Opener
    run: Callable[..., Any] = trio.run
    operations: Sequence[Operation] = OPERATIONS


LIBRARIES: Mapping[str, Library] = {
    "forebay": Library(ours),
    "aiosqlite": Library(by_aiosqlite, _run_asyncio),
    "aiosqlite, fastest": Library(by_aiosqlite_fastest, _run_asyncio, ("read", "write")),
    "sqlite-anyio": Library(by_sqlite_anyio),
    "apsw.aio": Library(by_apsw),
    "apsw.aio, fastest": Library(by_apsw_fastest, operations=("read", "transaction")),
}
