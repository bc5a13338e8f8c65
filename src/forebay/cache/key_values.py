"""`KeyValueStore`: the artifacts that build actions produced, cached in bounded memory."""

from __future__ import annotations

import copy
from collections.abc import Container, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from forebay import Buffer
from forebay.cache._arguments import check_time, checked_texts, wrong_type
from forebay.cache._entries import encoded_values, entry_key
from forebay.cache._row_reads import RowRead, RowReads
from forebay.cache._value_memory import CachedValue, ValueMemory, cached_value
from forebay.cache._workers import CloseGuard
from forebay.cache.tables import Clock, KeyValueEntry


@dataclass(frozen=True, slots=True)
class KeyValueStatistics:
    """What the values of a cache were used for since the cache was opened."""

    hits: int = 0
    """Values that were found, in memory or in the table."""
    misses: int = 0
    """Keys for which there was no value."""
    hit_bytes: int = 0
    """The total size of the values that were found, in bytes."""
    stored: int = 0
    """Values that were put, without those that were older than the value of their key."""
    stored_bytes: int = 0
    """Their total size, in bytes."""
    memory_bytes: int = 0
    """The size of the values in memory after the last change of it, in bytes, with overhead."""


class _Counts:
    """The counts of `KeyValueStatistics`, added up by a store and its copies."""

    def __init__(self) -> None:
        self.hits = self.misses = self.hit_bytes = self.stored = self.stored_bytes = 0


@dataclass(slots=True)
class _ValueRead(RowRead):
    """The tasks that read one key at the same time. One access of them all is recorded."""

    value: CachedValue | None = None
    """What the first of them found."""


class KeyValueStore:
    """The table `key_value_entries`, with its values cached in memory.

    A value is a list of texts (`put`, `get`) or bytes (`put_bytes`, `get_bytes`); the last one that
    was put replaces the earlier ones, of either kind. It is returned from the moment the put
    returns, and not any more from the moment `delete` returns, whether this is flushed or not and
    whether the value is cached or not. The cache is bounded in bytes; the least recently used
    values are removed first. Each value is cached for at most its time to live, so a change that
    another process made in the database is visible after that time at the latest.

    A read records the access in the table, but only if the last recorded access is older than the
    touch interval. A recorded access never replaces a pending value.

    All methods raise `trio.ClosedResourceError` once the cache is closed, and
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
        guard: CloseGuard | None = None,
    ) -> None:
        """Create the store. `open_cache` does this.

        Args:
            buffer: the buffer of the table.
            memory_bytes: as in `CacheOptions`.
            time_to_live: as in `CacheOptions`.
            touch_interval: as in `CacheOptions`.
            clock: returns the times that the table stores.
            guard: makes all methods raise once the cache is closed.
        """
        self._buffer = buffer
        self._clock = clock
        self._guard = guard or CloseGuard()
        self._touch_interval = touch_interval * 1_000_000
        self._memory = ValueMemory(memory_bytes, time_to_live)
        self._counts = _Counts()
        self._reads = RowReads(_ValueRead)
        self._notes: list[set[str]] = []
        """The sets of the `noting_use` blocks."""
        self._write_lock = trio.Lock()
        """Held by a put or delete, so that memory and the buffer agree on which was the last."""

    def guarded(self, guard: CloseGuard) -> KeyValueStore:
        """Return this store with another guard, and with the same state otherwise."""
        guarded = copy.copy(self)
        guarded._guard = guard  # noqa: SLF001  # a copy of this class
        return guarded

    async def put(
        self,
        cas_id: str,
        account: str,
        project: str,
        values: Iterable[str],
        *,
        written_at: int | None = None,
    ) -> bool:
        """Store the values of a key, and replace what it had.

        Returns once the buffer has accepted them, as `Buffer.enqueue` does; waits while the buffer
        is full. Cancelled, it has stored nothing.

        Args:
            cas_id: the key within the project.
            account: the account's handle.
            project: the project's handle.
            values: the values, in order. An empty list is stored as such.
            written_at: the time of the values, in microseconds since 1970, for example of the
                server that they come from. If what the key has is of a later time, nothing is
                stored. None: the current time; the values are stored in any case.

        Returns:
            Whether the values were stored.

        Raises:
            TypeError: an argument or a value is not a str, `values` is a single str, or
                `written_at` is not an int.
            ValueError: a text cannot be encoded as UTF-8, the key or a handle is empty, or
                `written_at` is before 1970 or too far in the future to add to.
        """
        return await self._put(cas_id, account, project, encoded_values(values), written_at)

    async def put_bytes(
        self,
        cas_id: str,
        account: str,
        project: str,
        value: bytes,
        *,
        written_at: int | None = None,
    ) -> bool:
        """Store bytes under a key, and replace what it had, as `put` does.

        Args:
            cas_id: as for `put`.
            account: as for `put`.
            project: as for `put`.
            value: the bytes. None are stored as such.
            written_at: as for `put`.

        Returns:
            As `put` does.

        Raises:
            TypeError: `value` is not bytes, or as for `put`.
            ValueError: as for `put`.
        """
        if not isinstance(value, bytes):
            raise wrong_type("value must be bytes", value)
        return await self._put(cas_id, account, project, value, written_at)

    async def _put(
        self, cas_id: str, account: str, project: str, payload: str | bytes, written_at: int | None
    ) -> bool:
        self._guard.check_open()
        key = entry_key(cas_id, account, project)
        if written_at is not None:
            check_time("written_at", written_at)
        async with self._write_lock:
            if written_at is not None and await self._written_at(key) > written_at:
                return False
            now = self._clock()
            written = now if written_at is None else written_at
            size = len(payload.encode() if isinstance(payload, str) else payload)
            await self._buffer.enqueue(KeyValueEntry(key, payload, size, written, now, now, now))
            self._reads.changed(key)
            self._memory.keep(key, cached_value(key, payload, size, written, now))
            self._note_use(key)
            self._counts.stored += 1
            self._counts.stored_bytes += size
            return True

    async def _written_at(self, key: str) -> int:
        """Return the time of the value that a key has, or -1 if it has none."""
        if (value := self._memory.get(key)) is not None:
            return value.written_at
        row = await self._buffer.get(key)
        return -1 if row is None else row.written_at

    async def get(self, cas_id: str, account: str, project: str) -> str | None:
        """Return the values of a key, as the JSON text ``{"entries":[{"value":…},…]}``.

        What `put_bytes` stored is not returned.

        Never waits for a flush or for capacity of the buffer. While the buffer is full, accesses
        are not recorded. Cancelled, it has changed nothing.

        Args:
            cas_id: as for `put`.
            account: as for `put`.
            project: as for `put`.

        Returns:
            The text, or None if the project has no list of values under this key.

        Raises:
            TypeError: an argument is not a str.
            ValueError: an argument is empty or cannot be encoded as UTF-8.
        """
        payload = await self._get(cas_id, account, project)
        return payload if isinstance(payload, str) else None

    async def get_bytes(self, cas_id: str, account: str, project: str) -> bytes | None:
        """Return the bytes of a key; of a list of values, the text of `get` in UTF-8.

        The rest is the same as for `get`.

        Args:
            cas_id: as for `put`.
            account: as for `put`.
            project: as for `put`.

        Returns:
            The bytes, or None if the project has nothing under this key.

        Raises:
            TypeError: as for `get`.
            ValueError: as for `get`.
        """
        payload = await self._get(cas_id, account, project)
        return payload.encode() if isinstance(payload, str) else payload

    async def _get(self, cas_id: str, account: str, project: str) -> str | bytes | None:
        self._guard.check_open()
        key = entry_key(cas_id, account, project)
        self._note_use(key)
        await trio.lowlevel.checkpoint()
        value = self._memory.get(key) or await self._read(key)
        if value is None:
            self._counts.misses += 1
            return None
        self._counts.hits += 1
        self._counts.hit_bytes += value.size_bytes
        self._note_use(key)  # again, for the blocks that began during the read
        self._record_access(key, value)
        return value.payload

    async def _read(self, key: str) -> CachedValue | None:
        """Read the value of a key from the buffer, and cache it unless a put was faster."""
        with self._reads.reading(key) as read:
            row = await self._buffer.get(key)
        if row is None:
            return None
        if read.value is None:
            value = cached_value(
                key, row.payload, row.size_bytes, row.written_at, row.last_accessed_at
            )
            read.value = self._memory.keep(key, value) if read.latest else value
        return read.value

    def statistics(self) -> KeyValueStatistics:
        """Return the counts since the cache was opened."""
        counts = self._counts
        return KeyValueStatistics(
            hits=counts.hits,
            misses=counts.misses,
            hit_bytes=counts.hit_bytes,
            stored=counts.stored,
            stored_bytes=counts.stored_bytes,
            memory_bytes=self._memory.size,
        )

    async def delete(self, cas_id: str, account: str, project: str) -> None:
        """Delete what a key has, in the table and in memory. Without a value nothing happens.

        Waits while the buffer is full. Cancelled, it has deleted nothing.

        Args:
            cas_id: as for `put`.
            account: as for `put`.
            project: as for `put`.

        Raises:
            TypeError: as for `get`.
            ValueError: as for `get`.
        """
        self._guard.check_open()
        await self.delete_entries([entry_key(cas_id, account, project)])

    async def delete_entries(self, keys: Iterable[str]) -> None:
        """Delete rows as `delete` does, by the keys that the table has.

        Cancelled, it may have deleted some of them.

        Args:
            keys: keys as the table has them.

        Raises:
            TypeError: a key is not a str, or `keys` is a single str.
            ValueError: a key is empty or cannot be encoded as UTF-8.
        """
        self._guard.check_open()
        for key in checked_texts("keys", keys):
            async with self._write_lock:
                await self._delete(key)

    @contextmanager
    def noting_use(self) -> Generator[set[str], None, None]:
        """Note which values are put or read during the block.

        Yields:
            The keys of these values, as the table has them. The set grows.
        """
        used: set[str] = set()
        self._notes.append(used)
        try:
            yield used
        finally:
            self._notes.remove(used)

    async def delete_unused(self, key: str, used: Container[str]) -> bool:
        """Delete the row with this key unless `used` has the key when the delete is accepted.

        Waits while the buffer is full. Cancelled, it has deleted nothing.

        Args:
            key: a key as the table has it.
            used: keys of rows that stay, such as the set of `noting_use`.

        Returns:
            Whether the row is deleted.
        """
        self._guard.check_open()
        async with self._write_lock:
            while key not in used:
                try:
                    self._buffer.enqueue_delete_nowait(key)  # no task can use it in between
                except trio.WouldBlock:
                    await self._buffer.flush()
                    continue
                self._forget(key)
                return True
            return False

    async def _delete(self, key: str) -> None:
        await self._buffer.enqueue_delete(key)
        self._forget(key)

    def _forget(self, key: str) -> None:
        self._reads.changed(key)
        self._memory.remove(key)

    def cached_keys(self, prefix: str) -> list[str]:
        """Return the keys that are cached in memory and begin with a prefix."""
        return self._memory.keys(prefix)

    def _note_use(self, key: str) -> None:
        for used in self._notes:
            used.add(key)

    def _record_access(self, key: str, value: CachedValue) -> None:
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
