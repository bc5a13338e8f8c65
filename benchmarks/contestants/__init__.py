"""The contestants: ways to write a workload to a database, and what they are compared with.

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


def without_database(name: str, run: Callable[[], Mapping[str, float]]) -> Contestant:
    """Return a contestant that neither reads nor writes: a part of Trio, for comparison.

    Args:
        name: its name.
        run: returns what it measured.
    """

    def nothing(path: Path) -> None:
        """Leave the path as it is."""

    return Contestant(name, lambda _: run(), check=nothing, prepare=nothing)
