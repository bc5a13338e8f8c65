"""How do the libraries compare, in the use they show first and in their fastest?

Whoever writes a row a transaction gets the first rows of the same work only, which makes a
smaller table, to their advantage.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.contestants import by_hand, libraries, ours, writes
from benchmarks.harness import Case
from benchmarks.results import RATE
from benchmarks.workload import entries


def cases(full: bool) -> Iterator[Case]:
    work = entries("sequential", 300_000 if full else 100_000)
    some = work.first(10_000 if full else 2_000)
    yield Case(
        "libraries",
        "sequential",
        [RATE],
        [
            writes("forebay", ours.enqueue_many, work),
            writes("forebay, enqueue by 100 tasks", ours.enqueue, work),
            writes("sqlite3 multi-row", by_hand.multi_row, work),
            writes("apsw multi-row", by_hand.apsw_multi_row, work),
            writes("sqlite3 executemany", by_hand.executemany, work),
            writes("apsw executemany", by_hand.apsw_executemany, work),
            writes("aiosqlite executemany", libraries.aiosqlite_executemany, work),
            writes("sqlite-anyio executemany", libraries.sqlite_anyio_executemany, work),
            writes("SQLAlchemy async executemany", libraries.sqlalchemy_executemany, work),
            writes("peewee queue insert_many", libraries.peewee_queue_insert_many, work),
            writes("sqlite-utils insert_all", libraries.sqlite_utils_insert_all, work),
            writes("sqlite-utils, batches of 1,000", libraries.sqlite_utils_batches, work),
            writes("sqlite3 a row", by_hand.row_by_row, some),
            writes("aiosqlite a row", libraries.aiosqlite_rows, some),
            writes("sqlite-anyio a row", libraries.sqlite_anyio_rows, some),
            writes("SQLAlchemy async a row", libraries.sqlalchemy_rows, some),
            writes("peewee queue a row", libraries.peewee_queue_rows, some),
        ],
    )
