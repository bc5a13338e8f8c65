"""`Evictor`: removes the artifacts used least recently, before the disk is full."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from forebay.cache._gate import Gate
from forebay.cache._pause import outlived, pause
from forebay.cache.artifacts import BATCH, CacheArtifacts
from forebay.cache.files import ArtifactFiles, Fill
from forebay.cache.options import CacheOptions
from forebay.cache.tables import CasArtifact

_log = logging.getLogger("forebay.cache")

_PATIENCE = 1.0
"""How long, in seconds, a flush is waited for: on a full disk, only eviction makes it possible."""


@dataclass(frozen=True, slots=True)
class EvictorStatistics:
    """What an evictor has done: in one run, or in all of them."""

    runs: int = 0
    """Looks at the fill."""
    evictions: int = 0
    """Runs that found it past the high watermark."""
    removed: int = 0
    """Artifacts removed, those whose file was gone already included."""
    freed_bytes: int = 0
    """The bytes these had."""
    skipped: int = 0
    """Files that could not be removed; one is counted in each run that meets it."""

    def __add__(self, other: EvictorStatistics) -> EvictorStatistics:
        """Give the sum of both."""
        return EvictorStatistics(
            self.runs + other.runs,
            self.evictions + other.evictions,
            self.removed + other.removed,
            self.freed_bytes + other.freed_bytes,
            self.skipped + other.skipped,
        )


class Evictor:
    """Removes files and their rows, least recently used first, in batches of 500.

    Artifacts whose upload is queued go last, with a warning: what is removed is not uploaded.

    It does not wait for a flush for longer than a second: while the disk is full, or the file
    locked, it goes by what the table has, and the deletes of rows wait in the buffer.

    With a byte budget, what counts is the sum of the sizes in `cas_artifacts`; without, the fill
    of the disk that the files are on, whoever fills it.
    """

    def __init__(
        self,
        artifacts: CacheArtifacts,
        files: ArtifactFiles,
        options: CacheOptions,
        *,
        gate: Gate | None = None,
    ) -> None:
        """Make an evictor; `open_cache` does.

        Args:
            artifacts: what it evicts.
            files: where their files are.
            options: the watermarks, the budget and the interval.
            gate: what closes to `run_once`.
        """
        self._artifacts = artifacts
        self._files = files
        self._options = options
        self._gate = gate or Gate()
        self._turn = trio.Lock()
        self._total = EvictorStatistics()

    def statistics(self) -> EvictorStatistics:
        """Tell what was done since the cache was opened."""
        return self._total

    async def run(self, stopping: trio.Event) -> None:
        """Look at the fill at every interval, and evict where it is too high.

        A run that fails is a warning, and the next one tries again. Cancelled, it ends after the
        batch in hand.

        Args:
            stopping: set it to let this end after the batch in hand.

        Raises:
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        while not stopping.is_set():
            with outlived("the evictor's"):
                await self._run(stopping)
            await pause(stopping, self._options.eviction_interval)

    async def run_once(self) -> EvictorStatistics:
        """Look at the fill once, and evict if it has passed the high watermark.

        Waits while another run is under way. Cancelled, it ends after the batch in hand.

        Returns:
            What this run did.

        Raises:
            trio.ClosedResourceError: the cache is closed.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        self._gate.check()
        return await self._run(trio.Event())

    async def _run(self, stopping: trio.Event) -> EvictorStatistics:
        async with self._turn:
            done = EvictorStatistics(runs=1)
            try:
                fill = await self._fill()
            except OSError as error:
                _log.warning("nothing is evicted, since the disk's fill cannot be told: %s", error)
                fill = None
            if fill is not None and fill.used >= self._options.high_watermark * fill.limit:
                done += await self._evict(fill, stopping)
            self._total += done
            return done

    async def _fill(self) -> Fill:
        budget = self._options.budget_bytes
        if budget is None:
            return await self._files.disk()
        return Fill(await self._artifacts.total_bytes(patience=_PATIENCE), budget)

    async def _evict(self, fill: Fill, stopping: trio.Event) -> EvictorStatistics:
        excess = fill.used - self._options.target * fill.limit
        done = await self._evict_some(excess, stopping, upload_queued=False)
        if done.freed_bytes < excess and not stopping.is_set():
            queued = await self._evict_some(excess - done.freed_bytes, stopping, upload_queued=True)
            if queued.removed:
                _log.warning(
                    "%d artifacts are evicted whose upload is queued still, and will not be done",
                    queued.removed,
                )
            done += queued
        if done.freed_bytes < excess and not stopping.is_set():
            _log.warning(
                "the fill is %d of %d bytes still, but no artifact is left to evict",
                fill.used - done.freed_bytes,
                fill.limit,
            )
        return done + EvictorStatistics(evictions=1)

    async def _evict_some(
        self, excess: float, stopping: trio.Event, *, upload_queued: bool
    ) -> EvictorStatistics:
        done = EvictorStatistics()
        last: CasArtifact | None = None
        while done.freed_bytes < excess and not stopping.is_set():
            batch = await self._artifacts.oldest(
                BATCH, after=last, upload_queued=upload_queued, patience=_PATIENCE
            )
            chosen = list(_enough(batch, excess - done.freed_bytes))
            if not chosen:
                break
            # What could not be removed is passed over: the next batch starts behind it.
            last = chosen[-1]
            removal = await self._artifacts.delete(
                [artifact.key for artifact in chosen], patience=_PATIENCE
            )
            done += EvictorStatistics(
                removed=len(removal.freed),
                freed_bytes=self._freed(chosen, removal.freed),
                skipped=len(removal.failed),
            )
        return done

    def _freed(self, chosen: list[CasArtifact], freed: dict[str, int]) -> int:
        """Tell how much less there is of what the fill counts."""
        if self._options.budget_bytes is None:
            return sum(freed.values())
        return sum(artifact.size_bytes or 0 for artifact in chosen if artifact.key in freed)


def _enough(batch: list[CasArtifact], excess: float) -> Iterator[CasArtifact]:
    """Give the first of a batch, up to the one with which they have so many bytes."""
    for artifact in batch:
        if excess <= 0:
            return
        yield artifact
        excess -= artifact.size_bytes or 0
