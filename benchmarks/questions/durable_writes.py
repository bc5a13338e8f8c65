"""How many rows per second are written when each task waits for the COMMIT of its own row?

With `synchronous` FULL each COMMIT waits for the disk; forebay's tasks that write at the same time
share a transaction. The tasks of aiosqlite and sqlite-anyio share one connection, and so take turns
by a lock around the transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import aiosqlite
import anyio
import sqlite_anyio
import trio

import forebay
from benchmarks.contestants import by_hand
from benchmarks.harness import Case, Contestant
from benchmarks.results import RATE
from benchmarks.workload import Workload, entries

Synchronous = Literal["NORMAL", "FULL"]


def cases(full: bool) -> Iterator[Case]:
    for synchronous in ("FULL", "NORMAL") if full else ("FULL",):
        for tasks in (1, 10, 100, 1_000) if full else (1, 100, 1_000):
            many = entries("sequential", max(3_000, 20 * tasks))
            few = many.first(max(tasks, 1_000))
            contestants = [
                _contestant("forebay", _forebay, many, tasks, synchronous),
                _contestant("aiosqlite", _aiosqlite, few, tasks, synchronous),
                _contestant("sqlite-anyio", _sqlite_anyio, few, tasks, synchronous),
            ]
            if tasks == 1:
                contestants.append(_contestant("sqlite3", _sqlite3, few, tasks, synchronous))
            yield Case(
                "durable_writes",
                f"{tasks:,} task{'s' * (tasks > 1)}, {synchronous}",
                [RATE],
                contestants,
                rounds=11 if full else 5,
            )


Write = Callable[[Path, Workload, int, Any], float]


def _contestant(
    name: str, write: Write, work: Workload, tasks: int, synchronous: str
) -> Contestant:
    def run(path: Path) -> Mapping[str, float]:
        return {"rate": len(work.rows) / write(path, work, tasks, synchronous)}

    return Contestant(name, run, check=work.check, prepare=work.create)


def _forebay(path: Path, work: Workload, tasks: int, synchronous: Synchronous) -> float:
    async def main() -> float:
        async with (
            forebay.open_sqlite(path, synchronous=synchronous) as store,
            forebay.open_buffers(store, work.table) as buffers,
        ):
            write = buffers[work.table].write
            return await _write_by_trio_tasks(write, work, tasks)

    return trio.run(main)


async def _write_by_trio_tasks(
    write: Callable[[Any], Awaitable[None]], work: Workload, tasks: int
) -> float:
    rows = iter(work.rows)

    async def produce() -> None:
        for row in rows:
            await write(row)

    started = perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(produce)
    return perf_counter() - started


def _aiosqlite(path: Path, work: Workload, tasks: int, synchronous: str) -> float:
    async def main() -> float:
        sql = work.upsert()
        rows = iter(work.rows)
        lock = asyncio.Lock()
        async with aiosqlite.connect(path) as db:
            await db.execute(f"PRAGMA synchronous = {synchronous}")

            async def produce() -> None:
                for row in rows:
                    async with lock:
                        await db.execute(sql, row)
                        await db.commit()

            started = perf_counter()
            async with asyncio.TaskGroup() as group:
                for _ in range(tasks):
                    group.create_task(produce())
            return perf_counter() - started

    return asyncio.run(main())


def _sqlite_anyio(path: Path, work: Workload, tasks: int, synchronous: str) -> float:
    async def main() -> float:
        sql = work.upsert()
        lock = anyio.Lock()
        db = await sqlite_anyio.connect(str(path))
        try:
            await db.execute(f"PRAGMA synchronous = {synchronous}")

            async def write(row: Any) -> None:
                async with lock:
                    await db.execute(sql, row)
                    await db.commit()

            return await _write_by_trio_tasks(write, work, tasks)
        finally:
            await db.close()

    return anyio.run(main, backend="trio")


def _sqlite3(path: Path, work: Workload, _tasks: int, synchronous: str) -> float:
    sql = work.upsert()
    with closing(by_hand.connect(path, synchronous)) as raw:
        started = perf_counter()
        for row in work.rows:
            raw.execute(sql, row)
        return perf_counter() - started
