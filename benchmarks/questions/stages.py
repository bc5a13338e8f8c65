"""How much CPU time does each stage of the way of a row take, from a call per row to COMMIT?

The stages run one after another, with the rows of `row_by_row`, in batches of 20,000 rows: accept a
row (`enqueue_nowait` or `await enqueue`), merge the rows of a key, sort them and flatten them into
parameters, execute the statements, commit. The last two contestants are the statements and the
COMMIT of the `executemany` loop.

No stage waits for another one, for the GIL or for a processor. So the sum is what one core needs;
`row_by_row` shows how long all of it takes, with two threads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from time import thread_time
from typing import TypeAlias

import trio

from benchmarks.contestants import by_hand, ours
from benchmarks.harness import Case, Contestant
from benchmarks.results import Measure
from benchmarks.workload import ORDERS, Workload, visits
from forebay import FlushReason
from forebay._batching.coalesce import Coalescer
from forebay.stores.sqlite._statements import statements

CPU = Measure("CPU time per row", "s", more_is_better=False)
BATCH = 20_000
ACCEPTED = 4_000
"""The rows that are accepted between two flushes: with more, a flush begins by itself."""

Stages: TypeAlias = Mapping[str, float]


def cases(full: bool) -> Iterator[Case]:
    for order in ORDERS:
        work = visits(order, 40_000)
        yield Case(
            "stages",
            order,
            [CPU],
            [
                _contestant(stage, measure, work)
                for stage, measure in (
                    ("accept: enqueue_nowait", _accept),
                    ("accept: await enqueue", _accept_awaited),
                    ("merge", _write),
                    ("sort and flatten", _write),
                    ("execute", _write),
                    ("commit", _write),
                    ("executemany: execute", _executemany),
                    ("executemany: commit", _executemany),
                )
            ],
            reference="executemany: execute",
            rounds=11 if full else 5,
        )


def _contestant(
    stage: str, measure: Callable[[Path, Workload], Stages], work: Workload
) -> Contestant:
    """Return the contestant that writes all rows, and measures one of the stages."""

    def run(path: Path) -> Mapping[str, float]:
        return {CPU.name: measure(path, work)[stage.rpartition(": ")[2]] / len(work.rows)}

    return Contestant(stage, run, work.check, work.create)


def _accept(path: Path, work: Workload) -> Stages:
    return {"enqueue_nowait": _cpu_time_of(path, work, nowait=True)}


def _accept_awaited(path: Path, work: Workload) -> Stages:
    return {"await enqueue": _cpu_time_of(path, work, nowait=False)}


def _cpu_time_of(path: Path, work: Workload, *, nowait: bool) -> float:
    async def main() -> float:
        spent = 0.0
        async with ours.open_buffer(path, work, flush_interval=60.0) as buffer:
            for start in range(0, len(work.rows), ACCEPTED):
                rows = work.rows[start : start + ACCEPTED]
                before = thread_time()
                if nowait:
                    for row in rows:
                        buffer.enqueue_nowait(row)
                else:
                    for row in rows:
                        await buffer.enqueue(row)
                spent += thread_time() - before
                await buffer.flush()
        return spent

    return trio.run(main)


def _write(path: Path, work: Workload) -> Stages:
    spent = dict.fromkeys(("merge", "sort and flatten", "execute", "commit"), 0.0)
    with closing(by_hand.connect(path)) as raw:
        for start in range(0, len(work.rows), BATCH):
            at = [thread_time()]
            coalescer = Coalescer(work.table)
            coalescer.add(work.rows[start : start + BATCH], only_rows=True)
            [step] = coalescer.take(FlushReason.FULL).steps
            at.append(thread_time())
            limit = raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
            prepared = list(statements(work.table, step, variables=limit))
            at.append(thread_time())
            raw.execute("BEGIN IMMEDIATE")
            for statement in prepared:
                raw.execute(statement.sql, statement.parameters)
            at.append(thread_time())
            raw.execute("COMMIT")
            at.append(thread_time())
            for stage, (begins, ends) in zip(spent, pairwise(at), strict=True):
                spent[stage] += ends - begins
    return spent


def _executemany(path: Path, work: Workload) -> Stages:
    execute = commit = 0.0
    sql = work.upsert()
    with closing(by_hand.connect(path)) as raw:
        for start in range(0, len(work.rows), by_hand.EXECUTEMANY_ROWS):
            begins = thread_time()
            raw.execute("BEGIN IMMEDIATE")
            raw.executemany(sql, work.rows[start : start + by_hand.EXECUTEMANY_ROWS])
            executed = thread_time()
            raw.execute("COMMIT")
            execute, commit = execute + executed - begins, commit + thread_time() - executed
    return {"execute": execute, "commit": commit}
