"""`open_cache`: opens the database, buffers, stores and workers, and closes them in order."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
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
    check_storage,
    checked_clock,
)
from forebay.cache._cache import Cache
from forebay.cache._copying import Copying
from forebay.cache._folder import UnsafePathError, create_root, locked_root
from forebay.cache._metrics import cache_instruments
from forebay.cache._orphans import remove_orphans
from forebay.cache._outbox import InsertionTimes
from forebay.cache._pending_deletions import PendingDeletions
from forebay.cache._schema import prepare
from forebay.cache._workers import CloseGuard, Worker, run_workers
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
from forebay.cache.transfers import S3Transfers, latest_insertion, pending_deletions
from forebay.cache.vacuum import DatabaseVacuum


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
            deletions = await pending_deletions(store)
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
                    store, buffers, files, storage, options, clock, guard, insertions, deletions
                )
                with cache_instruments(meter_provider).observing(cache.statistics):
                    async with run_workers(workers, guard, options.stop_timeout):
                        yield cache


def _assemble(
    store: SqliteStore,
    buffers: Buffers,
    files: ArtifactFiles,
    storage: ObjectStorage | None,
    options: CacheOptions,
    clock: Clock,
    guard: CloseGuard,
    insertions: InsertionTimes,
    deletions: PendingDeletions,
) -> tuple[Cache, list[Worker]]:
    # The workers' stores have no guard, since the workers finish their work while the cache is
    # closed to its users.
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
    transfers = S3Transfers(
        store,
        queue,
        buffers[CAS_ARTIFACTS],
        clock=clock,
        insertions=insertions,
        deletions=deletions,
    )
    workers: list[Worker] = []
    if options.eviction_interval < math.inf:
        workers += [evictor.run, key_value_evictor.run, vacuum.run]
    transfer_worker = read_through = None
    if storage is not None:
        copying = Copying(storage, artifacts, files)
        transfer_worker = TransferWorker(copying, transfers, artifacts, options, guard=guard)
        read_through = ReadThrough(storage, copying, options, deletions=deletions, guard=guard)
        if options.transfer_interval < math.inf:
            workers.append(transfer_worker.run)
    cache = Cache(
        store=store,
        buffers=buffers,
        files=files.guarded(guard),
        key_values=key_values.guarded(guard),
        artifacts=artifacts.guarded(guard),
        transfers=transfers.guarded(guard),
        evictor=evictor,
        key_value_evictor=key_value_evictor,
        vacuum=vacuum,
        transfer_worker=transfer_worker,
        read_through=read_through,
        options=options,
        guard=guard,
    )
    return cache, workers
