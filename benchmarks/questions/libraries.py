"""How do other libraries compare, in the use that they document first and in their fastest use?

Contestants that write one row per transaction ("row by row") write only the first rows of the same
workload. Their table is smaller, which is to their advantage.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.contestants import by_hand, libraries, ours, writing_contestant
from benchmarks.harness import Case
from benchmarks.results import RATE
from benchmarks.workload import entries


def cases(full: bool) -> Iterator[Case]:
    work = entries("sequential", 300_000 if full else 60_000)
    some = work.first(10_000 if full else 1_000)
    yield Case(
        "libraries",
        "sequential",
        [RATE],
        [
            writing_contestant("forebay", ours.enqueue_many, work),
            writing_contestant("forebay, enqueue by 100 tasks", ours.enqueue, work),
            writing_contestant("sqlite3 multi-row", by_hand.multi_row, work),
            writing_contestant("apsw multi-row", by_hand.apsw_multi_row, work),
            writing_contestant("sqlite3 executemany", by_hand.executemany, work),
            writing_contestant("apsw executemany", by_hand.apsw_executemany, work),
            writing_contestant("apsw.aio executemany", libraries.apsw_aio_executemany, work),
            writing_contestant("aiosqlite executemany", libraries.aiosqlite_executemany, work),
            writing_contestant(
                "sqlite-anyio executemany", libraries.sqlite_anyio_executemany, work
            ),
            writing_contestant(
                "SQLAlchemy async executemany", libraries.sqlalchemy_executemany, work
            ),
            writing_contestant(
                "peewee queue insert_many", libraries.peewee_queue_insert_many, work
            ),
            writing_contestant("sqlite-utils insert_all", libraries.sqlite_utils_insert_all, work),
            writing_contestant(
                "sqlite-utils, batches of 1,000", libraries.sqlite_utils_batches, work
            ),
            writing_contestant("sqlite3 row by row", by_hand.row_by_row, some),
            writing_contestant("aiosqlite row by row", libraries.aiosqlite_rows, some),
            writing_contestant("sqlite-anyio row by row", libraries.sqlite_anyio_rows, some),
            writing_contestant("SQLAlchemy async row by row", libraries.sqlalchemy_rows, some),
            writing_contestant("peewee queue row by row", libraries.peewee_queue_rows, some),
        ],
    )
