"""How does SQLite's page cache change throughput?

Rows whose keys are drawn at random from those of an existing table are upserted. The case says how
many rows the table has, the contestant how many megabytes the writer's page cache has. SQLite's
default is 2 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contestants import ours, writing_contestant
from benchmarks.harness import Case
from benchmarks.questions import table_growth
from benchmarks.results import RATE
from benchmarks.workload import Workload


def cases(full: bool) -> Iterator[Case]:
    megabytes = (2, 8, 32, 128, 512) if full else (2, 128)
    with TemporaryDirectory(prefix="forebay-bench-") as folder:
        for rows in (100_000, 1_000_000):
            model = table_growth.contestant("random existing keys", rows, Path(folder))
            work = table_growth.incoming_rows("random existing keys", rows)
            yield Case(
                "page_cache",
                f"{rows:,} rows",
                [RATE],
                [
                    replace(
                        writing_contestant(f"{size} MB", partial(_write, size), work),
                        prepare=model.prepare,
                        check=model.check,
                    )
                    for size in megabytes
                ],
            )


def _write(megabytes: int, path: Path, work: Workload) -> float:
    return ours.enqueue_many(path, work, pragmas={"cache_size": -megabytes * 1024})
