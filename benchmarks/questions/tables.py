"""Does throughput hold when the same rows go to many tables of one file?

64 tasks call `enqueue_many`, each with its share of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import trio

import forebay
from benchmarks.harness import Case, Contestant
from benchmarks.results import RATE
from benchmarks.workload import Workload, entries

TASKS = 64


def cases(full: bool) -> Iterator[Case]:
    work = entries("sequential", 300_032)
    counts = (1, 2, 8, 64) if full else (1, 64)
    yield Case(
        "tables",
        "enqueue_many",
        [RATE],
        [_contestant(work, count) for count in counts],
        rounds=11 if full else 5,
    )


def _contestant(work: Workload, count: int) -> Contestant:
    share = len(work.rows) // count
    works = [
        replace(work, name=f"{work.name}_{i}", rows=work.rows[i * share : (i + 1) * share])
        for i in range(count)
    ]

    def prepare(path: Path) -> None:
        for each in works:
            each.create(path)

    def run(path: Path) -> Mapping[str, float]:
        return {"rate": len(work.rows) / trio.run(_write, path, works)}

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
        return perf_counter() - started
