"""How many rows per second go from `enqueue_many` to COMMIT, compared with SQL written by hand?"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.contestants import by_hand, ours, writing_contestant
from benchmarks.harness import Case
from benchmarks.results import RATE
from benchmarks.workload import ORDERS, entries


def cases(full: bool) -> Iterator[Case]:
    for order in ORDERS:
        work = entries(order, 300_000 if full else 200_000)
        yield Case(
            "enqueue_to_commit",
            order,
            [RATE],
            [
                writing_contestant("forebay", ours.enqueue_many, work),
                writing_contestant("sqlite3 executemany", by_hand.executemany, work),
                writing_contestant("sqlite3 multi-row", by_hand.multi_row, work),
            ],
            rounds=11 if full else 5,
        )
