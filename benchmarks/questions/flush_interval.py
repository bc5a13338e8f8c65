"""What does the flush interval cost a program that does not write as fast as it can?

A task enqueues 10 rows, sleeps for 2 ms, and repeats: some thousands of rows per second, most of
them to a few keys, which SQLite can easily write. A longer interval makes fewer and larger
transactions, in which more rows are superseded, and a crash loses more entries.
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

CPU = Measure("CPU time per row", "s", more_is_better=False)
FLUSHES = Measure("transactions", "1/s", more_is_better=False)
SUPERSEDED = Measure("superseded", "%", more_is_better=True)


def cases(full: bool) -> Iterator[Case]:
    intervals = (0.01, 0.05, 0.2, 1.0, 5.0) if full else (0.05, 0.2)
    work = entries("hot", 40_000 if full else 5_000)
    yield Case(
        "flush_interval",
        "hot, not saturated",
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
        async with ours.open_buffer(path, work, flush_interval=interval) as buffer:
            started, cpu_started = perf_counter(), process_time()
            for start in range(0, len(work.rows), 10):
                for row in work.rows[start : start + 10]:
                    await buffer.enqueue(row)
                await trio.sleep(0.002)
            await buffer.flush()
            seconds = perf_counter() - started
            cpu_seconds = process_time() - cpu_started
            counts = buffer.statistics()
            return {
                "CPU time per row": cpu_seconds / counts.accepted,
                "transactions": counts.flushes / seconds,
                "superseded": 100 * counts.superseded / counts.accepted,
            }

    return trio.run(main)
