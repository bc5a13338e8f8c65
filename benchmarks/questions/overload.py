"""Does memory stay bounded while producers are faster than the disk?

Tasks enqueue all the time, with a fixed set of keys, so that the file stops growing. The resident
memory of the process, from Linux's /proc, is sampled meanwhile: growth is the maximum in the last
quarter of the run divided by the maximum in the second quarter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import trio

from benchmarks.contestants import ours
from benchmarks.facts import resident_memory
from benchmarks.harness import Case, Contestant, in_new_process
from benchmarks.results import RATE, Measure
from benchmarks.workload import Entry, Workload, entries

GROWTH = Measure("growth", "x", more_is_better=False)
PEAK = Measure("peak", "MB", more_is_better=False)
"""The highest resident memory, less the memory before the start."""
PRODUCERS = 10
KEYS = 200_000
PAYLOAD = "x" * 200


def cases(full: bool) -> Iterator[Case]:
    seconds = 600 if full else 15
    yield Case(
        "overload",
        f"{seconds} s",
        [RATE, PEAK, GROWTH],
        [_contestant(100_000, seconds)],
        rounds=1,
        warm_ups=0,
    )


def _contestant(capacity: int, seconds: float) -> Contestant:
    work = entries("sequential", 0)

    def check(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            [found] = connection.execute(
                f"SELECT count(*), count(DISTINCT key), min(length(json_payload)) FROM {work.name}"
            )
        if found != (KEYS, KEYS, len(PAYLOAD)):
            raise AssertionError(f"expected {KEYS} rows, found {found}")

    run = partial(in_new_process, _run, capacity, seconds)
    return Contestant(f"capacity={capacity:,}", run, check, work.create)


def _run(capacity: int, seconds: float, path: Path) -> Mapping[str, float]:
    return trio.run(_overload, path, entries("sequential", 0), capacity, seconds)


async def _overload(
    path: Path, work: Workload, capacity: int, seconds: float
) -> Mapping[str, float]:
    memory: list[float] = []
    numbers = count()

    def rows() -> Iterator[Entry]:
        while trio.current_time() < deadline:
            number = next(numbers)
            at = float(number)
            yield Entry(f"key-{number % KEYS:024d}", PAYLOAD, at, at, at)

    async def watch() -> None:
        while True:
            memory.append(resident_memory())
            await trio.sleep(seconds / 200)

    async with ours.open_buffer(path, work, capacity=capacity) as buffer:
        before = resident_memory()
        deadline = trio.current_time() + seconds
        async with trio.open_nursery() as watching:
            watching.start_soon(watch)
            async with trio.open_nursery() as nursery:
                for _ in range(PRODUCERS):
                    nursery.start_soon(buffer.enqueue_many, rows())
            await buffer.flush()
            watching.cancel_scope.cancel()
        counts = buffer.statistics()
    if counts.accepted != next(numbers) or counts.pending:
        raise AssertionError(f"some of the rows produced are not settled: {counts}")
    quarter = len(memory) // 4
    return {
        "rate": counts.accepted / seconds,
        "peak": max(memory) - before,
        "growth": max(memory[-quarter:]) / max(memory[quarter : 2 * quarter]),
    }
