"""`KeyValueEvictor`: deletes values that were not used for long, or that exceed their budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from typing import NamedTuple

import trio

from forebay import Buffer, SqliteStore
from forebay.cache._workers import CloseGuard, run_at_intervals
from forebay.cache.artifacts import BATCH
from forebay.cache.evictor import EvictorStatistics
from forebay.cache.key_values import KeyValueStore
from forebay.cache.options import CacheOptions
from forebay.cache.tables import Clock, KeyValueEntry

_log = logging.getLogger("forebay.cache")

_TIMEOUT = 1.0
"""How long to wait for a flush, and for capacity for a batch of deletes, in seconds."""

_START = (-(2**63), "")
"""A position before every value."""


class KeyValueUse(NamedTuple):
    """The size and last access of the value of one key, for eviction."""

    key: str
    """The key of the row, in the table."""
    size_bytes: int
    last_accessed_at: int


class KeyValueEvictor:
    """Deletes values of `KeyValueStore` in batches of 500, the least recently used first.

    It deletes those that were not used for `CacheOptions.key_value_max_age`. If the remaining ones
    have reached the high watermark of `CacheOptions.key_value_budget_bytes`, it deletes more, down
    to the target.

    It flushes the buffer first, so that it knows every access. If that takes longer than a second,
    since the database is locked or its disk is full, it evicts nothing in this run.
    """

    def __init__(
        self,
        store: SqliteStore,
        buffer: Buffer[KeyValueEntry],
        key_values: KeyValueStore,
        options: CacheOptions,
        *,
        clock: Clock,
        guard: CloseGuard | None = None,
    ) -> None:
        """Create an evictor. `open_cache` does this.

        Args:
            store: the database.
            buffer: the buffer of the table.
            key_values: the values to evict.
            options: the maximum age, the budget, the watermarks and the interval.
            clock: returns the current time.
            guard: makes `run_once` raise once the cache is closed.
        """
        self._store = store
        self._buffer = buffer
        self._key_values = key_values
        self._options = options
        self._clock = clock
        self._guard = guard or CloseGuard()
        self._turn = trio.Lock()
        self._total = EvictorStatistics()
        self.total_bytes: int | None = None
        """The size of all values that the last run found, less what it evicted; None before the
        first run."""

    def statistics(self) -> EvictorStatistics:
        """Return the counts since the cache was opened."""
        return self._total

    async def run(self, stopping: trio.Event) -> None:
        """Evict values at every interval until stopped.

        A run that fails is logged as a warning, and the next one tries again. Cancelled, this ends
        within its batch.

        Args:
            stopping: set this event to make the worker end after the batch in progress.

        Raises:
            trio.BrokenResourceError: the buffer's worker task has failed.
        """
        interval = self._options.eviction_interval
        await run_at_intervals("evictor of key-values", self._run, stopping, interval)

    async def run_once(self) -> EvictorStatistics:
        """Evict values once: by their age, and by their size if it has reached the high watermark.

        Waits while another run is in progress. Cancelled, it ends within its batch.

        Returns:
            The counts of this run. `evictions` is 1 if the size had reached the high watermark.

        Raises:
            trio.ClosedResourceError: the cache is closed.
            trio.BrokenResourceError: the buffer's worker task has failed.
        """
        self._guard.check_open()
        return await self._run(trio.Event())

    async def _run(self, stopping: trio.Event) -> EvictorStatistics:
        async with self._turn:
            done = EvictorStatistics(runs=1)
            # From here on, `used` has what is put and read, and the table what was before.
            with self._key_values.noting_use() as used:
                with trio.move_on_after(_TIMEOUT) as timeout:
                    await self._buffer.flush()
                if timeout.cancelled_caught:
                    _log.warning(
                        "no key-values are evicted: their buffer cannot be flushed, since the "
                        "database is locked or its disk is full"
                    )
                else:
                    done += await self._evict_all(stopping, used)
            self._total += done
            return done

    async def _evict_all(self, stopping: trio.Event, used: Container[str]) -> EvictorStatistics:
        budget = self._options.key_value_budget_bytes
        size = await self._total_bytes()
        cutoff = self._clock() - self._options.key_value_max_age * 1_000_000
        done, last = await self._evict(
            stopping, used, None, lambda use, _: use.last_accessed_at < cutoff
        )
        size -= done.freed_bytes
        if budget is not None and size >= self._options.high_watermark * budget:
            excess = size - self._options.target * budget
            # The values behind those that are too old: the deletes may still be pending.
            more, _ = await self._evict(stopping, used, last, lambda _, freed: freed < excess)
            done += more + EvictorStatistics(evictions=1)
            size -= more.freed_bytes
        self.total_bytes = size
        return done

    async def _evict(
        self,
        stopping: trio.Event,
        used: Container[str],
        last: KeyValueUse | None,
        wanted: Callable[[KeyValueUse, int], bool],
    ) -> tuple[EvictorStatistics, KeyValueUse | None]:
        """Delete values in the order of their last access, from behind `last`.

        Args:
            stopping: set to end after the batch in progress.
            used: the keys of values that stay.
            last: the value to begin behind; None to begin with the first.
            wanted: returns whether to delete a value, given the bytes freed before it. The first
                value that is not wanted ends the eviction.

        Returns:
            The counts, and the last value that was wanted.
        """
        done = EvictorStatistics()
        while not stopping.is_set():
            chosen: list[KeyValueUse] = []
            freed = done.freed_bytes
            for use in await self._oldest(last):
                if not wanted(use, freed):
                    break
                chosen.append(use)
                freed += use.size_bytes
            if not chosen:
                break
            last = chosen[-1]
            with trio.move_on_after(_TIMEOUT) as timeout:
                for use in chosen:
                    if await self._key_values.delete_unused(use.key, used):
                        done += EvictorStatistics(removed=1, freed_bytes=use.size_bytes)
            if timeout.cancelled_caught:
                break
        return done, last

    async def _oldest(self, after: KeyValueUse | None) -> list[KeyValueUse]:
        start = _START if after is None else (after.last_accessed_at, after.key)
        rows = await self._store.fetch_all(
            "SELECT key, size_bytes, last_accessed_at FROM key_value_entries "
            "WHERE (last_accessed_at, key) > (?, ?) ORDER BY last_accessed_at, key LIMIT ?",
            (*start, BATCH),
        )
        return [KeyValueUse(*row) for row in rows]

    async def _total_bytes(self) -> int:
        row = await self._store.fetch_one("SELECT SUM(size_bytes) FROM key_value_entries")
        return 0 if row is None or row[0] is None else int(row[0])
