"""How does the capacity of a buffer change throughput, and how much memory does it use?

Rows arrive faster than they are written, so the buffer is full all the time. Each row is created
when it is enqueued.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import trio

from benchmarks.contestants import ours
from benchmarks.facts import resident_memory
from benchmarks.harness import Case, Contestant, in_new_process
from benchmarks.questions.overload import PEAK
from benchmarks.results import RATE
from benchmarks.workload import Entry, Workload, entries


def cases(full: bool) -> Iterator[Case]:
    sizes = (1_000, 10_000, 40_000, 100_000, 400_000) if full else (10_000, 100_000)
    count = 1_000_000 if full else 200_000
    work = _work(count)
    yield Case(
        "capacity",
        "shuffled",
        [RATE, PEAK],
        [
            Contestant(
                f"capacity={size:,}",
                partial(in_new_process, _run, size, count),
                work.check,
                work.create,
            )
            for size in sorted(sizes, key=lambda size: size != 100_000)
        ],
    )


def _work(count: int) -> Workload:
    work = entries("shuffled", count)
    return replace(work, rows=[*_rows(work)])


def _rows(work: Workload) -> Iterator[Entry]:
    """Create the rows one by one, as programs do."""
    for number, row in enumerate(work.rows):
        yield Entry(row.key, f"payload {number:>40}", *row[2:])


def _run(size: int, count: int, path: Path) -> Mapping[str, float]:
    work = entries("shuffled", count)

    async def main() -> Mapping[str, float]:
        most = before = resident_memory()

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, resident_memory())
                await trio.sleep(0.01)

        async with (
            ours.open_buffer(path, work, capacity=size) as buffer,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(watch)
            started = perf_counter()
            await buffer.enqueue_many(_rows(work))
            await buffer.flush()
            taken = perf_counter() - started
            nursery.cancel_scope.cancel()
        return {"rate": count / taken, "peak": most - before}

    return trio.run(main)
