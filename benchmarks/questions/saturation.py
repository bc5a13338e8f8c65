"""How late does the event loop run other tasks while producers saturate a buffer?

A task sleeps for 5 ms at a time and records how late it wakes up. Producers enqueue the same rows
as fast as the buffer accepts them, with `enqueue_many` or row by row.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import trio

import forebay
from benchmarks.contestants import ours
from benchmarks.harness import Case, Contestant
from benchmarks.results import Measure
from benchmarks.workload import Workload, entries

PERIOD = 0.005
MEDIAN = Measure("p50", "s", more_is_better=False)
P99 = Measure("p99", "s", more_is_better=False)
MOST = Measure("max", "s", more_is_better=False)

Produce = Callable[[forebay.Buffer[Any], Workload], Awaitable[None]]


def cases(full: bool) -> Iterator[Case]:
    work = entries("shuffled", 1_000_000 if full else 300_000)
    yield Case(
        "saturation",
        "shuffled",
        [MEDIAN, P99, MOST],
        [
            _contestant("enqueue_many", _many, work),
            *(
                _contestant(f"enqueue by {tasks:,} tasks", partial(_by_tasks, tasks), work)
                for tasks in ((100, 10_000) if full else (100,))
            ),
        ],
        rounds=11 if full else 5,
    )


def _contestant(name: str, produce: Produce, work: Workload) -> Contestant:
    def run(path: Path) -> Mapping[str, float]:
        return trio.run(_delays, path, work, produce)

    return Contestant(name, run, check=work.check, prepare=work.create)


async def _delays(path: Path, work: Workload, produce: Produce) -> Mapping[str, float]:
    late: list[float] = []

    async def probe() -> None:
        while True:
            due = trio.current_time() + PERIOD
            await trio.sleep_until(due)
            late.append(trio.current_time() - due)

    async with ours.open_buffer(path, work) as buffer, trio.open_nursery() as nursery:
        nursery.start_soon(probe)
        await produce(buffer, work)
        await buffer.flush()
        nursery.cancel_scope.cancel()
    percentiles = statistics.quantiles(late, n=100, method="inclusive")
    return {"p50": percentiles[49], "p99": percentiles[98], "max": max(late)}


async def _many(buffer: forebay.Buffer[Any], work: Workload) -> None:
    await buffer.enqueue_many(work.rows)


async def _by_tasks(tasks: int, buffer: forebay.Buffer[Any], work: Workload) -> None:
    rows = iter(work.rows)

    async def produce() -> None:
        for row in rows:
            await buffer.enqueue(row)

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(produce)
