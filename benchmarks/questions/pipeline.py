"""Do two cores work at the same time: one accepts rows while the other writes them?

The event loop accepts and coalesces rows while a thread writes the previous batch. The measure is
the CPU time of the process divided by the elapsed time. 1.3 means that two cores worked at the same
time for 30 % of the time, or longer if there were moments in which none worked. A loop written by
hand has one thread, so it uses one core at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter, process_time

import trio

from benchmarks.contestants import by_hand, ours
from benchmarks.harness import Case, Contestant
from benchmarks.results import RATE, Measure
from benchmarks.workload import ORDERS, Workload, entries

CORES = Measure("cores in use", "cores", more_is_better=True)


def cases(full: bool) -> Iterator[Case]:
    for order in ORDERS:
        work = entries(order, 300_000)
        yield Case(
            "pipeline",
            order,
            [CORES, RATE],
            [
                _contestant("enqueue_many", ours.enqueue_many, work),
                _contestant("enqueue, 1 task", _row_by_row, work),
                _contestant("sqlite3 multi-row", by_hand.multi_row, work),
            ],
            rounds=11 if full else 5,
        )


def _row_by_row(path: Path, work: Workload) -> float:
    """Enqueue row by row. `ours.enqueue` also divides the rows, which no clock measures."""

    async def main() -> float:
        async with ours.open_buffer(path, work) as buffer:
            started = perf_counter()
            for row in work.rows:
                await buffer.enqueue(row)
            await buffer.flush()
            return perf_counter() - started

    return trio.run(main)


def _contestant(name: str, write: Callable[[Path, Workload], float], work: Workload) -> Contestant:
    def run(path: Path) -> Mapping[str, float]:
        before = process_time()
        elapsed = write(path, work)
        # The CPU time also covers opening and closing the database, which takes milliseconds.
        return {
            CORES.name: (process_time() - before) / elapsed,
            RATE.name: len(work.rows) / elapsed,
        }

    return Contestant(name, run, work.check, work.create)
