"""`KeyValueStore`: what build actions produced, by key, read through a memory of bounded size."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import trio
from cachetools import TTLCache

from forebay import Buffer, SqliteStore
from forebay.cache._check import checked_text, encodable, several
from forebay.cache._gate import Gate
from forebay.cache.tables import Clock, KeyValueEntry

_OVERHEAD = 400
"""What `TTLCache` and the entry take beside the two texts, in bytes: measured, 350 on CPython."""


@dataclass(slots=True)
class _Kept:
    """A value in memory."""

    payload: str
    accessed_at: int
    size: int


@dataclass(slots=True)
class _Unsettled:
    """What the buffer holds of a key, and the table may not have yet."""

    number: int
    """All of it is settled when so many entries are."""
    payload: str | None
    """None where only an access is pending."""
    accessed_at: int


class KeyValueStore:
    """The table `key_value_entries`, and the values of it that are kept in memory.

    What was put is what is read, from the moment `put` returns, whether it has been flushed or
    not, and whether the memory still has it or not. Values are kept in memory up to a number of
    bytes, the least recently used go first, and each for its time to live at most: so long may
    it take to see a change that another process made in the file.

    A read marks the access in the table, but only when the last one that is marked is longer
    ago than the touch interval. A mark never displaces a value that is to be written.

    Once the cache is closed, both methods raise `trio.ClosedResourceError`; once the buffer's
    worker has failed, `trio.BrokenResourceError`.
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
        gate: Gate,
    ) -> None:
        self._store = store
        self._buffer = buffer
        self._clock = clock
        self._gate = gate
        self._touch_interval = touch_interval * 1_000_000
        self._memory: TTLCache[str, _Kept] = TTLCache(
            memory_bytes, time_to_live, timer=trio.current_time, getsizeof=_size
        )
        self._unsettled: OrderedDict[str, _Unsettled] = OrderedDict()
        self._reads: dict[str, object] = {}
        """The last read of the table that is under way, by key; a put ends its say."""
        self._putting = trio.Lock()

    async def put(self, cas_id: str, account: str, project: str, values: Iterable[str]) -> None:
        """Store the values of a key, in place of those it had.

        Returns once they are accepted, as `Buffer.enqueue` does: waits while the buffer is full.
        Cancelled, it has stored nothing.

        Args:
            cas_id: the key, within the project.
            account: the account's handle.
            project: the project's handle.
            values: the values, in order; none at all is a value too.

        Raises:
            TypeError: an argument, or one of the values, is no text, or `values` is a single one.
            ValueError: one cannot be expressed in UTF-8, or a name is empty.
        """
        self._gate.check()
        key = entry_key(cas_id, account, project)
        payload = _encoded(values)
        # One at a time: what memory has last must be what the buffer accepted last.
        async with self._putting:
            now = self._clock()
            await self._buffer.enqueue(KeyValueEntry(key, payload, now, now, now))
            self._settle()
            self._mark_unsettled(key, payload, now)
            self._reads.pop(key, None)
            self._keep(key, payload, now)

    async def get(self, cas_id: str, account: str, project: str) -> str | None:
        """Give the values of a key, as the JSON text ``{"entries":[{"value":…},…]}``.

        Never waits for a flush or for room in the buffer: while it is full, accesses are not
        marked. Cancelled, it has changed nothing.

        Args:
            cas_id: as for `put`.
            account: as for `put`.
            project: as for `put`.

        Returns:
            The text, or None where there are no values of this key in this project.

        Raises:
            TypeError: an argument is no text.
            ValueError: one is empty, or cannot be expressed in UTF-8.
        """
        self._gate.check()
        key = entry_key(cas_id, account, project)
        await trio.lowlevel.checkpoint()
        kept = self._recall(key) or await self._read(key)
        if kept is None:
            return None
        self._touch(key, kept)
        return kept.payload

    def _recall(self, key: str) -> _Kept | None:
        """Give what memory has, or what the buffer holds."""
        kept = self._memory.get(key)
        if kept is None:
            self._settle()
            unsettled = self._unsettled.get(key)
            if unsettled is not None and unsettled.payload is not None:
                return self._keep(key, unsettled.payload, unsettled.accessed_at)
        return kept

    async def _read(self, key: str) -> _Kept | None:
        """Read the table, and keep what it has, unless a put overtook the read."""
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
        unsettled = self._unsettled.get(key)
        if unsettled is not None:
            accessed_at = max(accessed_at, unsettled.accessed_at)
        if latest:
            return self._keep(key, payload, accessed_at)
        return _kept(key, payload, accessed_at)

    def _touch(self, key: str, kept: _Kept) -> None:
        """Mark an access, unless one was marked within the interval."""
        now = self._clock()
        # Where the clock was set back, an access in the future is no reason to mark none.
        if 0 <= now - kept.accessed_at < self._touch_interval:
            return
        try:
            self._buffer.enqueue_update_nowait(key, last_accessed_at=now, updated_at=now)
        except trio.WouldBlock:
            return
        kept.accessed_at = now
        self._settle()
        unsettled = self._unsettled.get(key)
        self._mark_unsettled(key, None if unsettled is None else unsettled.payload, now)

    def _keep(self, key: str, payload: str, accessed_at: int) -> _Kept:
        kept = _kept(key, payload, accessed_at)
        self._memory.pop(key, None)
        if kept.size <= self._memory.maxsize:
            self._memory[key] = kept
        return kept

    def _mark_unsettled(self, key: str, payload: str | None, accessed_at: int) -> None:
        accepted = self._buffer.statistics().accepted
        self._unsettled[key] = _Unsettled(accepted, payload, accessed_at)
        self._unsettled.move_to_end(key)

    def _settle(self) -> None:
        """Forget what the table has by now: a buffer settles in the order of acceptance."""
        buffer = self._buffer.statistics()
        settled = buffer.accepted - buffer.pending
        while self._unsettled:
            key, oldest = next(iter(self._unsettled.items()))
            if oldest.number > settled:
                return
            del self._unsettled[key]


def entry_key(cas_id: str, account: str, project: str) -> str:
    """Give the key of an entry: ``keyvalue:{account}:{project}:{cas_id}``.

    A colon in a handle is written as ``%3A`` and a percent sign as ``%25``, so that no two
    projects share a key.

    Raises:
        TypeError: an argument is no text.
        ValueError: one is empty, or cannot be expressed in UTF-8.
    """
    parts = [
        checked_text(argument, handle).replace("%", "%25").replace(":", "%3A")
        for argument, handle in (("account", account), ("project", project))
    ]
    return ":".join(("keyvalue", *parts, checked_text("cas_id", cas_id)))


def _encoded(values: Iterable[str]) -> str:
    entries = [{"value": encodable("values", value)} for value in several("values", values)]
    return json.dumps({"entries": entries}, ensure_ascii=False, separators=(",", ":"))


def _kept(key: str, payload: str, accessed_at: int) -> _Kept:
    size = sys.getsizeof(key) + sys.getsizeof(payload) + _OVERHEAD
    return _Kept(payload, accessed_at, size)


def _size(kept: _Kept) -> int:
    return kept.size
