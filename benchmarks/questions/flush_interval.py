"""What does the flush interval cost a program that does not write as fast as it can?

A task enqueues 10 rows, sleeps for 2 ms, and so on: some thousands of rows a second, to the few
keys of the hot order, while SQLite has time enough. Longer intervals make fewer and larger
transactions, in which more rows are superseded; what a crash takes grows with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter, process_time

import trio

from benchmarks.contestants import ours
from benchmarks.harness import Case, Contestant
from benchmarks.results import Measure
from benchmarks.workload import Workload, entries

CPU = Measure("CPU time a row", "s", more_is_better=False)
FLUSHES = Measure("transactions", "1/s", more_is_better=False)
SUPERSEDED = Measure("superseded", "%", more_is_better=True)


def cases(full: bool) -> Iterator[Case]:
    intervals = (0.01, 0.05, 0.2, 1.0, 5.0) if full else (0.05, 0.2)
    work = entries("hot", 40_000 if full else 5_000)
    yield Case(
        "flush_interval",
        "hot, at leisure",
        [CPU, FLUSHES, SUPERSEDED],
        [
            Contestant(
                f"flush_interval={seconds:g}", partial(_run, seconds, work), work.check, work.create
            )
            for seconds in sorted(intervals, key=lambda seconds: seconds != 0.2)
        ],
        rounds=3,
        warm_ups=0,
    )


def _run(interval: float, work: Workload, path: Path) -> Mapping[str, float]:
    async def main() -> Mapping[str, float]:
        async with ours.opened(path, work, flush_interval=interval) as buffer:
            started, worked = perf_counter(), process_time()
            for start in range(0, len(work.rows), 10):
                for row in work.rows[start : start + 10]:
                    await buffer.enqueue(row)
                await trio.sleep(0.002)
            await buffer.flush()
            took, work_took = perf_counter() - started, process_time() - worked
            counts = buffer.statistics()
            return {
                "CPU time a row": work_took / counts.accepted,
                "transactions": counts.flushes / took,
                "superseded": 100 * counts.superseded / counts.accepted,
            }

    return trio.run(main)
