"""`ArtifactContents`: the files of artifacts and the rows that describe them, kept as one.

The row of a stored artifact has the size and the SHA-256 of its content, and the time at which it
was stored, which is also the modification time of its file. A file is read only with a row that
describes it. So an artifact whose file and row were not both changed before a crash is not found.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from dataclasses import replace
from typing import Final

import trio

from forebay import Buffer
from forebay.cache._arguments import Chunk, checked_chunk
from forebay.cache._key_locks import KeyLocks
from forebay.cache._known_artifacts import KnownArtifact, KnownArtifacts
from forebay.cache._open_file import FileStatus, OpenFile
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
from forebay.cache.files import ArtifactFiles
from forebay.cache.tables import CasArtifact, Clock

_PLACE_TIMEOUT: Final = 30.0
"""How long storing an artifact may delay a cancellation, in seconds, while all threads are busy."""


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
        self.known = KnownArtifacts(buffer, known_artifacts)
        self._hits = self._misses = self._hit_bytes = 0
        self._stored = self._stored_bytes = 0
        self._buffer = buffer
        self._files = files
        self._clock = clock
        self._insertions = insertions
        self._touch_interval = touch_interval * 1_000_000
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
            with trio.fail_after(_PLACE_TIMEOUT, shield=True):
                stored_ns = (artifact.stored_at or 0) * 1_000
                await upload.place(*self._files.place_of(artifact.key), stored_ns)
        except BaseException:
            self.known.forget(artifact.key)
            with trio.move_on_after(_PLACE_TIMEOUT, shield=True):
                removal = await self._files.remove([artifact.key])
                if not removal.failed:
                    await self._buffer.enqueue_delete(artifact.key)
            raise
        self.known.remember(KnownArtifact(artifact, artifact.size, now))

    async def open(self, key: str) -> ArtifactReader | None:
        """Open the file of an artifact, if its row describes it, and record the access."""
        found = await self._open(key, with_content=True)
        if found is None:
            return None
        known, file = found
        self.touch(known)
        return ArtifactReader(_described(known, file), file.file, file.content)

    async def find(self, key: str, *, touch: bool) -> Artifact | None:
        """Return the artifact that `open` would find, and record the access if `touch` is true."""
        found = await self._open(key, with_content=False)
        if found is None:
            return None
        known, file = found
        file.file.close()
        if touch:
            self.touch(known)
        return _described(known, file)

    async def _open(self, key: str, *, with_content: bool) -> tuple[KnownArtifact, OpenFile] | None:
        undescribed = None
        while (file := await self._files.open(key, with_content=with_content)) is not None:
            known = None
            try:
                known = await self._describing(key, file)
            finally:
                if known is None:
                    file.file.close()
            if known is not None:
                return known, file
            # If the artifact was replaced since the file was opened, there is another file now.
            seen = file.status
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

    async def _describing(self, key: str, file: OpenFile) -> KnownArtifact | None:
        """Return the row that describes a file; None if there is none."""
        known = self.known.get(key)
        if known is not None and known.describes(file.status):
            return known
        known = await self.known.load(key)
        if known is None or known.describes(file.status):
            return known
        artifact = known.artifact
        if artifact.size != file.size or artifact.sha256 is None or artifact.stored_at is None:
            return None
        # The file may have been copied without its modification time.
        same = await self._files.has_content(file, artifact.sha256, artifact.stored_at * 1_000)
        return known if same else None

    async def track(self, key: str, size: int | None, *, commit: bool) -> None:
        """Record an access, and write the row unless there is one that describes the file.

        Args:
            key: the artifact's key.
            size: the size of its file, in bytes; None to ask the file system for it.
            commit: whether to return only once the row is committed.
        """
        found = await self._found(key, size)
        known = self.known.get(key)
        if known is not None and known.agrees(found) and not commit:
            self.touch(known)
            return
        await self.locks.wait_free(key)
        with self.locks.hold([key]):
            found = await self._found(key, size)
            known = await self.known.load(key)
            if known is not None and known.agrees(found):
                self.touch(known)
                if commit:
                    await self._buffer.flush()
                return
            now = self._clock()
            row = CasArtifact(key, found.size, now, now, now)
            try:
                if commit:
                    await self._buffer.write(row)
                else:
                    await self._buffer.enqueue(row)
            except BaseException:
                self.known.forget(key)  # the row may be accepted nevertheless
                raise
            self.known.remember(KnownArtifact.from_row(row))

    async def _found(self, key: str, size: int | None) -> FileStatus:
        if size is not None:
            return FileStatus(size, None)
        status = await self._files.status(key)
        if status is None:
            return FileStatus(None, None)
        return FileStatus(status.st_size, status.st_mtime_ns)

    def touch(self, known: KnownArtifact) -> None:
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


def _described(known: KnownArtifact, file: OpenFile) -> Artifact:
    artifact = known.artifact
    return artifact if artifact.size == file.size else replace(artifact, size=file.size)


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
