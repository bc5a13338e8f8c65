"""`CacheArtifacts`: stores, opens, finds and deletes artifacts."""

from __future__ import annotations

import copy
import math
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any

import trio

from forebay import Buffer, RowError, SqliteStore
from forebay.cache._arguments import (
    Chunk,
    check_chunks,
    check_handles,
    check_row,
    check_timeout,
    checked_limit,
    checked_metadata,
    checked_sha256,
    checked_size,
    checked_text,
    checked_texts,
)
from forebay.cache._contents import ArtifactContents
from forebay.cache._deletion import ArtifactDeletion
from forebay.cache._outbox import InsertionTimes
from forebay.cache._workers import CloseGuard
from forebay.cache.artifact import Artifact, ArtifactReader, ArtifactStatistics
from forebay.cache.artifact_key import ArtifactKey
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

    `reading` and `find` return an artifact with the SHA-256 of its content, as `store` stored it,
    or not at all.

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
        touch_interval: float = 60.0,
        known_artifacts: int = 65_536,
        insertions: InsertionTimes | None = None,
        guard: CloseGuard | None = None,
    ) -> None:
        self._store = store
        self._buffer = buffer
        self._queue = queue
        self._files = files
        self._clock = clock
        self._guard = guard or CloseGuard()
        self._contents = ArtifactContents(
            buffer,
            files,
            clock=clock,
            touch_interval=touch_interval,
            known_artifacts=known_artifacts,
            insertions=insertions or InsertionTimes(clock, 0),
        )
        self._deletion = ArtifactDeletion(buffer, files, self._contents)

    def guarded(self, guard: CloseGuard) -> CacheArtifacts:
        """Return these artifacts with another guard, and with the same state otherwise."""
        guarded = copy.copy(self)
        guarded._guard = guard  # noqa: SLF001  # a copy of this class
        return guarded

    async def store(
        self,
        key: str,
        chunks: AsyncIterable[Chunk] | Chunk,
        *,
        size: int | None = None,
        sha256: str | None = None,
        metadata: Mapping[str, str] | None = None,
        upload_as: ArtifactKey | None = None,
    ) -> Artifact:
        """Store an artifact with its SHA-256 and metadata, and replace the one with this key.

        When this returns, `reading` and `find` find the artifact; its row is committed with the
        next flush. Up to 64 KiB are collected in memory and written in one call of a thread; more
        is written as it arrives. If two tasks store the same key, the one that completes last
        remains, whole.

        The file is not synced to the disk: after a power failure, the artifact may be lost. After
        a crash of the program it is whole, or not there: what `reading` finds always has the
        SHA-256 that was computed here.

        Waits while the buffer is full. Cancelled, or if `chunks` raises, nothing was stored and the
        artifact is as before. It ignores a cancellation once the row is accepted.

        Args:
            key: the artifact's key.
            chunks: the content, in one piece or in pieces as they arrive. An asynchronous generator
                is closed at the end, in any case.
            size: the announced size, in bytes, to check; None if it is not known.
            sha256: the announced SHA-256, in hexadecimal digits, to check; None not to check it.
            metadata: texts to keep with the artifact, by name.
            upload_as: queue the upload to the object storage, of the artifact of this account,
                project and kind, in the transaction that commits the row. Content that is in the
                storage, or queued, is not uploaded again. None queues nothing.

        Returns:
            What was stored, with its size and its SHA-256.

        Raises:
            SizeMismatchError: `chunks` has more or fewer bytes than `size`.
            DigestMismatchError: the content does not have this SHA-256.
            TypeError: an argument is of the wrong type.
            ValueError: the key is empty, a text cannot be encoded as UTF-8, `size` is less than 0,
                or `sha256` does not have 64 hexadecimal digits.
            OSError: the file cannot be written. The artifact is deleted if its row was accepted.
        """
        self._guard.check_open()
        check_chunks(chunks)
        return await self._contents.store(
            checked_text("key", key),
            chunks,
            size=None if size is None else checked_size("size", size),
            sha256=None if sha256 is None else checked_sha256("sha256", sha256),
            metadata=checked_metadata("metadata", metadata),
            upload_as=upload_as,
            guard=self._guard,
        )

    @asynccontextmanager
    async def reading(self, key: str) -> AsyncGenerator[ArtifactReader | None, None]:
        """Open an artifact for the duration of the block, and record the access.

        Takes one call of a thread if the artifact's row is among the `known_artifacts` in memory.
        It never waits for a write: the access is not recorded while the buffer is full, or within
        `touch_interval` of the last one. Cancelled, it has changed nothing.

        Args:
            key: the artifact's key.

        Yields:
            The artifact and its open file; None if the artifact is not known, or its file does not
            have the content that was stored. The file stays readable until the block ends, even if
            the artifact is replaced or deleted meanwhile.

        Raises:
            TypeError: the key is not a str.
            ValueError: the key is empty or cannot be encoded as UTF-8.
            OSError: the file cannot be opened.
        """
        self._guard.check_open()
        reader = await self._contents.open(checked_text("key", key))
        try:
            self._contents.count(reader)
            yield reader
        finally:
            if reader is not None:
                reader.file.close()

    async def find(self, key: str) -> Artifact | None:
        """Return what the cache knows of an artifact, and record the access, as `reading` does.

        Args:
            key: the artifact's key.

        Returns:
            The artifact; None if `reading` would not find it.

        Raises:
            TypeError: as for `reading`.
            ValueError: as for `reading`.
            OSError: as for `reading`.
        """
        self._guard.check_open()
        return await self._contents.find(checked_text("key", key), touch=True)

    async def current(self, key: str) -> Artifact | None:
        """Return what `find` would, without recording an access.

        Args:
            key: as for `find`.

        Raises:
            TypeError: as for `find`.
            ValueError: as for `find`.
            OSError: as for `find`.
        """
        self._guard.check_open()
        return await self._contents.find(checked_text("key", key), touch=False)

    async def mark_uploaded(self, key: str, sha256: str) -> None:
        """Record which content of an artifact is in the object storage.

        Waits while the buffer is full. Cancelled, it has recorded nothing.

        Args:
            key: the artifact's key.
            sha256: the SHA-256 of the content, in hexadecimal digits.

        Raises:
            TypeError: an argument is not a str.
            ValueError: the key is empty or cannot be encoded as UTF-8, or `sha256` does not have 64
                hexadecimal digits.
        """
        self._guard.check_open()
        uploaded = checked_sha256("sha256", sha256)
        await self._buffer.enqueue_update(checked_text("key", key), uploaded_sha256=uploaded)

    def statistics(self) -> ArtifactStatistics:
        """Return the counts since the cache was opened."""
        return self._contents.statistics()

    async def track_access(self, key: str, *, size: int | None = None) -> None:
        """Record that an artifact is used now, and the size of its file.

        Call it after the file was written by `ArtifactFiles.writing`. `store` and `reading` do the
        same by themselves.

        If the artifact has a row with this size already, it does not wait: the access is not
        recorded while the buffer is full, or within `touch_interval` of the last one. Otherwise the
        row is written, without SHA-256 and metadata, and this waits while the buffer is full.
        Cancelled, it has recorded nothing.

        Args:
            key: the artifact's key.
            size: the size of its file, in bytes; None to ask the file system for it.

        Raises:
            TypeError: the key is not a str, or `size` is not an int.
            ValueError: the key is empty or cannot be encoded as UTF-8, or `size` is less than 0.
        """
        self._guard.check_open()
        if size is not None:
            checked_size("size", size)
        await self._contents.track(checked_text("key", key), size, commit=False)

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
            await self._contents.track(checked_text("key", key), None, commit=True)

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
            "SELECT key, size_bytes, last_accessed_at, inserted_at, updated_at, stored_at, sha256, "  # noqa: S608  # no values
            "metadata FROM cas_artifacts WHERE (last_accessed_at, key) > (?, ?) "
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
            enqueue_timeout: how long each batch of 500 may wait for artifacts that are being
                stored, and for capacity of the buffer, in seconds. What has to wait longer
                remains. It is safe to delete it again.

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
            self._contents.known.forget_all()

    async def delete_project(
        self, account: str, project: str, *, flush_timeout: float = 1.0
    ) -> int:
        """Delete the artifacts of a project as `delete` does: all whose key has its prefix.

        Args:
            account: the account's handle.
            project: the project's handle.
            flush_timeout: how long to wait for the flush, and in each batch of 500 as `delete`
                waits, in seconds; at least 0, or infinity. Without the flush, artifacts whose
                rows are neither committed nor in memory are not deleted.

        Returns:
            How many artifacts were deleted.

        Raises:
            TypeError: a handle is not a str, or `flush_timeout` is not a number.
            ValueError: a handle is empty, has a slash, or cannot be encoded as UTF-8, or
                `flush_timeout` is less than 0.
        """
        self._guard.check_open()
        check_handles(account, project)
        check_timeout("flush_timeout", flush_timeout)
        prefix = f"{account}/{project}"
        await self._flush(flush_timeout, self._buffer)
        # Those in memory too: without a flush, the table does not have the latest ones.
        latest = self._contents.known.keys(f"{prefix}/")
        deleted = 0
        for batch in _batches(latest):
            deleted += len((await self._deletion.delete(batch, flush_timeout)).freed)
        start = f"{prefix}/"
        # A range instead of LIKE or GLOB, to which some characters of a handle are wildcards and
        # NUL is the end. "0" is the character after "/".
        while rows := await self._store.fetch_all(
            "SELECT key FROM cas_artifacts WHERE key >= ? AND key < ? ORDER BY key LIMIT ?",
            (start, f"{prefix}0", BATCH),
        ):
            keys = [key for (key,) in rows if key not in latest]
            deleted += len((await self._deletion.delete(keys, flush_timeout)).freed)
            start = f"{rows[-1][0]}\0"
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
