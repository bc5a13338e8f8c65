"""`KeyValueStore`: the artifacts that build actions produced, cached in bounded memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import trio
from cachetools import TTLCache

from forebay import Buffer
from forebay.cache._arguments import checked_iterable, checked_text, checked_utf8
from forebay.cache._workers import CloseGuard
from forebay.cache.tables import Clock, KeyValueEntry

_OVERHEAD = 400
"""The memory of a cached value beside its two texts, in bytes: measured as 350 on CPython."""


@dataclass(slots=True)
class _CachedValue:
    payload: str
    accessed_at: int
    size: int


@dataclass(slots=True)
class _Reads:
    """The tasks that read one key at the same time. One access of them all is recorded."""

    tasks: int = 0
    value: _CachedValue | None = None
    """What the first of them found."""


class KeyValueStore:
    """The table `key_value_entries`, with its values cached in memory.

    `get` returns what `put` stored from the moment `put` returns, whether it is flushed or not and
    whether it is cached or not. The cache is bounded in bytes; the least recently used values are
    removed first. Each value is cached for at most its time to live, so a change that another
    process made in the database is visible after that time at the latest.

    A read records the access in the table, but only if the last recorded access is older than the
    touch interval. A recorded access never replaces a pending value.

    Both methods raise `trio.ClosedResourceError` once the cache is closed, and
    `trio.BrokenResourceError` once the buffer's worker task has failed.
    """

    def __init__(
        self,
        buffer: Buffer[KeyValueEntry],
        *,
        memory_bytes: int,
        time_to_live: float,
        touch_interval: float,
        clock: Clock,
        guard: CloseGuard,
    ) -> None:
        self._buffer = buffer
        self._clock = clock
        self._guard = guard
        self._touch_interval = touch_interval * 1_000_000
        self._memory: TTLCache[str, _CachedValue] = TTLCache(
            memory_bytes, time_to_live, timer=trio.current_time, getsizeof=_size
        )
        self._reads: dict[str, _Reads] = {}
        """The reads in progress, by key. A put removes them, so that their older value is not
        cached."""
        self._put_lock = trio.Lock()

    async def put(self, cas_id: str, account: str, project: str, values: Iterable[str]) -> None:
        """Store the values of a key, and replace those it had.

        Returns once the buffer has accepted them, as `Buffer.enqueue` does; waits while the buffer
        is full. Cancelled, it has stored nothing.

        Args:
            cas_id: the key within the project.
            account: the account's handle.
            project: the project's handle.
            values: the values, in order. An empty list is stored as such.

        Raises:
            TypeError: an argument or a value is not a str, or `values` is a single str.
            ValueError: a text cannot be encoded as UTF-8, or the key or a handle is empty.
        """
        self._guard.check_open()
        key = entry_key(cas_id, account, project)
        payload = _encoded(values)
        # Under a lock, so that memory and the buffer agree on which put was the last one.
        async with self._put_lock:
            now = self._clock()
            await self._buffer.enqueue(KeyValueEntry(key, payload, now, now, now))
            self._reads.pop(key, None)
            self._cache(key, _cached_value(key, payload, now))

    async def get(self, cas_id: str, account: str, project: str) -> str | None:
        """Return the values of a key, as the JSON text ``{"entries":[{"value":…},…]}``.

        Never waits for a flush or for capacity of the buffer. While the buffer is full, accesses
        are not recorded. Cancelled, it has changed nothing.

        Args:
            cas_id: as for `put`.
            account: as for `put`.
            project: as for `put`.

        Returns:
            The text, or None if the project has no values under this key.

        Raises:
            TypeError: an argument is not a str.
            ValueError: an argument is empty or cannot be encoded as UTF-8.
        """
        self._guard.check_open()
        key = entry_key(cas_id, account, project)
        await trio.lowlevel.checkpoint()
        value = self._memory.get(key) or await self._read(key)
        if value is None:
            return None
        self._record_access(key, value)
        return value.payload

    async def _read(self, key: str) -> _CachedValue | None:
        """Read the value of a key from the buffer, and cache it unless a put was faster."""
        reads = self._reads.setdefault(key, _Reads())
        reads.tasks += 1
        try:
            row = await self._buffer.get(key)
        finally:
            reads.tasks -= 1
            latest = self._reads.get(key) is reads
            if latest and not reads.tasks:
                del self._reads[key]
        if row is None:
            return None
        if reads.value is None:
            value = _cached_value(key, row.json_payload, row.last_accessed_at)
            reads.value = self._cache(key, value) if latest else value
        return reads.value

    def _record_access(self, key: str, value: _CachedValue) -> None:
        """Enqueue an access, unless one was recorded within the touch interval."""
        now = self._clock()
        # An access in the future means that the clock was set back, so this one is recorded.
        if 0 <= now - value.accessed_at < self._touch_interval:
            return
        try:
            self._buffer.enqueue_update_nowait(key, last_accessed_at=now, updated_at=now)
        except trio.WouldBlock:
            return
        value.accessed_at = now

    def _cache(self, key: str, value: _CachedValue) -> _CachedValue:
        self._memory.pop(key, None)
        if value.size <= self._memory.maxsize:
            self._memory[key] = value
        return value


def entry_key(cas_id: str, account: str, project: str) -> str:
    """Return the key of an entry: ``keyvalue:{account}:{project}:{cas_id}``.

    In a handle, a colon is written as ``%3A`` and a percent sign as ``%25``, so that no two
    projects share a key.

    Raises:
        TypeError: an argument is not a str.
        ValueError: an argument is empty or cannot be encoded as UTF-8.
    """
    parts = [
        checked_text(argument, handle).replace("%", "%25").replace(":", "%3A")
        for argument, handle in (("account", account), ("project", project))
    ]
    return ":".join(("keyvalue", *parts, checked_text("cas_id", cas_id)))


def _encoded(values: Iterable[str]) -> str:
    entries = [
        {"value": checked_utf8("values", value)} for value in checked_iterable("values", values)
    ]
    return json.dumps({"entries": entries}, ensure_ascii=False, separators=(",", ":"))


def _cached_value(key: str, payload: str, accessed_at: int) -> _CachedValue:
    size = sys.getsizeof(key) + sys.getsizeof(payload) + _OVERHEAD
    return _CachedValue(payload, accessed_at, size)


def _size(value: _CachedValue) -> int:
    return value.size
