"""The contestants: ways to write a workload to a database.

A `Writer` takes the path of the database and the workload, and returns the seconds from the first
row to the last COMMIT. The time to connect is not counted for any of them. All use write-ahead
logging, the same `synchronous` and SQLite's default page cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from benchmarks.harness import Contestant
from benchmarks.workload import Workload

Writer: TypeAlias = Callable[[Path, Workload], float]


def writing_contestant(name: str, writer: Writer, workload: Workload) -> Contestant:
    """Return a contestant that writes the workload, measured in rows per second."""

    def run(path: Path) -> Mapping[str, float]:
        return {"rate": len(workload.rows) / writer(path, workload)}

    return Contestant(name, run, check=workload.check, prepare=workload.create)
