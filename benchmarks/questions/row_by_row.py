"""How many rows per second go from a call per row to COMMIT, against an `executemany` loop?

A program calls `enqueue_nowait` for each row, with a checkpoint per 1,000 rows, or `await enqueue`,
from one task or from 100, each of which has neighbouring rows, except that all rows of a key are in
one task. The loop has all rows in a list and executes 1,000 per transaction, with `sqlite3` and no
event loop.

The rows have four columns. Their table has an INTEGER PRIMARY KEY and a UNIQUE key, or it is
WITHOUT ROWID, with the key as its PRIMARY KEY.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.contestants import by_hand, ours, writing_contestant
from benchmarks.harness import Case
from benchmarks.results import RATE
from benchmarks.workload import ORDERS, visits

LOOP = "sqlite3 executemany"


def cases(full: bool) -> Iterator[Case]:
    for without_rowid in (False, True):
        for order in ORDERS:
            count = 40_000 if without_rowid and not full else 100_000
            work = visits(order, count, without_rowid=without_rowid)
            yield Case(
                "row_by_row",
                f"{order}, WITHOUT ROWID" if without_rowid else order,
                [RATE],
                [
                    writing_contestant("enqueue_nowait", ours.enqueue_nowait, work),
                    writing_contestant("enqueue, 1 task", partial(ours.enqueue, tasks=1), work),
                    writing_contestant("enqueue, 100 tasks", ours.enqueue, work),
                    writing_contestant(LOOP, by_hand.executemany, work),
                ],
                reference=LOOP,
                rounds=11 if full else 5,
            )
