"""`open_cache`: the file, the buffers, the stores and the workers, opened and closed in order."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from forebay import BufferOptions, Buffers, BufferStatistics, SqliteStore, open_buffers, open_sqlite
from forebay.cache._check import checked_clock, checked_storage
from forebay.cache._gate import Gate
from forebay.cache._lock import locked
from forebay.cache._orphans import remove_orphans
from forebay.cache._working import Worker, working
from forebay.cache.artifacts import CacheArtifacts
from forebay.cache.evictor import Evictor, EvictorStatistics
from forebay.cache.files import ArtifactFiles
from forebay.cache.key_values import KeyValueStore
from forebay.cache.object_storage import ObjectStorage
from forebay.cache.options import CacheOptions
from forebay.cache.tables import (
    CAS_ARTIFACTS,
    KEY_VALUE_ENTRIES,
    S3_TRANSFERS,
    TABLES,
    Clock,
    prepare,
    utc_now,
)
from forebay.cache.transfer_worker import TransferStatistics, TransferWorker
from forebay.cache.transfers import S3Transfers, newest_insertion


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """The state of a cache at one moment."""

    buffers: Mapping[str, BufferStatistics]
    """The state of each buffer, by the name of its table."""
    evictor: EvictorStatistics
    """What was evicted."""
    transfers: TransferStatistics | None
    """What was transferred; None without an object storage."""

    @property
    def pending(self) -> int:
        """How many entries, in all buffers, are accepted and not settled."""
        return sum(buffer.pending for buffer in self.buffers.values())


@dataclass(frozen=True, slots=True)
class Cache:
    """A build cache on one machine. `open_cache` opens it."""

    store: SqliteStore
    """The database, for queries and transactions of the program's own."""
    buffers: Buffers
    """The buffers in front of its tables."""
    files: ArtifactFiles
    """The artifacts' files, to read and write them."""
    key_values: KeyValueStore
    """What build actions produced."""
    artifacts: CacheArtifacts
    """What is known of the artifacts."""
    transfers: S3Transfers
    """The artifacts to be copied to and from the object storage."""
    evictor: Evictor
    """What keeps the disk from filling."""
    transfer_worker: TransferWorker | None
    """What works off the transfers; None without an object storage."""

    async def flush(self) -> None:
        """Flush all buffers; return once all that was accepted before is settled.

        Cancelled, it only stops waiting.

        Raises:
            trio.BrokenResourceError: the worker of one of them failed first.
        """
        await self.buffers.flush()

    def statistics(self) -> CacheStatistics:
        """Tell the state of the cache now."""
        worker = self.transfer_worker
        return CacheStatistics(
            buffers=self.buffers.statistics(),
            evictor=self.evictor.statistics(),
            transfers=None if worker is None else worker.statistics(),
        )


@asynccontextmanager
async def open_cache(
    directory: str | os.PathLike[str],
    *,
    storage: ObjectStorage | None = None,
    options: CacheOptions | None = None,
    buffer_options: BufferOptions | None = None,
    buffer_overrides: Mapping[str, BufferOptions] | None = None,
    clock: Clock = utc_now,
) -> AsyncGenerator[Cache, None]:
    """Open a build cache, for the time of an `async with` block.

    The folder is created, for its owner only, where it is not there. It holds ``cache.db``, with
    the three tables, ``cache.lock``, which is locked while the cache is open, ``artifacts``, with
    the artifacts' files, and, only where entries could not
    be written before the end, ``unsettled.spill`` with these: `open_buffers` says how to bring
    them back.

    Opening removes the files that a crash left without a row, since nothing would ever evict
    them: it reads all keys and lists all files, in batches, in threads, some seconds for a
    million. While any ``unsettled.spill*`` is there, or a dead letter of ``cas_artifacts`` or
    ``s3_transfers``, it removes none, since the rows may be in these.

    Leaving the block, normally, by an exception or by cancellation, closes in order. First the
    stores take nothing more: their methods raise `trio.ClosedResourceError`. Then the evictor
    ends its batch, and the transfers under way end, within `CacheOptions.stop_timeout`; what is
    not done by then stays in the queue. Then the buffers drain, within their `drain_timeout`.
    Then the file is closed. So it takes the sum of the two at the most, and one call that cannot
    be interrupted.

    What leaves the block is the body's exception, as it is. A worker that fails cancels the
    body, and its exception leaves the block; failures of buffers leave it as `open_buffers` has
    it. Where more than one is left, an `ExceptionGroup` of them all. `KeyboardInterrupt` in the
    body closes like any exception; one while the cache closes cuts that short.

    Args:
        directory: the folder; one process at a time has it, until it ends or dies.
        storage: where the transfers go: `forebay.cache.s3.open_s3` gives one. None: transfers
            are queued, and wait.
        options: of the stores and the workers; the defaults where it is None.
        buffer_options: for all three buffers; the defaults where it is None.
        buffer_overrides: other options for some of them, by the table's name.
        clock: what tells the time that the tables store.

    Yields:
        The cache.

    Raises:
        TypeError: `options` are none, or `storage` or `clock` is none. A clock that tells no
            int, or one out of range, shows in the calls that ask it.
        OSError: the folder cannot be created.
        StoreError: the folder is open already; or the file is no database, or cannot be written.
        SchemaError: one of its tables is not as it should be.
        FlushError: a buffer failed; the error names its entries.
        DrainError: the buffers did not drain in time; the error names the entries.
    """
    if options is None:
        options = CacheOptions()
    elif not isinstance(options, CacheOptions):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"options must be a CacheOptions, got {options!r}")
    if storage is not None:
        checked_storage(storage)
    clock = checked_clock(clock)
    root = Path(os.fsdecode(directory))
    spill = root / "unsettled.spill"
    await anyio.to_thread.run_sync(_create, root)
    with locked(root):
        files = ArtifactFiles(root / "artifacts")
        await files.prepare()
        async with open_sqlite(root / "cache.db") as store:
            await prepare(store)
            await remove_orphans(store, files, spill)
            newest = await newest_insertion(store)
            async with open_buffers(
                store,
                *TABLES,
                options=buffer_options,
                overrides=buffer_overrides,
                spill=spill,
            ) as buffers:
                gate = Gate()
                cache, workers = _assembled(
                    store, buffers, root / "artifacts", storage, options, clock, gate, newest
                )
                async with working(workers, gate, options.stop_timeout):
                    yield cache


def _create(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _assembled(
    store: SqliteStore,
    buffers: Buffers,
    directory: Path,
    storage: ObjectStorage | None,
    options: CacheOptions,
    clock: Clock,
    gate: Gate,
    newest: int,
) -> tuple[Cache, list[Worker]]:
    # The workers go on when the gate is closed to producers.
    workers_gate = Gate()
    files = ArtifactFiles(directory)
    tracked, queue = buffers[CAS_ARTIFACTS], buffers[S3_TRANSFERS]
    artifacts = CacheArtifacts(store, tracked, queue, files, clock=clock, gate=workers_gate)
    evictor = Evictor(artifacts, files, options, gate=gate)
    workers: list[Worker] = []
    if options.eviction_interval < math.inf:
        workers.append(evictor.run)
    transfer_worker = None
    if storage is not None:
        transfers = S3Transfers(store, queue, clock=clock, gate=workers_gate, newest=newest)
        transfer_worker = TransferWorker(storage, transfers, artifacts, files, options, gate=gate)
        if options.transfer_interval < math.inf:
            workers.append(transfer_worker.run)
    cache = Cache(
        store=store,
        buffers=buffers,
        files=ArtifactFiles(directory, gate=gate),
        key_values=KeyValueStore(
            store,
            buffers[KEY_VALUE_ENTRIES],
            memory_bytes=options.memory_bytes,
            time_to_live=options.time_to_live,
            touch_interval=options.touch_interval,
            clock=clock,
            gate=gate,
        ),
        artifacts=CacheArtifacts(store, tracked, queue, files, clock=clock, gate=gate),
        transfers=S3Transfers(store, queue, clock=clock, gate=gate, newest=newest),
        evictor=evictor,
        transfer_worker=transfer_worker,
    )
    return cache, workers
