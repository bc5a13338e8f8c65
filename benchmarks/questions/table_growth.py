"""Does throughput hold as the table grows?

So many rows are in the table; 100,000 more are upserted, with keys that follow theirs, or with
keys drawn from theirs.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contestants import ours, writes
from benchmarks.harness import Case, Contestant
from benchmarks.results import RATE
from benchmarks.workload import Workload, entries

COMING = 100_000
_MARK = 2e9
"""`inserted_at` of the rows that come, by which the check finds them."""


def cases(full: bool) -> Iterator[Case]:
    sizes = [100_000, 10_000, 1_000_000, 10_000_000] if full else [100_000, 1_000_000]
    with TemporaryDirectory(prefix="forebay-bench-") as kept:
        for name in ("keys that follow", "keys among them"):
            yield Case(
                "table_growth",
                name,
                [RATE],
                [contestant(name, size, Path(kept)) for size in sizes],
            )


def coming(name: str, size: int) -> Workload:
    """Give the rows that come to a table of so many."""
    work = entries("sequential", COMING)
    draw = random.Random(3)
    numbers: Sequence[int] = (
        range(size, size + COMING)
        if name == "keys that follow"
        else [draw.randrange(size) for _ in range(COMING)]
    )
    rows = [
        row._replace(key=f"key-{number:024d}", inserted_at=_MARK)
        for row, number in zip(work.rows, numbers, strict=True)
    ]
    return replace(work, rows=rows)


def contestant(name: str, size: int, kept: Path) -> Contestant:
    """Give the one that writes to a table of so many rows, which is made once and copied."""
    work = coming(name, size)
    return replace(
        writes(f"{size:,} rows", ours.enqueue_many, work),
        prepare=partial(_prepare, kept / f"{size}.db", work, size),
        check=partial(work.check, where=f"inserted_at = {_MARK}"),
    )


def _prepare(kept: Path, work: Workload, size: int, path: Path) -> None:
    if not kept.exists():
        work.create(kept)
        with closing(sqlite3.connect(kept)) as connection:
            connection.execute(
                f"WITH RECURSIVE number(n) AS "
                f"(SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < {size}) "
                f"INSERT INTO {work.name} ({', '.join(work.columns)}) "
                f"""SELECT printf('key-%024d', n), printf('{{"v":"%022d"}}', n), 1.7e9, 1.7e9, n """
                f"FROM number"
            )
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(kept, path)
