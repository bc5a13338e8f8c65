"""How does the batch size change throughput, and the time until a row is committed?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter

import trio

from benchmarks.contestants import ours
from benchmarks.harness import Case, Contestant
from benchmarks.results import RATE, Measure
from benchmarks.workload import Workload, entries

SETTLING = Measure("settling", "s", more_is_better=False)
"""The time from acceptance to COMMIT of the last row, with a full buffer before it."""


def cases(full: bool) -> Iterator[Case]:
    sizes = (10, 100, 1_000, 5_000, 20_000, 50_000) if full else (100, 1_000, 20_000)
    work = entries("shuffled", 300_000 if full else 100_000)
    yield Case(
        "batch_size",
        "shuffled",
        [RATE, SETTLING],
        [_contestant(size, work) for size in sorted(sizes, key=lambda size: size != 20_000)],
    )


def _contestant(size: int, work: Workload) -> Contestant:
    def run(path: Path) -> Mapping[str, float]:
        async def main() -> Mapping[str, float]:
            async with ours.open_buffer(path, work, batch_size=size) as buffer:
                started = perf_counter()
                await buffer.enqueue_many(work.rows)
                accepted = perf_counter()
                await buffer.flush()
                ended = perf_counter()
                return {
                    "rate": len(work.rows) / (ended - started),
                    "settling": ended - accepted,
                }

        return trio.run(main)

    return Contestant(f"batch_size={size:,}", run, check=work.check, prepare=work.create)
