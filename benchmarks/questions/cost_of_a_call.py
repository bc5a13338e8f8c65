"""How long does a call take that enqueues one entry, without the flush?

The buffer has room for all entries, and flushes after the clock has stopped. For comparison, a Trio
memory channel carries the same rows, one per message.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import trio

import forebay
from benchmarks.contestants import ours
from benchmarks.harness import Case, Contestant
from benchmarks.results import Measure
from benchmarks.workload import Workload, entries

COST = Measure("cost", "s", more_is_better=False)

Produce = Callable[[forebay.Buffer[Any], Workload], Awaitable[None]]


def cases(full: bool) -> Iterator[Case]:
    work = entries("sequential", 50_000)
    yield Case(
        "cost_of_a_call",
        "one entry",
        [COST],
        [
            _contestant("enqueue_many", _enqueue_many, work),
            _contestant("enqueue_nowait", _enqueue_nowait, work),
            _contestant("enqueue", _enqueue, work),
            _contestant("enqueue_update", _enqueue_update, work),
            Contestant("send_nowait", lambda _: _send_nowait(work), _nothing_to_check, work.create),
            Contestant("send", lambda _: _send(work), _nothing_to_check, work.create),
        ],
        rounds=21 if full else 5,
    )


def _contestant(name: str, produce: Produce, work: Workload) -> Contestant:
    async def main(path: Path) -> Mapping[str, float]:
        count = len(work.rows)
        async with ours.open_buffer(
            path, work, capacity=2 * count, batch_size=2 * count, flush_interval=inf
        ) as buffer:
            if name == "enqueue_update":
                await buffer.enqueue_many(work.rows)
            started = perf_counter()
            await produce(buffer, work)
            return {"cost": (perf_counter() - started) / count}

    return Contestant(name, lambda path: trio.run(main, path), work.check, work.create)


async def _enqueue_many(buffer: forebay.Buffer[Any], work: Workload) -> None:
    await buffer.enqueue_many(work.rows)


async def _enqueue_nowait(buffer: forebay.Buffer[Any], work: Workload) -> None:
    for row in work.rows:
        buffer.enqueue_nowait(row)


async def _enqueue(buffer: forebay.Buffer[Any], work: Workload) -> None:
    for row in work.rows:
        await buffer.enqueue(row)


async def _enqueue_update(buffer: forebay.Buffer[Any], work: Workload) -> None:
    for row in work.rows:
        await buffer.enqueue_update(row.key, updated_at=row.updated_at)


def _send_nowait(work: Workload) -> Mapping[str, float]:
    async def main() -> float:
        send, _receive = trio.open_memory_channel[Any](len(work.rows))
        started = perf_counter()
        for row in work.rows:
            send.send_nowait(row)
        return perf_counter() - started

    return {"cost": trio.run(main) / len(work.rows)}


def _send(work: Workload) -> Mapping[str, float]:
    async def main() -> float:
        send, _receive = trio.open_memory_channel[Any](len(work.rows))
        started = perf_counter()
        for row in work.rows:
            await send.send(row)
        return perf_counter() - started

    return {"cost": trio.run(main) / len(work.rows)}


def _nothing_to_check(_path: Path) -> None:
    """Check nothing: a channel writes no rows."""
