"""How long does a call take, against the call of Trio that it resembles most?

A call that enqueues is compared with `send_nowait` or `send` of a memory channel, which carries the
same rows of four columns. Buffer and channel have room for all of them, and nothing takes them out
before the clock has stopped. For `enqueue_many` the cost is that of a row.

A call that uses the database is compared with `trio.to_thread.run_sync` of a function that does
nothing: `write` by one task, `fetch_one` of a constant, and `store.run` of an empty transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import trio

import forebay
from benchmarks.contestants import without_database
from benchmarks.harness import Case, Contestant
from benchmarks.results import Measure
from benchmarks.workload import Workload, visits

COST = Measure("cost", "s", more_is_better=False)

BufferCalls: TypeAlias = Callable[[forebay.Buffer[Any], Workload], Awaitable[object]]
StoreCalls: TypeAlias = Callable[[forebay.SqliteStore, Workload], Awaitable[object]]
"""A function that makes one call per row of the workload."""


def cases(full: bool) -> Iterator[Case]:
    rows = visits("sequential", 100_000 if full else 40_000)
    few = rows.first(2_000 if full else 500)
    send_nowait = without_database("send_nowait", partial(trio.run, _send_nowait, rows))
    send = without_database("send", partial(trio.run, _send, rows))
    hop = without_database("to_thread.run_sync", partial(trio.run, _hop, few))
    for contestant, counterpart in (
        (_of_buffer("enqueue_nowait", _enqueue_nowait, rows), send_nowait),
        (_of_buffer("enqueue", _enqueue, rows), send),
        (_of_buffer("enqueue_many", _enqueue_many, rows), send_nowait),
        (_updates("enqueue_update_nowait", _enqueue_update_nowait, rows), send_nowait),
        (_updates("enqueue_update", _enqueue_update, rows), send),
        (_deletes("enqueue_delete_nowait", _enqueue_delete_nowait, rows), send_nowait),
        (_deletes("enqueue_delete", _enqueue_delete, rows), send),
        (_of_buffer("write", _write, few, flush_interval=0.2), hop),
        (_of_store("fetch_one", _fetch_one, few), hop),
        (_of_store("store.run", _run, few), hop),
    ):
        yield Case(
            "one_call",
            contestant.name,
            [COST],
            [contestant, counterpart],
            rounds=21 if full else 7,
        )


def _of_buffer(
    name: str, calls: BufferCalls, work: Workload, *, flush_interval: float = inf
) -> Contestant:
    """Return the contestant that makes a call per row of an empty table."""
    options = forebay.BufferOptions(
        capacity=2 * len(work.rows), batch_size=2 * len(work.rows), flush_interval=flush_interval
    )

    async def main(path: Path) -> Mapping[str, float]:
        async with (
            forebay.open_sqlite(path) as store,
            forebay.open_buffers(store, work.table, options=options) as buffers,
        ):
            started = perf_counter()
            await calls(buffers[work.table], work)
            return _cost(started, work)

    return Contestant(
        name, lambda path: trio.run(main, path), check=work.check, prepare=work.create
    )


def _updates(name: str, calls: BufferCalls, work: Workload) -> Contestant:
    """Return the contestant that updates each row, whose `seconds` are wrong before."""
    before = replace(work, rows=[row._replace(seconds=-1.0) for row in work.rows])
    return replace(_of_buffer(name, calls, work), prepare=before.fill)


def _deletes(name: str, calls: BufferCalls, work: Workload) -> Contestant:
    """Return the contestant that deletes each row."""
    return replace(_of_buffer(name, calls, work), prepare=work.fill, check=work.first(0).check)


def _of_store(name: str, calls: StoreCalls, work: Workload) -> Contestant:
    """Return the contestant that makes as many calls as there are rows, and writes nothing."""

    async def main(path: Path) -> Mapping[str, float]:
        async with forebay.open_sqlite(path) as store:
            started = perf_counter()
            await calls(store, work)
            return _cost(started, work)

    return Contestant(name, lambda path: trio.run(main, path), work.first(0).check, work.create)


def _cost(started: float, work: Workload) -> Mapping[str, float]:
    return {COST.name: (perf_counter() - started) / len(work.rows)}


async def _enqueue_nowait(buffer: forebay.Buffer[Any], work: Workload) -> None:
    for row in work.rows:
        buffer.enqueue_nowait(row)


async def _enqueue(buffer: forebay.Buffer[Any], work: Workload) -> None:
    for row in work.rows:
        await buffer.enqueue(row)


async def _enqueue_many(buffer: forebay.Buffer[Any], work: Workload) -> None:
    await buffer.enqueue_many(work.rows)


async def _enqueue_update_nowait(buffer: forebay.Buffer[Any], work: Workload) -> None:
    for row in work.rows:
        buffer.enqueue_update_nowait(row.url, seconds=row.seconds)


async def _enqueue_update(buffer: forebay.Buffer[Any], work: Workload) -> None:
    for row in work.rows:
        await buffer.enqueue_update(row.url, seconds=row.seconds)


async def _enqueue_delete_nowait(buffer: forebay.Buffer[Any], work: Workload) -> None:
    for row in work.rows:
        buffer.enqueue_delete_nowait(row.url)


async def _enqueue_delete(buffer: forebay.Buffer[Any], work: Workload) -> None:
    for row in work.rows:
        await buffer.enqueue_delete(row.url)


async def _write(buffer: forebay.Buffer[Any], work: Workload) -> None:
    for row in work.rows:
        await buffer.write(row)


async def _fetch_one(store: forebay.SqliteStore, work: Workload) -> None:
    for _ in work.rows:
        await store.fetch_one("SELECT 1")


async def _run(store: forebay.SqliteStore, work: Workload) -> None:
    def nothing(_raw: sqlite3.Connection) -> None:
        """Leave the transaction empty."""

    for _ in work.rows:
        await store.run(nothing)


async def _send_nowait(work: Workload) -> Mapping[str, float]:
    send, _receive = trio.open_memory_channel[Any](len(work.rows))
    started = perf_counter()
    for row in work.rows:
        send.send_nowait(row)
    return _cost(started, work)


async def _send(work: Workload) -> Mapping[str, float]:
    send, _receive = trio.open_memory_channel[Any](len(work.rows))
    started = perf_counter()
    for row in work.rows:
        await send.send(row)
    return _cost(started, work)


async def _hop(work: Workload) -> Mapping[str, float]:
    started = perf_counter()
    for _ in work.rows:
        await trio.to_thread.run_sync(int)
    return _cost(started, work)
