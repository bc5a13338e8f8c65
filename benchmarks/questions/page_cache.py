"""What does SQLite's page cache do to throughput?

Rows with keys drawn from those of a table of so many rows are upserted, by a writer that has so
many megabytes for pages. SQLite's own default is 2 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contestants import ours, writes
from benchmarks.harness import Case
from benchmarks.questions import table_growth
from benchmarks.results import RATE
from benchmarks.workload import Workload


def cases(full: bool) -> Iterator[Case]:
    megabytes = (2, 8, 32, 128, 512) if full else (2, 128)
    with TemporaryDirectory(prefix="forebay-bench-") as kept:
        for rows in (100_000, 1_000_000):
            model = table_growth.contestant("keys among them", rows, Path(kept))
            work = table_growth.coming("keys among them", rows)
            yield Case(
                "page_cache",
                f"{rows:,} rows",
                [RATE],
                [
                    replace(
                        writes(f"{size} MB", partial(_write, size), work),
                        prepare=model.prepare,
                        check=model.check,
                    )
                    for size in megabytes
                ],
            )


def _write(megabytes: int, path: Path, work: Workload) -> float:
    return ours.enqueue_many(path, work, pragmas={"cache_size": -megabytes * 1024})
