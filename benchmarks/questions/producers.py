"""Does throughput hold when the same rows come from many tasks that enqueue row by row?

For comparison, as many tasks execute one bare checkpoint per row: Trio's share of the cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from time import perf_counter

import trio
import trio.testing

from benchmarks.contestants import ours, without_database, writing_contestant
from benchmarks.harness import Case
from benchmarks.results import RATE
from benchmarks.workload import entries


def cases(full: bool) -> Iterator[Case]:
    work = entries("sequential", 300_000 if full else 100_000)
    counts = (10, 1, 100, 1_000, 10_000) if full else (10, 10_000)
    yield Case(
        "producers",
        "enqueue",
        [RATE],
        [
            writing_contestant(
                f"{count:,} task{'s' * (count > 1)}", partial(ours.enqueue, tasks=count), work
            )
            for count in counts
        ]
        + [
            without_database(
                f"checkpoints of {count:,} tasks", partial(_checkpoints, len(work.rows), count)
            )
            for count in (10, 10_000)
        ],
        rounds=11 if full else 5,
    )


def _checkpoints(count: int, tasks: int) -> Mapping[str, float]:
    async def main() -> float:
        turns = iter(range(count))

        begin = trio.Event()

        async def take() -> None:
            await begin.wait()
            for _ in turns:
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            started = perf_counter()
            begin.set()
        return perf_counter() - started

    return {"rate": count / trio.run(main)}
