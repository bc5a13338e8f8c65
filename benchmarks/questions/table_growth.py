"""Does throughput hold as the table grows?

The contestant says how many rows the table has. 100,000 rows are upserted into it: with new keys,
which follow the existing ones, or with keys drawn at random from the existing ones.
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

from benchmarks.contestants import ours, writing_contestant
from benchmarks.harness import Case, Contestant
from benchmarks.results import RATE
from benchmarks.workload import Workload, entries

INCOMING = 100_000
_MARK = 2e9
"""`inserted_at` of the incoming rows, by which the check finds them."""


def cases(full: bool) -> Iterator[Case]:
    sizes = [100_000, 10_000, 1_000_000, 10_000_000] if full else [100_000, 1_000_000]
    with TemporaryDirectory(prefix="forebay-bench-") as folder:
        for name in ("new keys", "random existing keys"):
            yield Case(
                "table_growth",
                name,
                [RATE],
                [contestant(name, size, Path(folder)) for size in sizes],
            )


def incoming_rows(name: str, size: int) -> Workload:
    """Return the rows to upsert into a table with `size` rows."""
    work = entries("sequential", INCOMING)
    draw = random.Random(3)
    numbers: Sequence[int] = (
        range(size, size + INCOMING)
        if name == "new keys"
        else [draw.randrange(size) for _ in range(INCOMING)]
    )
    rows = [
        row._replace(key=f"key-{number:024d}", inserted_at=_MARK)
        for row, number in zip(work.rows, numbers, strict=True)
    ]
    return replace(work, rows=rows)


def contestant(name: str, size: int, folder: Path) -> Contestant:
    """Return the contestant that writes to a table with `size` rows.

    Args:
        name: the name of the case.
        size: the number of rows.
        folder: where the table is created once, to be copied for each turn.
    """
    work = incoming_rows(name, size)
    return replace(
        writing_contestant(f"{size:,} rows", ours.enqueue_many, work),
        prepare=partial(_prepare, folder / f"{size}.db", work, size),
        check=partial(work.check, where=f"inserted_at = {_MARK}"),
    )


def _prepare(template: Path, work: Workload, size: int, path: Path) -> None:
    if not template.exists():
        work.create(template)
        with closing(sqlite3.connect(template)) as connection:
            connection.execute(
                f"WITH RECURSIVE number(n) AS "
                f"(SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < {size}) "
                f"INSERT INTO {work.name} ({', '.join(work.columns)}) "
                f"""SELECT printf('key-%024d', n), printf('{{"v":"%022d"}}', n), 1.7e9, 1.7e9, n """
                f"FROM number"
            )
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(template, path)
