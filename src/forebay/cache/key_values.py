"""`KeyValueStore`: the artifacts that build actions produced, cached in bounded memory."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import trio
from cachetools import TTLCache

from forebay import Buffer, SqliteStore
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
class _Pending:
    """What the buffer holds for a key, and the table may not have yet."""

    number: int
    """The entry is settled once the buffer has settled this many entries."""
    payload: str | None
    """None if only an access is pending."""
    accessed_at: int


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
        store: SqliteStore,
        buffer: Buffer[KeyValueEntry],
        *,
        memory_bytes: int,
        time_to_live: float,
        touch_interval: float,
        clock: Clock,
        guard: CloseGuard,
    ) -> None:
        self._store = store
        self._buffer = buffer
        self._clock = clock
        self._guard = guard
        self._touch_interval = touch_interval * 1_000_000
        self._memory: TTLCache[str, _CachedValue] = TTLCache(
            memory_bytes, time_to_live, timer=trio.current_time, getsizeof=_size
        )
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        """In the order in which the buffer settles them."""
        self._reads: dict[str, object] = {}
        """The latest read of the table in progress, by key. A put removes it, so that the read's
        older value is not cached."""
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
            self._forget_settled()
            self._add_pending(key, payload, now)
            self._reads.pop(key, None)
            self._cache(key, payload, now)

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
        value = self._cached(key) or await self._read(key)
        if value is None:
            return None
        self._record_access(key, value)
        return value.payload

    def _cached(self, key: str) -> _CachedValue | None:
        """Return the value of a key from memory, or from what the buffer holds."""
        value = self._memory.get(key)
        if value is None:
            self._forget_settled()
            pending = self._pending.get(key)
            if pending is not None and pending.payload is not None:
                return self._cache(key, pending.payload, pending.accessed_at)
        return value

    async def _read(self, key: str) -> _CachedValue | None:
        """Read the value of a key from the table, and cache it unless a put was faster."""
        token = self._reads[key] = object()
        try:
            row = await self._store.fetch_one(
                "SELECT json_payload, last_accessed_at FROM key_value_entries WHERE key = ?", (key,)
            )
        finally:
            latest = self._reads.get(key) is token
            if latest:
                del self._reads[key]
        if row is None:
            return None
        payload, accessed_at = row
        pending = self._pending.get(key)
        if pending is not None:
            accessed_at = max(accessed_at, pending.accessed_at)
        if latest:
            return self._cache(key, payload, accessed_at)
        return _cached_value(key, payload, accessed_at)

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
        self._forget_settled()
        pending = self._pending.get(key)
        self._add_pending(key, None if pending is None else pending.payload, now)

    def _cache(self, key: str, payload: str, accessed_at: int) -> _CachedValue:
        value = _cached_value(key, payload, accessed_at)
        self._memory.pop(key, None)
        if value.size <= self._memory.maxsize:
            self._memory[key] = value
        return value

    def _add_pending(self, key: str, payload: str | None, accessed_at: int) -> None:
        accepted = self._buffer.statistics().accepted
        self._pending[key] = _Pending(accepted, payload, accessed_at)
        self._pending.move_to_end(key)

    def _forget_settled(self) -> None:
        """Forget the entries that are settled. A buffer settles in the order of acceptance."""
        buffer = self._buffer.statistics()
        settled = buffer.accepted - buffer.pending
        while self._pending:
            key, oldest = next(iter(self._pending.items()))
            if oldest.number > settled:
                return
            del self._pending[key]


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
