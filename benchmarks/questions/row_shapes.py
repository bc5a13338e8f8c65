"""How do the number of columns and the size of a row change throughput?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.contestants import by_hand, ours, writing_contestant
from benchmarks.harness import Case
from benchmarks.results import RATE
from benchmarks.workload import Workload, entries, wide_entries


def cases(full: bool) -> Iterator[Case]:
    for columns in (3, 6, 20):
        count = 300_000 if full else 60_000
        yield _case(f"{columns} columns", wide_entries(columns, count), full=full)
    for payload, count in ((100, 60_000), (10_000, 3_000)):
        work = entries("shuffled", count * 5 if full else count, payload=payload)
        yield _case(f"payload of {payload:,} bytes", work, full=full)


def _case(name: str, work: Workload, *, full: bool) -> Case:
    return Case(
        "row_shapes",
        name,
        [RATE],
        [
            writing_contestant("forebay", ours.enqueue_many, work),
            writing_contestant("sqlite3 executemany", by_hand.executemany, work),
            writing_contestant("sqlite3 multi-row", by_hand.multi_row, work),
        ],
        rounds=11 if full else 5,
    )
