"""`open_cache`: opens the database, buffers, stores and workers, and closes them in order."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from forebay import (
    BufferOptions,
    Buffers,
    SqliteStore,
    StoreError,
    Table,
    open_buffers,
    open_sqlite,
    protected_context,
)
from forebay.cache._arguments import (
    Chunk,
    check_storage,
    check_timeout,
    checked_clock,
    checked_handles,
)
from forebay.cache._copying import Copying
from forebay.cache._folder import UnsafePathError, create_root, locked_root
from forebay.cache._metrics import cache_instruments
from forebay.cache._orphans import remove_orphans
from forebay.cache._outbox import InsertionTimes
from forebay.cache._project import ProjectDeletion, delete_project
from forebay.cache._schema import prepare
from forebay.cache._statistics import CacheStatistics
from forebay.cache._workers import CloseGuard, Worker, run_workers
from forebay.cache.artifact import Artifact, ArtifactReader
from forebay.cache.artifact_key import ArtifactKey
from forebay.cache.artifacts import CacheArtifacts
from forebay.cache.evictor import Evictor
from forebay.cache.files import ArtifactFiles
from forebay.cache.key_value_evictor import KeyValueEvictor
from forebay.cache.key_values import KeyValueStore
from forebay.cache.object_storage import ObjectStorage
from forebay.cache.options import CacheOptions
from forebay.cache.read_through import ReadThrough
from forebay.cache.tables import (
    CAS_ARTIFACTS,
    KEY_VALUE_ENTRIES,
    S3_TRANSFERS,
    TABLES,
    Clock,
    checked_tables,
    utc_now,
)
from forebay.cache.transfer_worker import TransferWorker
from forebay.cache.transfers import S3Transfers, latest_insertion
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
        """Delete everything of a project: queued transfers, artifacts and key-values.

        Artifacts are those whose keys begin with ``account/project/``. Objects in the object
        storage stay. What is added meanwhile may remain. Waits while a buffer is full. Cancelled,
        it may have deleted a part; call it again.

        Args:
            account: the account's handle.
            project: the project's handle.
            flush_timeout: how long to wait for the flush of each buffer, in seconds; at least 0,
                or infinity. After it, what was added a moment ago may remain.

        Returns:
            How much was deleted.

        Raises:
            TypeError: a handle is not a str, or `flush_timeout` is not a number.
            ValueError: a handle is empty, has a slash, or cannot be encoded as UTF-8, or
                `flush_timeout` is less than 0.
        """
        checked_handles(account, project)
        check_timeout("flush_timeout", flush_timeout)
        return await delete_project(
            self.store,
            self.buffers[KEY_VALUE_ENTRIES],
            self.key_values,
            self.artifacts,
            self.transfers,
            account=account,
            project=project,
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


@protected_context
async def open_cache(
    directory: str | os.PathLike[str],
    *,
    storage: ObjectStorage | None = None,
    tables: Sequence[Table[Any]] = (),
    options: CacheOptions | None = None,
    buffer_options: BufferOptions | None = None,
    buffer_overrides: Mapping[str, BufferOptions] | None = None,
    clock: Clock = utc_now,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
) -> AsyncGenerator[Cache, None]:
    """Open a build cache for the duration of an `async with` block.

    The folder is created if it does not exist, with access for its owner only. Its path is made
    absolute, so a later `os.chdir` has no effect. The folder must belong to this user or to the
    superuser. In it, symbolic links and the files and folders of other users are refused with
    their path, so the cache never changes anything outside its folder. It holds
    ``cache.db`` with the three tables, ``cache.lock``, which is locked while the cache is open,
    ``artifacts`` with the artifacts' files, and ``unsettled.spill`` if entries could not be written
    before the cache was closed. `open_buffers` documents how to replay a spill.

    Opening removes the files that a crash left without a row, since nothing would ever evict
    them. It reads all keys and lists all files, in batches, in threads, which takes some seconds
    for a million files. It removes none while an ``unsettled.spill*`` or a dead letter of
    ``cas_artifacts`` or ``s3_transfers`` exists, since the rows may be there.

    Leaving the block, normally, by an exception or by cancellation, closes in this order:

    1. The stores accept no more calls: their methods raise `trio.ClosedResourceError`.
    2. The evictors finish their batches and the transfers in progress end, within
       `CacheOptions.stop_timeout`. Transfers that are not done by then stay in the queue.
    3. The buffers drain, within their `drain_timeout`.
    4. The database is closed.

    So leaving takes at most the sum of both timeouts, plus one call that cannot be interrupted.

    If only the body fails, its exception is raised unchanged. A worker that fails cancels the
    body, and its exception is raised. A buffer that fails is reported as by `open_buffers`. Several
    exceptions are raised as one `ExceptionGroup`. A `KeyboardInterrupt` in the body closes the
    cache like any exception; a `KeyboardInterrupt` while the cache closes cuts the closing short.

    Args:
        directory: the folder. One process at a time can use it, until it ends or is killed.
        storage: the object storage of the transfers, such as one by `forebay.cache.s3.open_s3`.
            None: transfers are queued and wait.
        tables: further tables of the program. They are created in the same database if they do not
            exist, and have buffers as well: ``cache.buffers[table]``.
        options: the options of the stores and the workers; None for the defaults.
        buffer_options: the options of all buffers; None for the defaults.
        buffer_overrides: other options for some buffers, by the name of the table.
        clock: returns the times that the tables store.
        meter_provider: OpenTelemetry's provider of meters, for the metrics of the cache and of its
            buffers; None for the global one.
        tracer_provider: as for `open_buffers`.

    Yields:
        The cache.

    Raises:
        TypeError: `options` is not a CacheOptions, `storage` is not an ObjectStorage, `tables` has
            something that is not a table, `clock` is not callable, or a provider is of another
            type. A clock that returns an invalid time makes the calls that use it
            raise.
        ValueError: two tables have the same name, or one has the name of a table of the cache.
        OSError: the folder cannot be created.
        StoreError: the folder is open already; a path in it is a symbolic link or belongs to
            another user; or the file is not a database or cannot be written.
        SchemaError: a table has other columns than expected.
        FlushError: a buffer failed; the error names its entries.
        DrainError: the buffers did not drain in time; the error names the entries.
    """
    if options is None:
        options = CacheOptions()
    elif not isinstance(options, CacheOptions):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"options must be a CacheOptions, got {options!r}")
    if storage is not None:
        check_storage(storage)
    clock = checked_clock(clock)
    tables = checked_tables(tables)
    root = await anyio.to_thread.run_sync(create_root, directory)
    spill = root / "unsettled.spill"
    with locked_root(root):
        files = ArtifactFiles(root / "artifacts")
        try:
            await files.prepare()
        except UnsafePathError as error:
            raise StoreError(str(error)) from None
        # SQLite can change it in a new database only.
        is_new = (root / "cache.db").stat().st_size == 0
        pragmas = {"auto_vacuum": "incremental"} if is_new else None
        async with open_sqlite(root / "cache.db", create=tables, pragmas=pragmas) as store:
            await prepare(store)
            await remove_orphans(store, files, spill)
            insertions = InsertionTimes(clock, await latest_insertion(store))
            async with open_buffers(
                store,
                *TABLES,
                *tables,
                options=buffer_options,
                overrides=buffer_overrides,
                spill=spill,
                meter_provider=meter_provider,
                tracer_provider=tracer_provider,
            ) as buffers:
                guard = CloseGuard()
                cache, workers = _assemble(
                    store, buffers, root / "artifacts", storage, options, clock, guard, insertions
                )
                with cache_instruments(meter_provider).observing(cache.statistics):
                    async with run_workers(workers, guard, options.stop_timeout):
                        yield cache


def _assemble(
    store: SqliteStore,
    buffers: Buffers,
    directory: Path,
    storage: ObjectStorage | None,
    options: CacheOptions,
    clock: Clock,
    guard: CloseGuard,
    insertions: InsertionTimes,
) -> tuple[Cache, list[Worker]]:
    # The workers' stores have no guard, since the workers finish their work while the cache is
    # closed to its users.
    files = ArtifactFiles(directory)
    queue = buffers[S3_TRANSFERS]
    artifacts = CacheArtifacts(
        store,
        buffers[CAS_ARTIFACTS],
        queue,
        files,
        clock=clock,
        touch_interval=options.touch_interval,
        known_artifacts=options.known_artifacts,
        insertions=insertions,
    )
    evictor = Evictor(artifacts, files, options, guard=guard)
    key_values = KeyValueStore(
        buffers[KEY_VALUE_ENTRIES],
        memory_bytes=options.memory_bytes,
        time_to_live=options.time_to_live,
        touch_interval=options.touch_interval,
        clock=clock,
    )
    key_value_evictor = KeyValueEvictor(
        store,
        buffers[KEY_VALUE_ENTRIES],
        key_values,
        options,
        clock=clock,
        guard=guard,
    )
    vacuum = DatabaseVacuum(store, interval=options.eviction_interval, guard=guard)
    workers: list[Worker] = []
    if options.eviction_interval < math.inf:
        workers += [evictor.run, key_value_evictor.run, vacuum.run]
    transfer_worker = read_through = None
    if storage is not None:
        transfers = S3Transfers(
            store, queue, buffers[CAS_ARTIFACTS], clock=clock, insertions=insertions
        )
        copying = Copying(storage, artifacts, files)
        transfer_worker = TransferWorker(copying, transfers, artifacts, options, guard=guard)
        read_through = ReadThrough(storage, copying, options, guard=guard)
        if options.transfer_interval < math.inf:
            workers.append(transfer_worker.run)
    cache = Cache(
        store=store,
        buffers=buffers,
        files=ArtifactFiles(directory, guard=guard),
        key_values=key_values.guarded(guard),
        artifacts=artifacts.guarded(guard),
        transfers=S3Transfers(
            store,
            queue,
            buffers[CAS_ARTIFACTS],
            clock=clock,
            insertions=insertions,
            guard=guard,
        ),
        evictor=evictor,
        key_value_evictor=key_value_evictor,
        vacuum=vacuum,
        transfer_worker=transfer_worker,
        read_through=read_through,
        options=options,
        guard=guard,
    )
    return cache, workers
