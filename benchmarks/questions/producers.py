"""Does throughput hold when the same rows come from many tasks, each a row at a time?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.contestants import ours, writes
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
            writes(f"{count:,} task{'s' * (count > 1)}", partial(ours.enqueue, tasks=count), work)
            for count in counts
        ],
        rounds=11 if full else 5,
    )
