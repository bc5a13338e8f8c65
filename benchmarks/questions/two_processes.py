"""How many rows per second do two processes write to one file?

Each process writes every second row as fast as it can.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.contestants import Writer, by_hand, ours
from benchmarks.harness import Case, Contestant
from benchmarks.results import RATE
from benchmarks.workload import Workload, entries


def cases(full: bool) -> Iterator[Case]:
    work = entries("sequential", 300_000 if full else 100_000)
    yield Case(
        "two_processes",
        "sequential",
        [RATE],
        [
            _contestant("forebay, one process", ours.enqueue_many, work, 1),
            _contestant("forebay, two processes", ours.enqueue_many, work, 2),
            _contestant("sqlite3 executemany, one process", by_hand.executemany, work, 1),
            _contestant("sqlite3 executemany, two processes", by_hand.executemany, work, 2),
        ],
        rounds=11 if full else 5,
    )


def _contestant(name: str, writer: Writer, work: Workload, processes: int) -> Contestant:
    def run(path: Path) -> Mapping[str, float]:
        return {"rate": len(work.rows) / _at_once(path, writer, len(work.rows), processes)}

    return Contestant(name, run, check=work.check, prepare=work.create)


def _at_once(path: Path, writer: Writer, count: int, processes: int) -> float:
    """Return the seconds from when all processes are ready to the end of the last one."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    children = [
        context.Process(target=_child, args=(path, writer, count, part, processes, ready))
        for part in range(processes)
    ]
    for child in children:
        child.start()
    ready.wait(timeout=60)
    started = perf_counter()
    for child in children:
        child.join()
    taken = perf_counter() - started
    if any(child.exitcode for child in children):
        raise AssertionError(f"exit codes {[child.exitcode for child in children]}")
    return taken


def _child(path: Path, writer: Writer, count: int, part: int, processes: int, ready: Any) -> None:
    work = entries("sequential", count)
    mine = replace(work, rows=work.rows[part::processes])
    ready.wait(timeout=60)
    writer(path, mine)
