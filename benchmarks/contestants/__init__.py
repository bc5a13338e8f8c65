"""Ways to write a workload to a database: each takes its path, and gives the seconds it took.

The clock runs from the first row handed in to the last COMMIT; connecting is not counted for
anybody. All have write-ahead logging, the same `synchronous` and SQLite's own page cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from benchmarks.harness import Contestant
from benchmarks.workload import Workload

Writer: TypeAlias = Callable[[Path, Workload], float]


def writes(name: str, writer: Writer, workload: Workload) -> Contestant:
    """Have a writer write a workload, measured in rows a second."""

    def run(path: Path) -> Mapping[str, float]:
        return {"rate": len(workload.rows) / writer(path, workload)}

    return Contestant(name, run, check=workload.check, prepare=workload.create)
