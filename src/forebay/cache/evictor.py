"""`Evictor`: removes the least recently used artifacts before the disk is full."""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from dataclasses import dataclass

import trio

from forebay.cache._workers import CloseGuard, run_at_intervals
from forebay.cache.artifacts import BATCH, CacheArtifacts
from forebay.cache.files import ArtifactFiles, Usage
from forebay.cache.options import CacheOptions
from forebay.cache.tables import CasArtifact

_log = logging.getLogger("forebay.cache")

_TIMEOUT = 1.0
"""How long to wait for the buffer, in seconds. On a full disk, no flush succeeds before artifacts
are evicted."""


@dataclass(frozen=True, slots=True)
class EvictorStatistics:
    """What an evictor has done, in one run or in all runs."""

    runs: int = 0
    """Checks of the usage."""
    evictions: int = 0
    """Runs that found the usage at the high watermark or above."""
    removed: int = 0
    """Artifacts removed, including those whose file did not exist any more."""
    freed_bytes: int = 0
    """The total size of the removed artifacts, in bytes."""
    skipped: int = 0
    """Files that could not be removed; a file is counted in each run that tries to remove it."""

    def __add__(self, other: EvictorStatistics) -> EvictorStatistics:
        """Return the sum of both."""
        return EvictorStatistics(
            self.runs + other.runs,
            self.evictions + other.evictions,
            self.removed + other.removed,
            self.freed_bytes + other.freed_bytes,
            self.skipped + other.skipped,
        )


class Evictor:
    """Removes files and their rows in batches of 500, the least recently used first.

    Artifacts that are queued for upload are removed last, with a warning, since they cannot be
    uploaded any more.

    The evictor waits at most one second for a flush. While the disk is full or the database is
    locked, it uses the rows that are committed, and the deletes of rows are pending in the buffer.

    A last access in the future counts as one at the time of the run that finds it, so artifacts
    that were used while the clock was ahead are evicted in their turn.

    With a byte budget, the usage is the sum of the sizes in `cas_artifacts`. Without one, it is
    the usage of the disk that the files are on, including the files of other programs.
    """

    def __init__(
        self,
        artifacts: CacheArtifacts,
        files: ArtifactFiles,
        options: CacheOptions,
        *,
        guard: CloseGuard | None = None,
    ) -> None:
        """Create an evictor. `open_cache` does this.

        Args:
            artifacts: the artifacts to evict.
            files: their files.
            options: the watermarks, the budget and the interval.
            guard: makes `run_once` raise once the cache is closed.
        """
        self._artifacts = artifacts
        self._files = files
        self._options = options
        self._guard = guard or CloseGuard()
        self._turn = trio.Lock()
        self._total = EvictorStatistics()
        self.usage: Usage | None = None
        """The usage that the last run found, less what it evicted; None before the first run."""

    def statistics(self) -> EvictorStatistics:
        """Return the counts since the cache was opened."""
        return self._total

    async def run(self, stopping: trio.Event) -> None:
        """Check the usage at every interval until stopped, and evict artifacts when it is high.

        A run that fails is logged as a warning, and the next one tries again. Cancelled, this
        ends after the batch in progress.

        Args:
            stopping: set this event to make the worker end after the batch in progress.

        Raises:
            trio.BrokenResourceError: the buffer's worker task has failed.
        """
        interval = self._options.eviction_interval
        await run_at_intervals("evictor", self._run, stopping, interval)

    async def run_once(self) -> EvictorStatistics:
        """Check the usage once, and evict artifacts if it has reached the high watermark.

        Waits while another run is in progress. Cancelled, it ends after the batch in progress.

        Returns:
            The counts of this run.

        Raises:
            trio.ClosedResourceError: the cache is closed.
            trio.BrokenResourceError: the buffer's worker task has failed.
        """
        self._guard.check_open()
        return await self._run(trio.Event())

    async def _run(self, stopping: trio.Event) -> EvictorStatistics:
        async with self._turn:
            done = EvictorStatistics(runs=1)
            try:
                usage = await self._usage()
            except OSError as error:
                _log.warning("nothing is evicted: the usage of the disk cannot be read: %s", error)
                usage = None
            await self._correct_future_accesses()
            self.usage = usage
            if usage is not None and usage.used >= self._options.high_watermark * usage.limit:
                done += await self._evict(usage, stopping)
                self.usage = Usage(usage.used - done.freed_bytes, usage.limit)
            self._total += done
            return done

    async def _correct_future_accesses(self) -> None:
        try:
            with trio.move_on_after(_TIMEOUT):
                await self._artifacts.correct_future_accesses()
        except sqlite3.Error as error:
            # Not an obstacle to the eviction: artifacts of the future are evicted last.
            _log.warning("last accesses in the future cannot be corrected: %s", error)

    async def _usage(self) -> Usage:
        budget = self._options.budget_bytes
        if budget is None:
            return await self._files.disk_usage()
        return Usage(await self._artifacts.total_bytes(flush_timeout=_TIMEOUT), budget)

    async def _evict(self, usage: Usage, stopping: trio.Event) -> EvictorStatistics:
        excess = usage.used - self._options.target * usage.limit
        done = await self._evict_some(excess, stopping, upload_queued=False)
        if done.freed_bytes < excess and not stopping.is_set():
            queued = await self._evict_some(excess - done.freed_bytes, stopping, upload_queued=True)
            if queued.removed:
                _log.warning(
                    "%d artifacts were evicted before their queued upload, which is lost",
                    queued.removed,
                )
            done += queued
        if done.freed_bytes < excess and not stopping.is_set():
            _log.warning(
                "the usage is still %d of %d bytes, but no artifact is left to evict",
                usage.used - done.freed_bytes,
                usage.limit,
            )
        return done + EvictorStatistics(evictions=1)

    async def _evict_some(
        self, excess: float, stopping: trio.Event, *, upload_queued: bool
    ) -> EvictorStatistics:
        done = EvictorStatistics()
        last: CasArtifact | None = None
        batch: deque[CasArtifact] = deque()
        while done.freed_bytes < excess and not stopping.is_set():
            # A batch is used up before the next one is read, since artifacts whose files are
            # missing or cannot be removed may free nothing. The next one continues behind it.
            if not batch:
                batch.extend(
                    await self._artifacts.oldest(
                        BATCH, after=last, upload_queued=upload_queued, flush_timeout=_TIMEOUT
                    )
                )
            if not batch:
                break
            chosen = _take_bytes(batch, excess - done.freed_bytes)
            last = chosen[-1]
            removal = await self._artifacts.delete(
                [artifact.key for artifact in chosen], enqueue_timeout=_TIMEOUT
            )
            done += EvictorStatistics(
                removed=len(removal.freed),
                freed_bytes=self._freed(chosen, removal.freed),
                skipped=len(removal.failed),
            )
        return done

    def _freed(self, chosen: list[CasArtifact], freed: dict[str, int]) -> int:
        """Return by how much the usage has fallen, in bytes."""
        if self._options.budget_bytes is None:
            return sum(freed.values())
        return sum(artifact.size_bytes or 0 for artifact in chosen if artifact.key in freed)


def _take_bytes(batch: deque[CasArtifact], size: float) -> list[CasArtifact]:
    """Take the first artifacts from a batch, until they have this many bytes in total."""
    taken: list[CasArtifact] = []
    while batch and size > 0:
        artifact = batch.popleft()
        taken.append(artifact)
        size -= artifact.size_bytes or 0
    return taken
