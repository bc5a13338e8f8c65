"""`TransferWorker`: works off the queue of transfers, many at once."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from forebay.cache._pause import pause
from forebay.cache.artifacts import CacheArtifacts
from forebay.cache.files import ArtifactFiles
from forebay.cache.object_storage import MissingError, ObjectStorage, RateLimitedError
from forebay.cache.options import CacheOptions
from forebay.cache.tables import S3Transfer, TransferType
from forebay.cache.transfers import S3Transfers

_log = logging.getLogger("forebay.cache")


@dataclass(frozen=True, slots=True)
class TransferStatistics:
    """What a transfer worker has done since the cache was opened."""

    runs: int = 0
    """How often the queue was gone through, to its end or until the storage limited the run."""
    done: int = 0
    """Transfers that are done."""
    missing: int = 0
    """Transfers given up at once, since there was no file, or no object, to copy."""
    rate_limited: int = 0
    """Attempts that the storage turned away; these transfers stay in the queue."""
    failed: int = 0
    """Attempts that failed in any other way."""
    dropped: int = 0
    """Transfers given up after the last attempt that they had."""


class TransferWorker:
    """Takes transfers from the queue, and copies artifacts by an `ObjectStorage`.

    A run goes through the queue once, in batches, uploads and downloads in turn. What is done
    leaves the queue. What fails is counted in the table, and dropped with the last attempt it
    has. When the storage asks for fewer requests, the run ends, what was not done stays for the
    next one, and the pause before it grows from one such run to the next.
    """

    def __init__(
        self,
        storage: ObjectStorage,
        transfers: S3Transfers,
        artifacts: CacheArtifacts,
        files: ArtifactFiles,
        options: CacheOptions,
    ) -> None:
        """Make a worker; `open_cache` does.

        Args:
            storage: where objects are.
            transfers: the queue.
            artifacts: where downloads are noted.
            files: where the artifacts' files are.
            options: how many, how often, how long.
        """
        self._storage = storage
        self._transfers = transfers
        self._artifacts = artifacts
        self._files = files
        self._options = options
        self._turn = trio.Lock()
        self._slots = trio.Semaphore(options.transfer_concurrency)
        self._total = TransferStatistics()

    def statistics(self) -> TransferStatistics:
        """Tell what was done since the cache was opened."""
        return self._total

    async def run(self, stopping: trio.Event) -> None:
        """Work off the queue at every interval.

        Cancelled, it waits for calls of the storage that cannot be cancelled; what these did
        will be done again.

        Args:
            stopping: set it to let this end after the transfers under way.

        Raises:
            trio.BrokenResourceError: a buffer's worker has failed.
        """
        limited_runs = 0
        while not stopping.is_set():
            limited = await self._run(stopping)
            limited_runs = limited_runs + 1 if limited else 0
            await pause(stopping, self._delay(limited_runs))

    def _delay(self, limited_runs: int) -> float:
        interval = self._options.transfer_interval
        if limited_runs == 0:
            return interval
        backoff = self._options.transfer_backoff
        return interval + backoff.delay(limited_runs, random.random())  # noqa: S311  # jitter

    async def run_once(self) -> bool:
        """Go through the queue once.

        Waits while another run is under way. Cancelled as `run` is.

        Returns:
            Whether the storage asked for fewer requests, which ended the run.

        Raises:
            trio.ClosedResourceError: the cache is closed.
            trio.BrokenResourceError: a buffer's worker has failed.
        """
        return await self._run(trio.Event())

    async def _run(self, stopping: trio.Event) -> bool:
        async with self._turn:
            limited = self._total.rate_limited

            def ends() -> bool:
                return stopping.is_set() or self._total.rate_limited > limited

            last: dict[TransferType, S3Transfer | None] = dict.fromkeys(TransferType)
            while last and not ends():
                for way, after in tuple(last.items()):
                    batch = await self._transfers.pending(
                        way, self._options.transfer_batch, after=after
                    )
                    if batch:
                        last[way] = batch[-1]
                        await self._work(batch, ends)
                    else:
                        del last[way]
            self._count("runs")
            return self._total.rate_limited > limited

    async def _work(self, batch: list[S3Transfer], ends: Callable[[], bool]) -> None:
        async with trio.open_nursery() as nursery:
            for transfer in batch:
                # Here, not in the task: tasks start in no order.
                await self._slots.acquire()
                if ends():
                    self._slots.release()
                    return
                nursery.start_soon(self._transfer, transfer)

    async def _transfer(self, transfer: S3Transfer) -> None:
        try:
            await self._attempt(transfer)
        finally:
            self._slots.release()

    async def _attempt(self, transfer: S3Transfer) -> None:
        """Try a transfer once, and note what came of it."""
        try:
            with trio.fail_after(self._options.transfer_timeout):
                await self._copy(transfer)
        except RateLimitedError as error:
            self._count("rate_limited")
            _log.info("%s of %r is turned away: %s", transfer.type, transfer.key, error)
        except MissingError as error:
            self._count("missing")
            _log.info("%s of %r is given up: %s", transfer.type, transfer.key, error)
            await self._transfers.delete([transfer.id])
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this transfer's alone
            self._count("failed")
            await self._failed(transfer, error)
        else:
            self._count("done")
            await self._transfers.delete([transfer.id])

    async def _copy(self, transfer: S3Transfer) -> None:
        if transfer.type == TransferType.UPLOAD:
            await self._storage.upload(transfer.key, self._files.path(transfer.key))
        else:
            async with self._files.writing(transfer.key) as path:
                await self._storage.download(transfer.key, path)
            await self._artifacts.track_access(transfer.key)

    async def _failed(self, transfer: S3Transfer, error: Exception) -> None:
        attempts, most = transfer.attempts + 1, self._options.transfer_attempts
        log = (transfer.type, transfer.key, attempts, most, repr(error))
        if attempts < most:
            _log.warning("%s of %r failed, attempt %d of %d: %s", *log)
            await self._transfers.note_failure(transfer)
        else:
            _log.error("%s of %r failed, and is dropped, attempt %d of %d: %s", *log)
            self._count("dropped")
            await self._transfers.delete([transfer.id])

    def _count(self, what: str) -> None:
        self._total = replace(self._total, **{what: getattr(self._total, what) + 1})
