"""How long does a flush of 5,000 rows take while the event loop is idle, half busy or saturated?

The flush runs in a thread, which shares the GIL with the event loop. A busy loop works in slices of
1 ms. A half busy loop sleeps for 1 ms after each slice; a saturated loop only lets other tasks run.
`executemany` in a thread releases the GIL once per row, and has to acquire it again each time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import trio

from benchmarks.contestants import ours
from benchmarks.harness import Case, Contestant
from benchmarks.results import Measure
from benchmarks.workload import Workload, entries

Load = Literal["idle", "half busy", "saturated"]

SLICE = 0.001
FLUSH = Measure("flush", "s", more_is_better=False)
LONGEST = Measure("longest pause", "s", more_is_better=False)
"""The longest time from the end of a slice to the start of the next, beyond the sleep."""


def cases(full: bool) -> Iterator[Case]:
    work = entries("sequential", 5_000)
    loads: tuple[Load, ...] = ("idle", "half busy", "saturated")
    contestants = [_contestant("forebay", _forebay, work, load) for load in loads]
    contestants += [
        # Beside a saturated loop it takes 10 s and more.
        _contestant("executemany in a thread", _executemany, work, load)
        for load in (loads if full else loads[:2])
    ]
    yield Case("busy_loop", "5,000 rows", [FLUSH, LONGEST], contestants, rounds=11 if full else 9)


def _contestant(
    name: str,
    flush: Callable[[Path, Workload, Load], Awaitable[Mapping[str, float]]],
    work: Workload,
    load: Load,
) -> Contestant:
    def run(path: Path) -> Mapping[str, float]:
        return trio.run(flush, path, work, load)

    return Contestant(f"{name}, {load}", run, check=work.check, prepare=work.create)


async def _forebay(path: Path, work: Workload, load: Load) -> Mapping[str, float]:
    async with ours.open_buffer(path, work, flush_interval=60) as buffer:
        await buffer.enqueue_many(work.rows)
        return await _timed(buffer.flush, load)


async def _executemany(path: Path, work: Workload, load: Load) -> Mapping[str, float]:
    def write() -> None:
        raw.execute("BEGIN IMMEDIATE")
        raw.executemany(work.upsert(), work.rows)
        raw.execute("COMMIT")

    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as raw:
        raw.execute("PRAGMA synchronous = NORMAL")
        return await _timed(lambda: trio.to_thread.run_sync(write), load)


async def _timed(flush: Callable[[], Awaitable[Any]], load: Load) -> Mapping[str, float]:
    async with _busy(load) as pauses:
        await trio.sleep(0.02)
        pauses.clear()
        started = perf_counter()
        await flush()
        taken = perf_counter() - started
    return {"flush": taken, "longest pause": max(pauses, default=0.0)}


@asynccontextmanager
async def _busy(load: Load) -> AsyncIterator[list[float]]:
    """Keep the event loop busy; yield a list of how much longer than planned each lap took."""
    pauses: list[float] = []

    async def work() -> None:
        while True:
            started = perf_counter()
            while load != "idle" and perf_counter() < started + SLICE:
                pass
            expected = 0.0 if load == "idle" else SLICE
            if load == "saturated":
                await trio.lowlevel.checkpoint()
            else:
                await trio.sleep(SLICE)
                expected += SLICE
            pauses.append(perf_counter() - started - expected)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        yield pauses
        nursery.cancel_scope.cancel()
