"""`ArtifactContents`: the files of artifacts and the rows that describe them, kept as one.

The row of a stored artifact has the size and the SHA-256 of its content, and the time at which it
was stored, which is also the modification time of its file. A file is read only with a row that
describes it. So an artifact whose file and row were not both changed before a crash is not found.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import trio
from cachetools import LRUCache

from forebay import Buffer
from forebay.cache._arguments import Chunk, checked_chunk
from forebay.cache._key_locks import KeyLocks
from forebay.cache._outbox import InsertionTimes, upload_request
from forebay.cache._upload import Upload
from forebay.cache._workers import CloseGuard
from forebay.cache.artifact import (
    Artifact,
    ArtifactReader,
    ArtifactStatistics,
    DigestMismatchError,
    SizeMismatchError,
)
from forebay.cache.artifact_key import ArtifactKey
from forebay.cache.files import ArtifactFiles, OpenFile
from forebay.cache.tables import CasArtifact, Clock

_PLACE_TIMEOUT: Final = 30.0
"""How long storing an artifact may delay a cancellation, in seconds, while all threads are busy."""


class _Found(NamedTuple):
    """What the file system, or the caller, knows of a file."""

    size: int | None
    """None: there is no file."""
    modified_ns: int | None
    """None: it is not known."""


@dataclass(slots=True)
class _Known:
    """A row of an artifact: what is in the table, or will be."""

    artifact: Artifact
    size: int | None
    accessed_at: int

    def describes(self, file: OpenFile) -> bool:
        """Return whether a file has the content of this row, as far as the row says."""
        return self.artifact.stored_at is None or self.agrees(_Found(file.size, file.modified_ns))

    def agrees(self, found: _Found) -> bool:
        """Return whether the row has nothing to be changed."""
        stored_at = self.artifact.stored_at
        return self.size == found.size and (
            stored_at is None or found.modified_ns is None or stored_at * 1_000 == found.modified_ns
        )


@dataclass(slots=True)
class _Loads:
    """The tasks that read the row of one key at the same time."""

    tasks: int = 0


class ArtifactContents:
    """Stores and opens artifacts. `CacheArtifacts` documents its methods."""

    def __init__(
        self,
        buffer: Buffer[CasArtifact],
        files: ArtifactFiles,
        *,
        clock: Clock,
        touch_interval: float,
        known_artifacts: int,
        insertions: InsertionTimes,
    ) -> None:
        """Set the buffer and the files.

        Args:
            buffer: the buffer of the rows.
            files: the artifacts' files.
            clock: returns the times of the rows.
            touch_interval: the shortest time between two recorded accesses, in seconds.
            known_artifacts: how many rows are kept in memory.
            insertions: the times of queued uploads.
        """
        self.locks = KeyLocks()
        self._hits = self._misses = self._hit_bytes = 0
        self._stored = self._stored_bytes = 0
        self._buffer = buffer
        self._files = files
        self._clock = clock
        self._insertions = insertions
        self._touch_interval = touch_interval * 1_000_000
        self._known: LRUCache[str, _Known] = LRUCache(known_artifacts)
        self._loads: dict[str, _Loads] = {}
        """The reads of rows in progress, by key. A change of the row removes them, so that the
        older row is not kept."""
        self._latest = 0
        """The time of the last artifact that was stored."""

    async def store(
        self,
        key: str,
        chunks: AsyncIterable[Chunk] | Chunk,
        *,
        size: int | None,
        sha256: str | None,
        metadata: Mapping[str, str],
        upload_as: ArtifactKey | None,
        guard: CloseGuard,
    ) -> Artifact:
        """Store an artifact: its content, then its row."""
        upload = self._files.upload()
        try:
            await _receive(upload, chunks, size)
            if size is not None and upload.size != size:
                raise SizeMismatchError(key, expected=size, received=upload.size)
            digest = await upload.complete()
            if sha256 is not None and digest != sha256:
                raise DigestMismatchError(key, expected=sha256, received=digest)
            await self.locks.wait_free(key)
            with self.locks.hold([key]):
                guard.check_open()
                artifact = Artifact(key, upload.size, digest, metadata, self._next_stored_at())
                request = None
                if upload_as is not None:
                    request = upload_request(upload_as, self._insertions.next())
                await self._place(upload, artifact, request)
        finally:
            await upload.discard()
        self._stored += 1
        self._stored_bytes += artifact.size
        return artifact

    def _next_stored_at(self) -> int:
        self._latest = max(self._clock(), self._latest + 1)
        return self._latest

    async def _place(self, upload: Upload, artifact: Artifact, request: str | None) -> None:
        """Enqueue the row, then put the file in its place, or undo both."""
        now = self._clock()
        await self._buffer.enqueue(_row(artifact, now, request))
        # From here on the row describes a file that is not there yet, so cancellation waits.
        try:
            with trio.fail_after(_PLACE_TIMEOUT) as scope:
                scope.shield = True
                stored_ns = (artifact.stored_at or 0) * 1_000
                await upload.place(*self._files.place_of(artifact.key), stored_ns)
        except BaseException:
            self.forget(artifact.key)
            with trio.move_on_after(_PLACE_TIMEOUT, shield=True):
                removal = await self._files.remove([artifact.key])
                if not removal.failed:
                    await self._buffer.enqueue_delete(artifact.key)
            raise
        self.remember(_Known(artifact, artifact.size, now))

    async def open(self, key: str) -> ArtifactReader | None:
        """Open the file of an artifact, if its row describes it, and record the access."""
        found = await self._open(key)
        if found is None:
            return None
        known, file = found
        self.touch(known)
        return _reader(known, file)

    async def current(self, key: str) -> Artifact | None:
        """Return what `open` would find, without recording an access."""
        found = await self._open(key)
        if found is None:
            return None
        known, file = found
        file.file.close()
        return known.artifact

    async def _open(self, key: str) -> tuple[_Known, OpenFile] | None:
        undescribed = None
        while (file := await self._files.open(key)) is not None:
            known = None
            try:
                known = await self._describing(key, file)
            finally:
                if known is None:
                    file.file.close()
            if known is not None:
                return known, file
            # If the artifact was replaced since the file was opened, there is another file now.
            seen = (file.size, file.modified_ns)
            if seen == undescribed:
                return None
            undescribed = seen
        return None

    def count(self, reader: ArtifactReader | None) -> None:
        """Count a hit or a miss."""
        if reader is None:
            self._misses += 1
        else:
            self._hits += 1
            self._hit_bytes += reader.artifact.size

    def statistics(self) -> ArtifactStatistics:
        """Return the counts so far."""
        return ArtifactStatistics(
            hits=self._hits,
            misses=self._misses,
            hit_bytes=self._hit_bytes,
            stored=self._stored,
            stored_bytes=self._stored_bytes,
        )

    async def _describing(self, key: str, file: OpenFile) -> _Known | None:
        """Return the row that describes a file; None if there is none."""
        known = self._known.get(key)
        if known is not None and known.describes(file):
            return known
        known = await self.load(key)
        if known is None or known.describes(file):
            return known
        artifact = known.artifact
        if artifact.size != file.size or artifact.sha256 is None or artifact.stored_at is None:
            return None
        # The file may have been copied without its modification time.
        same = await self._files.has_content(file, artifact.sha256, artifact.stored_at * 1_000)
        return known if same else None

    async def load(self, key: str) -> _Known | None:
        """Return the row of an artifact, pending or committed, and keep it in memory."""
        loads = self._loads.setdefault(key, _Loads())
        loads.tasks += 1
        try:
            row = await self._buffer.get(key)
        finally:
            loads.tasks -= 1
            latest = self._loads.get(key) is loads
            if latest and not loads.tasks:
                del self._loads[key]
        if row is None:
            return None
        known = _Known(_artifact(row), row.size_bytes, row.last_accessed_at)
        if latest:
            self._known[key] = known
        return known

    async def track(self, key: str, size: int | None, *, commit: bool) -> None:
        """Record an access, and write the row unless there is one that describes the file.

        Args:
            key: the artifact's key.
            size: the size of its file, in bytes; None to ask the file system for it.
            commit: whether to return only once the row is committed.
        """
        found = await self._found(key, size)
        known = self._known.get(key)
        if known is not None and known.agrees(found) and not commit:
            self.touch(known)
            return
        await self.locks.wait_free(key)
        with self.locks.hold([key]):
            found = await self._found(key, size)
            known = await self.load(key)
            if known is not None and known.agrees(found):
                self.touch(known)
                if commit:
                    await self._buffer.flush()
                return
            now = self._clock()
            row = CasArtifact(key, found.size, now, now, now)
            if commit:
                await self._buffer.write(row)
            else:
                await self._buffer.enqueue(row)
            self.remember(_Known(_artifact(row), found.size, now))

    async def _found(self, key: str, size: int | None) -> _Found:
        if size is not None:
            return _Found(size, None)
        status = await self._files.status(key)
        return _Found(None, None) if status is None else _Found(status.st_size, status.st_mtime_ns)

    def touch(self, known: _Known) -> None:
        """Record an access, unless one was recorded within the touch interval or there is no room.

        An access before the last one is not recorded either: the clock was set back, and the
        artifact must not become the first one to evict.
        """
        now = self._clock()
        if now - known.accessed_at < self._touch_interval:
            return
        try:
            self._buffer.enqueue_update_nowait(
                known.artifact.key, last_accessed_at=now, updated_at=now
            )
        except trio.WouldBlock:
            return
        known.accessed_at = now

    def remember(self, known: _Known) -> None:
        """Keep the new row of an artifact in memory."""
        self._loads.pop(known.artifact.key, None)
        self._known[known.artifact.key] = known

    def known_keys(self, prefix: str) -> dict[str, None]:
        """Return the keys in memory that begin with a prefix."""
        return {key: None for key in self._known if key.startswith(prefix)}

    def forget(self, key: str) -> None:
        """Remove the row of an artifact from memory, since it is being deleted."""
        self._loads.pop(key, None)
        self._known.pop(key, None)

    def forget_all(self) -> None:
        """Remove all rows from memory, since they were changed in the table."""
        self._loads.clear()
        self._known.clear()


def _reader(known: _Known, file: OpenFile) -> ArtifactReader:
    artifact = known.artifact
    if artifact.size != file.size:
        artifact = replace(artifact, size=file.size)
    return ArtifactReader(artifact, file.file, file.content)


async def _receive(upload: Upload, chunks: AsyncIterable[Chunk] | Chunk, size: int | None) -> None:
    """Write all chunks to an upload; stop behind the one that exceeds the size."""
    if not isinstance(chunks, AsyncIterable):
        await upload.write(checked_chunk(chunks))
        return
    try:
        async for chunk in chunks:
            await upload.write(checked_chunk(chunk))
            if size is not None and upload.size > size:
                return
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def _row(artifact: Artifact, now: int, upload: str | None) -> CasArtifact:
    metadata = None
    if artifact.metadata:
        metadata = json.dumps(artifact.metadata, ensure_ascii=False, separators=(",", ":"))
    return CasArtifact(
        key=artifact.key,
        size_bytes=artifact.size,
        last_accessed_at=now,
        inserted_at=now,
        updated_at=now,
        stored_at=artifact.stored_at,
        sha256=artifact.sha256,
        metadata=metadata,
        upload=upload,
    )


def _artifact(row: CasArtifact) -> Artifact:
    metadata = {} if row.metadata is None else json.loads(row.metadata)
    return Artifact(row.key, row.size_bytes or 0, row.sha256, metadata, row.stored_at)
