"""Contestants with forebay, as its documentation shows it first: with default options."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import trio
import trio.testing

import forebay
from benchmarks.workload import Workload

ROWS_BETWEEN_CHECKPOINTS = 1_000


@asynccontextmanager
async def open_buffer(
    path: Path, work: Workload, *, pragmas: Mapping[str, int] | None = None, **options: Any
) -> AsyncIterator[forebay.Buffer[Any]]:
    """Open a buffer in front of the table of a workload.

    Args:
        path: the database.
        work: the workload.
        pragmas: as for `forebay.open_sqlite`.
        **options: the fields of `forebay.BufferOptions` that are not the defaults.

    Yields:
        The buffer.
    """
    async with (
        forebay.open_sqlite(path, pragmas=pragmas) as store,
        forebay.open_buffers(
            store, work.table, options=forebay.BufferOptions(**options)
        ) as buffers,
    ):
        yield buffers[work.table]


def enqueue_many(path: Path, work: Workload, **options: Any) -> float:
    """Enqueue all rows with one call of `enqueue_many`, and wait for the last COMMIT."""

    async def main() -> float:
        async with open_buffer(path, work, **options) as buffer:
            started = perf_counter()
            await buffer.enqueue_many(work.rows)
            await buffer.flush()
            return perf_counter() - started

    return trio.run(main)


def enqueue_nowait(path: Path, work: Workload) -> float:
    """Enqueue row by row, 1,000 rows between two checkpoints, and wait for the last COMMIT.

    A program that receives rows has such checkpoints where it waits for more of them.
    """

    async def main() -> float:
        async with open_buffer(path, work) as buffer:
            started = perf_counter()
            for start in range(0, len(work.rows), ROWS_BETWEEN_CHECKPOINTS):
                for row in work.rows[start : start + ROWS_BETWEEN_CHECKPOINTS]:
                    buffer.enqueue_nowait(row)
                await trio.lowlevel.checkpoint()
            await buffer.flush()
            return perf_counter() - started

    return trio.run(main)


def enqueue(path: Path, work: Workload, *, tasks: int = 100) -> float:
    """Enqueue row by row from many tasks, and wait for the last COMMIT.

    All rows of a key come from one task, since the order of rows from several tasks is not known.
    The clock does not measure how long it takes to divide the rows and to start the tasks.
    """
    shares = work.shares(tasks)

    async def main() -> float:
        async with open_buffer(path, work) as buffer:
            begin = trio.Event()

            async def produce(rows: Sequence[Any]) -> None:
                await begin.wait()
                for row in rows:
                    await buffer.enqueue(row)

            async with trio.open_nursery() as nursery:
                for rows in shares:
                    nursery.start_soon(produce, rows)
                await trio.testing.wait_all_tasks_blocked()
                started = perf_counter()
                begin.set()
            await buffer.flush()
            return perf_counter() - started

    return trio.run(main)
