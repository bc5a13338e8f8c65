"""`CacheArtifacts`: the size and last access of each artifact, for eviction."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import trio

from forebay import Buffer, RowError, SqliteStore
from forebay.cache._arguments import (
    check_row,
    check_timeout,
    checked_limit,
    checked_text,
    checked_texts,
)
from forebay.cache._deletion import ArtifactDeletion
from forebay.cache._workers import CloseGuard
from forebay.cache.files import ArtifactFiles, Removal
from forebay.cache.tables import CasArtifact, Clock, Executes, S3Transfer

BATCH = 500
"""How many keys one statement or one call of a thread handles. SQLite's lowest limit of parameters
in use is 999."""

_START = (-(2**63), "")
"""A position before every artifact."""

_UPLOAD_QUEUED = (
    "EXISTS (SELECT 1 FROM s3_transfers AS t WHERE t.type = 'upload' AND t.key = cas_artifacts.key)"
)

_CONDITIONS = {None: "TRUE", True: _UPLOAD_QUEUED, False: f"NOT {_UPLOAD_QUEUED}"}


class CacheArtifacts:
    """The table `cas_artifacts`, and the files that its rows describe.

    The server chooses the keys. `delete_project` expects the keys of a project to begin with
    ``account/project/``.

    `oldest`, `total_bytes` and `delete_project` flush first, so that they see
    every access and delete that was accepted. A flush waits while the disk is full or another
    process has locked the database. When `flush_timeout` has passed, the method reads the
    committed rows: pending accesses and deletes are then missing from its answer.

    All methods raise `trio.ClosedResourceError` once the cache is closed, and
    `trio.BrokenResourceError` once the buffer's worker task has failed.
    """

    def __init__(
        self,
        store: SqliteStore,
        buffer: Buffer[CasArtifact],
        queue: Buffer[S3Transfer],
        files: ArtifactFiles,
        *,
        clock: Clock,
        guard: CloseGuard | None = None,
    ) -> None:
        self._store = store
        self._buffer = buffer
        self._queue = queue
        self._files = files
        self._clock = clock
        self._guard = guard or CloseGuard()
        self._deletion = ArtifactDeletion(buffer, files, self._track)

    def guarded(self, guard: CloseGuard) -> CacheArtifacts:
        """Return these artifacts with another guard, and with the same state otherwise."""
        guarded = copy.copy(self)
        guarded._guard = guard  # noqa: SLF001  # a copy of this class
        return guarded

    async def track_access(self, key: str) -> None:
        """Record that an artifact is used now, and the size of its file.

        Waits while the buffer is full. Cancelled, it has recorded nothing.

        Args:
            key: the artifact's key.

        Raises:
            TypeError: the key is not a str.
            ValueError: the key is empty or cannot be encoded as UTF-8.
        """
        self._guard.check_open()
        await self._track(checked_text("key", key))

    async def _track(self, key: str) -> None:
        await self._buffer.enqueue(await self._accessed(key))

    async def _accessed(self, key: str) -> CasArtifact:
        size = await self._files.size(key)
        now = self._clock()
        return CasArtifact(key, size, now, now, now)

    async def write_access(self, key: str) -> None:
        """Record an access as `track_access` does, and return once it is committed.

        Tasks that do this at the same time share a transaction. If the table refuses the row, it
        becomes a dead letter.

        Args:
            key: as for `track_access`.

        Raises:
            TypeError: as for `track_access`.
            ValueError: as for `track_access`.
        """
        self._guard.check_open()
        with suppress(RowError):
            await self._buffer.write(await self._accessed(checked_text("key", key)))

    async def oldest(
        self,
        limit: int = BATCH,
        *,
        after: CasArtifact | None = None,
        upload_queued: bool | None = None,
        flush_timeout: float = 1.0,
    ) -> list[CasArtifact]:
        """Return the least recently used artifacts, in the order of their last access.

        Artifacts with the same time are in the order of their keys. Cancelled, it has changed
        nothing.

        Args:
            limit: the maximum number of artifacts.
            after: the last artifact of the previous batch, to continue behind it.
            upload_queued: True for only those whose upload is queued, False for only the others,
                None for all.
            flush_timeout: how long to wait for the flush, in seconds; at least 0, or infinity.
                After it, pending accesses do not count: the order may be an older one, artifacts
                that were tracked for the first time are missing, and deleted ones are included.

        Raises:
            TypeError: `limit` is not an int, `after` is not a CasArtifact, or `flush_timeout` is
                not a number.
            ValueError: `limit` is less than 1 or does not fit into SQLite's 64-bit integer, or
                `flush_timeout` is less than 0.
        """
        self._guard.check_open()
        checked_limit("limit", limit)
        check_row("after", after, CasArtifact)
        check_timeout("flush_timeout", flush_timeout)
        await self._flush(flush_timeout, self._buffer, self._queue)
        start = _START if after is None else (after.last_accessed_at, after.key)
        rows = await self._store.fetch_all(
            "SELECT key, size_bytes, last_accessed_at, inserted_at, updated_at "  # noqa: S608  # no values
            "FROM cas_artifacts WHERE (last_accessed_at, key) > (?, ?) "
            f"AND {_CONDITIONS[upload_queued]} ORDER BY last_accessed_at, key LIMIT ?",
            (*start, limit),
        )
        return [CasArtifact(*row) for row in rows]

    async def _flush(self, flush_timeout: float, *buffers: Buffer[Any]) -> None:
        with trio.move_on_after(flush_timeout):
            for buffer in buffers:
                await buffer.flush()

    async def existing_keys(self, keys: Iterable[str]) -> set[str]:
        """Return those of the given keys that are tracked: not deleted, and not unknown.

        Every access and delete that was accepted counts, flushed or not. Cancelled, it has changed
        nothing.

        Args:
            keys: any number of keys.

        Raises:
            TypeError: a key is not a str, or `keys` is a single str.
            ValueError: a key is empty or cannot be encoded as UTF-8.
        """
        self._guard.check_open()
        wanted = dict.fromkeys(checked_texts("keys", keys))
        found: set[str] = set()
        for batch in _batches(wanted):
            found.update(await self._buffer.get_many(batch))
        return found

    async def total_bytes(self, *, flush_timeout: float = 1.0) -> int:
        """Return the total size of all artifacts, in bytes.

        Reads every row, so the time it takes grows with the number of artifacts. Cancelled, it
        has changed nothing.

        Args:
            flush_timeout: how long to wait for the flush, in seconds; at least 0, or infinity.
                After it, the sizes of pending accesses are missing, and those of deleted
                artifacts are included.

        Raises:
            TypeError: `flush_timeout` is not a number.
            ValueError: `flush_timeout` is less than 0.
        """
        self._guard.check_open()
        check_timeout("flush_timeout", flush_timeout)
        await self._flush(flush_timeout, self._buffer)
        row = await self._store.fetch_one("SELECT SUM(size_bytes) FROM cas_artifacts")
        return 0 if row is None or row[0] is None else int(row[0])

    async def delete(self, keys: Iterable[str], *, enqueue_timeout: float = math.inf) -> Removal:
        """Delete artifacts: first the files, then the rows.

        A file that does not exist counts as removed. A file that cannot be removed is skipped with
        a warning in the log and keeps its row, so that the cache still accounts for it.

        Cancelled, it may have removed files whose rows remain. It is safe to delete the same keys
        again.

        Args:
            keys: the artifacts' keys. Unknown keys are ignored.
            enqueue_timeout: how long each batch of 500 may wait for capacity of the buffer, in
                seconds. Rows that do not get any remain. It is safe to delete them again.

        Returns:
            What happened to each file.

        Raises:
            TypeError: a key is not a str, or `keys` is a single str.
            ValueError: a key is empty or cannot be encoded as UTF-8.
        """
        self._guard.check_open()
        total = Removal({}, {})
        for batch in _batches(checked_texts("keys", keys)):
            removal = await self._deletion.delete(batch, enqueue_timeout)
            total.freed.update(removal.freed)
            total.failed.update(removal.failed)
        return total

    async def track_rewritten(self, *, enqueue_timeout: float = math.inf) -> None:
        """Track the files that were written again while they were deleted.

        If a file is written and tracked before the delete of its old row is accepted, the delete
        removes the new row as well. A file without a row would never be evicted. `delete` does
        this by itself; this method repeats it for the files that found the buffer full, or whose
        `delete` was cancelled. Cancelled, it leaves the other files to the next call.

        Args:
            enqueue_timeout: how long to wait for capacity of the buffer, in seconds.
        """
        self._guard.check_open()
        await self._deletion.track_rewritten(enqueue_timeout)

    async def correct_future_accesses(self) -> None:
        """Set the last accesses that are in the future to now, in transactions of 500 rows.

        They were recorded while the clock was ahead. Until that time, their artifacts would be
        evicted after all others. Cancelled, it leaves the others to the next call.

        Raises:
            sqlite3.Error: the database cannot be written.
        """
        self._guard.check_open()
        while await self._store.fetch_one(
            "SELECT 1 FROM cas_artifacts WHERE last_accessed_at > ? LIMIT 1", (self._clock(),)
        ):
            await self._store.run(_correct_accesses, self._clock())

    async def delete_project(
        self, account: str, project: str, *, flush_timeout: float = 1.0
    ) -> int:
        """Delete the artifacts of a project as `delete` does: all whose key has its prefix.

        Args:
            account: the account's handle.
            project: the project's handle.
            flush_timeout: how long to wait for the flush, in seconds; at least 0, or infinity.
                After it, artifacts that were tracked for the first time are not deleted.

        Returns:
            How many artifacts were deleted.

        Raises:
            TypeError: a handle is not a str, or `flush_timeout` is not a number.
            ValueError: a handle is empty, has a slash, or cannot be encoded as UTF-8, or
                `flush_timeout` is less than 0.
        """
        self._guard.check_open()
        for argument, handle in (("account", account), ("project", project)):
            if "/" in checked_text(argument, handle):
                raise ValueError(f"{argument} {handle!r} has a slash, which ends a handle in a key")
        check_timeout("flush_timeout", flush_timeout)
        prefix = f"{account}/{project}"
        await self._flush(flush_timeout, self._buffer)
        start = f"{prefix}/"
        deleted = 0
        # A range instead of LIKE or GLOB, to which some characters of a handle are wildcards and
        # NUL is the end. "0" is the character after "/".
        while rows := await self._store.fetch_all(
            "SELECT key FROM cas_artifacts WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
            (start, f"{prefix}0", BATCH),
        ):
            keys = [key for (key,) in rows]
            deleted += len((await self._deletion.delete(keys)).freed)
            start = f"{keys[-1]}\0"
        return deleted


def _correct_accesses(raw: Executes, now: int) -> None:
    raw.execute(
        "UPDATE main.cas_artifacts SET last_accessed_at = ? WHERE id IN "
        "(SELECT id FROM main.cas_artifacts WHERE last_accessed_at > ? LIMIT ?)",
        (now, now, BATCH),
    )


def _batches(keys: Iterable[str]) -> Iterator[tuple[str, ...]]:
    left = iter(keys)
    while batch := tuple(islice(left, BATCH)):
        yield batch
