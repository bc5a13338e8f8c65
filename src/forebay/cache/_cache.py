"""`Cache`: the stores and workers of an open cache."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from forebay import (
    Buffers,
    SqliteStore,
)
from forebay.cache._arguments import (
    Chunk,
    check_handles,
    check_timeout,
)
from forebay.cache._project import ProjectDeletion, delete_project
from forebay.cache._statistics import CacheStatistics
from forebay.cache._workers import CloseGuard
from forebay.cache.artifact import Artifact, ArtifactReader
from forebay.cache.artifact_key import ArtifactKey
from forebay.cache.artifacts import CacheArtifacts
from forebay.cache.evictor import Evictor
from forebay.cache.files import ArtifactFiles
from forebay.cache.key_value_evictor import KeyValueEvictor
from forebay.cache.key_values import KeyValueStore
from forebay.cache.options import CacheOptions
from forebay.cache.read_through import ReadThrough
from forebay.cache.tables import (
    KEY_VALUE_ENTRIES,
)
from forebay.cache.transfer_worker import TransferWorker
from forebay.cache.transfers import S3Transfers
from forebay.cache.vacuum import DatabaseVacuum


@dataclass(frozen=True, slots=True)
class Cache:
    """A build cache on one machine. `open_cache` opens it."""

    store: SqliteStore
    """The database, for the program's own queries and transactions."""
    buffers: Buffers
    """The buffers in front of the tables."""
    files: ArtifactFiles
    """The artifacts' files."""
    key_values: KeyValueStore
    """The artifacts that each build action produced."""
    artifacts: CacheArtifacts
    """The artifacts: their content, size, digest and last access."""
    transfers: S3Transfers
    """The queue of artifacts to copy to and from the object storage."""
    evictor: Evictor
    """Removes the least recently used artifacts."""
    key_value_evictor: KeyValueEvictor
    """Removes the values of `key_values` that were not used for long."""
    vacuum: DatabaseVacuum
    """Shrinks the database file after rows were deleted."""
    transfer_worker: TransferWorker | None
    """Does the queued transfers; None without an object storage."""
    read_through: ReadThrough | None
    """Fetches artifacts that are not here; None without an object storage."""
    options: CacheOptions
    """The options that the cache was opened with."""
    guard: CloseGuard
    """Refuses calls once the cache is being closed. A program's own stores may use it too."""

    async def store_artifact(
        self,
        name: ArtifactKey,
        chunks: AsyncIterable[Chunk] | Chunk,
        *,
        size: int | None = None,
        sha256: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Artifact:
        """Store an artifact as `CacheArtifacts.store` does, and queue its upload.

        The upload is queued in the transaction that commits the row of the artifact, unless the
        object storage has this content or there is no object storage.

        Args:
            name: the artifact.
            chunks: as for `CacheArtifacts.store`.
            size: as for `CacheArtifacts.store`.
            sha256: as for `CacheArtifacts.store`.
            metadata: as for `CacheArtifacts.store`.

        Returns:
            As `CacheArtifacts.store`.

        Raises:
            Exception: as `CacheArtifacts.store`.
        """
        return await self.artifacts.store(
            str(name),
            chunks,
            size=size,
            sha256=sha256,
            metadata=metadata,
            upload_as=None if self.transfer_worker is None else name,
        )

    @asynccontextmanager
    async def reading_artifact(
        self, name: ArtifactKey
    ) -> AsyncGenerator[ArtifactReader | None, None]:
        """Open an artifact as `CacheArtifacts.reading` does; fetch it if it is not here.

        If the artifact is not here, the object storage is asked, for at most
        `CacheOptions.read_through_timeout`, and its object is downloaded and stored. Such a read
        counts as a miss, and as a hit if the object was there.

        Args:
            name: the artifact.

        Yields:
            As `CacheArtifacts.reading`.

        Raises:
            OSError: the file cannot be opened.
        """
        key = str(name)
        async with self.artifacts.reading(key) as reader:
            if reader is not None or self.read_through is None:
                yield reader
                return
        if not await self.read_through.fetch(name):
            yield None
            return
        async with self.artifacts.reading(key) as reader:
            yield reader

    async def delete_project(
        self, account: str, project: str, *, flush_timeout: float = 1.0
    ) -> ProjectDeletion:
        """Delete everything of a project: queued transfers, artifacts, objects and key-values.

        Artifacts are those whose keys begin with ``account/project/``. The deletion of their
        objects in the object storage is queued first, and the transfer worker does it, also after
        a crash or an outage. Until then, no artifact of the project is uploaded, downloaded, or
        fetched by a reader. What is added meanwhile may remain. Waits while a buffer is full.
        Cancelled, it may have deleted a part; call it again.

        Args:
            account: the account's handle.
            project: the project's handle.
            flush_timeout: how long to wait for the flush of each buffer, in seconds; at least 0,
                or infinity. After it, what was added a moment ago may remain, and a crash may
                forget the deletion of the objects.

        Returns:
            How much was deleted.

        Raises:
            TypeError: a handle is not a str, or `flush_timeout` is not a number.
            ValueError: a handle is empty, has a slash, or cannot be encoded as UTF-8, or
                `flush_timeout` is less than 0.
        """
        check_handles(account, project)
        check_timeout("flush_timeout", flush_timeout)
        return await delete_project(
            self.store,
            self.buffers[KEY_VALUE_ENTRIES],
            self.key_values,
            self.artifacts,
            self.transfers,
            account=account,
            project=project,
            deletes_objects=self.transfer_worker is not None,
            flush_timeout=flush_timeout,
        )

    async def flush(self) -> None:
        """Flush all buffers, and return once everything accepted before is settled.

        Cancelled, it only stops waiting.

        Raises:
            trio.BrokenResourceError: the worker task of a buffer failed first.
        """
        await self.buffers.flush()

    def statistics(self) -> CacheStatistics:
        """Return the current state of the cache."""
        worker, fetches = self.transfer_worker, self.read_through
        return CacheStatistics(
            buffers=self.buffers.statistics(),
            key_values=self.key_values.statistics(),
            evictor=self.evictor.statistics(),
            key_value_evictor=self.key_value_evictor.statistics(),
            usage=self.evictor.usage,
            key_value_bytes=self.key_value_evictor.total_bytes,
            key_value_budget_bytes=self.options.key_value_budget_bytes,
            artifacts=self.artifacts.statistics(),
            transfers=None if worker is None else worker.statistics(),
            queued_transfers={} if worker is None else dict(worker.queued),
            read_through=None if fetches is None else fetches.statistics(),
        )
