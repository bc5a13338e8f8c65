"""A small build-cache server: many tasks serve the requests of a trace."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import trio
from anyio import to_thread

from forebay import Buffer, BufferStatistics
from forebay.cache import Cache, CacheOptions, CasArtifact, open_cache
from forebay.cache.tables import CAS_ARTIFACTS
from replay.trace import Request, read

_now: ContextVar[int] = ContextVar("now")
"""The time of the request that a task serves, in microseconds since the trace began."""


@dataclass(frozen=True)
class Plan:
    """The parameters of a replay.

    Attributes:
        trace: the file.
        requests: the number of requests to replay; None for all.
        tasks: the number of tasks that serve them.
        per_round: the number of requests between evictions.
        budget: the bytes that all artifacts together may have.
    """

    trace: Path
    requests: int | None
    tasks: int
    per_round: int
    budget: int


@dataclass(frozen=True)
class ReplayReport:
    """The measurements of a replay. Durations are in seconds."""

    requests: int
    hits: int
    seconds: float
    buffer: BufferStatistics
    evictions: int
    enqueues: Sequence[float]
    accesses: Sequence[float]


class Server:
    """Serve each request from the file of its key, or create that file."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.hits = 0
        self.requests = 0
        self.accesses: list[float] = []

    async def serve(self, requests: Sequence[Request]) -> None:
        """Serve requests, one after another."""
        for request in requests:
            _now.set(request.time * 1_000_000)
            if await self.cache.files.size(request.key) is None:
                path = self.cache.files.path(request.key)
                await to_thread.run_sync(_fill, path, request.size)
            else:
                self.hits += 1
            started = time.perf_counter()
            await self.cache.artifacts.track_access(request.key)
            self.accesses.append(time.perf_counter() - started)
            self.requests += 1


def _fill(path: Path, size: int) -> None:
    """Create a sparse file: only its size matters here."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


async def replay(plan: Plan, folder: Path) -> ReplayReport:
    """Replay a trace through a cache, in rounds.

    In a round the requests are distributed to many tasks. All requests for one key go to one task,
    so that they are served in the order of the trace. After each round, when all tasks have ended,
    there is an eviction, so the evicted artifacts do not depend on which task was faster.

    Args:
        plan: the parameters.
        folder: the folder of the cache.
    """
    options = CacheOptions(budget_bytes=plan.budget, eviction_interval=math.inf, touch_interval=0.0)
    started = time.perf_counter()
    async with open_cache(folder, options=options, clock=_now.get) as cache:
        server = Server(cache)
        buffer = cache.buffers[CAS_ARTIFACTS]
        enqueues = _timed(buffer)
        requests = read(plan.trace, plan.requests)
        while batch := list(islice(requests, plan.per_round)):
            async with trio.open_nursery() as nursery:
                for part in _distribute(batch, plan.tasks):
                    nursery.start_soon(server.serve, part)
            _now.set(batch[-1].time * 1_000_000)
            await cache.evictor.run_once()
        await cache.flush()
        return ReplayReport(
            requests=server.requests,
            hits=server.hits,
            seconds=time.perf_counter() - started,
            buffer=buffer.statistics(),
            evictions=cache.evictor.statistics().removed,
            enqueues=enqueues,
            accesses=server.accesses,
        )


def _distribute(requests: Sequence[Request], tasks: int) -> list[list[Request]]:
    parts: list[list[Request]] = [[] for _ in range(tasks)]
    for request in requests:
        parts[zlib.crc32(request.key.encode()) % tasks].append(request)
    return [part for part in parts if part]


def _timed(buffer: Buffer[CasArtifact]) -> list[float]:
    """Replace the buffer's calls, and return a list to which each call appends its duration."""
    times: list[float] = []
    enqueue, update = buffer.enqueue, buffer.enqueue_update_nowait

    async def timed_enqueue(row: CasArtifact) -> None:
        started = time.perf_counter()
        await enqueue(row)
        times.append(time.perf_counter() - started)

    def timed_update(key: object, **columns: object) -> None:
        started = time.perf_counter()
        update(key, **columns)
        times.append(time.perf_counter() - started)

    buffer.enqueue = timed_enqueue  # type: ignore[method-assign]  # only here, to measure
    buffer.enqueue_update_nowait = timed_update  # type: ignore[assignment,method-assign]  # as above
    return times
