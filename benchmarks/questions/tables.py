"""Does throughput hold when the same rows go to many tables of one file?

64 tasks call `enqueue_many`, each with its share of the rows.

And what does it cost that many tables get a row now and then? Each of 64 tables gets one row, then
all are flushed, and so on. For comparison, one table gets as many rows, and is flushed after each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import TypeAlias

import trio

import forebay
from benchmarks.harness import Case, Contestant
from benchmarks.results import RATE, Measure
from benchmarks.workload import Workload, entries

TASKS = 64
CPU = Measure("CPU time per row", "s", more_is_better=False)

Write: TypeAlias = Callable[[Path, list[Workload]], Awaitable[float]]


def cases(full: bool) -> Iterator[Case]:
    work = entries("sequential", 300_032)
    counts = (1, 2, 8, 64) if full else (1, 64)
    yield Case(
        "tables",
        "enqueue_many",
        [RATE],
        [_contestant(work, count, _write) for count in counts],
        rounds=11 if full else 5,
    )
    yield Case(
        "tables",
        "one row each",
        [CPU],
        [_contestant(work.first(1_280), count, _write_and_flush, CPU) for count in (1, 64)],
        rounds=11 if full else 5,
    )


def _contestant(work: Workload, count: int, write: Write, measure: Measure = RATE) -> Contestant:
    """Return the contestant that divides the rows among a number of tables.

    Args:
        work: the rows.
        count: the number of tables.
        write: writes all rows, and returns the measure.
        measure: what it measures.
    """
    share = len(work.rows) // count
    works = [
        replace(work, name=f"{work.name}_{i}", rows=work.rows[i * share : (i + 1) * share])
        for i in range(count)
    ]

    def prepare(path: Path) -> None:
        for each in works:
            each.create(path)

    def run(path: Path) -> Mapping[str, float]:
        return {measure.name: trio.run(write, path, works)}

    def check(path: Path) -> None:
        for each in works:
            each.check(path)

    return Contestant(f"{count} table{'s' * (count > 1)}", run, check, prepare)


async def _write(path: Path, works: list[Workload]) -> float:
    tasks = TASKS // len(works)
    async with (
        forebay.open_sqlite(path) as store,
        forebay.open_buffers(store, *(work.table for work in works)) as buffers,
    ):
        started = perf_counter()
        async with trio.open_nursery() as nursery:
            for work in works:
                share = len(work.rows) // tasks
                for i in range(tasks):
                    rows = work.rows[i * share : (i + 1) * share]
                    nursery.start_soon(buffers[work.table].enqueue_many, rows)
        await buffers.flush()
        return sum(len(work.rows) for work in works) / (perf_counter() - started)


async def _write_and_flush(path: Path, works: list[Workload]) -> float:
    async with (
        forebay.open_sqlite(path) as store,
        forebay.open_buffers(store, *(work.table for work in works)) as buffers,
    ):
        started = process_time()
        for i in range(len(works[0].rows)):
            for work in works:
                buffers[work.table].enqueue_nowait(work.rows[i])
            await buffers.flush()
        return (process_time() - started) / sum(len(work.rows) for work in works)
