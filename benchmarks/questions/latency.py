"""How long does one task wait for one thing: a row read by key, a transaction, a written row?

A transaction upserts one row: `store.run`, against `execute` and `commit` of aiosqlite and
sqlite-anyio, and against `execute` inside `async with db` of `apsw.aio`. A written row is awaited
until its COMMIT: `write` of a buffer, against the same, and against `execute` without an explicit
transaction where a library has that. "Fastest" is the fastest way that a library documents, where
that is not the one it documents first. aiosqlite runs on asyncio, all others on Trio. apsw has its
own SQLite, which is newer than that of `sqlite3`.

The database is in memory (`/dev/shm`), or on a disk (`.bench` in the current folder). With
`synchronous` FULL each COMMIT waits for the disk. Reads are measured with NORMAL only, since they
never wait for it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.contestants import calls
from benchmarks.harness import DISK, MEMORY, Case, Contestant
from benchmarks.results import Measure
from benchmarks.workload import Workload, visits

P50 = Measure("p50", "s", more_is_better=False)
P99 = Measure("p99", "s", more_is_better=False)

_WARM_UP: int = 20
"""The calls of each turn that are not measured: they start threads and prepare statements."""


def cases(full: bool) -> Iterator[Case]:
    places = {"memory": MEMORY, "disk": DISK} if MEMORY.is_dir() else {"disk": DISK}
    for operation in calls.OPERATIONS:
        for place, folder in places.items():
            for synchronous in _synchronous(operation):
                slow = (place, synchronous) == ("disk", "FULL")
                count = 1_000 if full else 200 if slow else 500
                work = visits("shuffled", count + _WARM_UP)
                yield Case(
                    "latency",
                    f"{operation}, {synchronous}, {place}",
                    [P50, P99],
                    list(_contestants(operation, work, synchronous)),
                    folder=folder,
                    rounds=11 if full else 5,
                )


def _synchronous(operation: calls.Operation) -> tuple[calls.Synchronous, ...]:
    return ("NORMAL",) if operation == "read" else ("NORMAL", "FULL")


def _contestants(
    operation: calls.Operation, work: Workload, synchronous: calls.Synchronous
) -> Iterator[Contestant]:
    for name, library in calls.LIBRARIES.items():
        if operation not in library.operations:
            continue
        main = partial(_latencies, library.open, operation, work, synchronous)
        yield Contestant(
            name,
            partial(library.run, main),
            check=work.check,
            prepare=work.fill if operation == "read" else work.create,
        )


async def _latencies(
    opened: calls.Opener,
    operation: calls.Operation,
    work: Workload,
    synchronous: calls.Synchronous,
    path: Path,
) -> Mapping[str, float]:
    taken: list[float] = []
    async with opened(path, work, synchronous) as available:
        call = available[operation]
        for row in work.rows:
            started = perf_counter()
            found = await call(row)
            taken.append(perf_counter() - started)
            if operation == "read" and found != row:
                raise AssertionError(f"expected {row}, found {found}")
    percentiles = statistics.quantiles(taken[_WARM_UP:], n=100, method="inclusive")
    return {P50.name: percentiles[49], P99.name: percentiles[98]}
