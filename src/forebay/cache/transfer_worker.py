"""`TransferWorker`: copies the queued artifacts to and from the object storage, many at once."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import trio

from forebay import RetryPolicy
from forebay.cache._copying import Copying
from forebay.cache._transfer_run import FairQueue, StorageHealth, TransferRun
from forebay.cache._workers import CloseGuard, log_and_continue, pause
from forebay.cache.artifacts import CacheArtifacts
from forebay.cache.object_storage import TransferResult, classify
from forebay.cache.options import CacheOptions
from forebay.cache.tables import S3Transfer, TransferType
from forebay.cache.transfers import S3Transfers

_log = logging.getLogger("forebay.cache")


@dataclass(frozen=True, slots=True)
class TransferStatistics:
    """What a transfer worker has done since the cache was opened."""

    runs: int = 0
    """Runs through the queue, those that the storage ended included."""
    done: int = 0
    """Transfers that are done."""
    missing: int = 0
    """Transfers that were dropped at once, since there was no file or no object to copy."""
    rate_limited: int = 0
    """Attempts that the storage rejected to limit requests; these transfers stay queued."""
    unavailable: int = 0
    """Attempts that found the storage unavailable; these transfers stay queued."""
    failed: int = 0
    """Attempts that failed in any other way. An attempt counted in `unavailable` is counted here
    too if its run showed that the storage works. These transfers are retried after a delay."""
    dropped: int = 0
    """Transfers that were dropped after their last attempt failed."""


class TransferWorker:
    """Takes transfers from the queue and copies artifacts to and from an `ObjectStorage`.

    A run goes through the queue once, in batches, and alternates between the types of transfers.
    The next run begins at the interval even while slow transfers of earlier runs continue: it
    uses the free places and skips the transfers in progress. A transfer that is done leaves the
    queue. A transfer that failed is counted in the table and retried after a delay, which grows
    with each failure; after its last attempt it is dropped.

    A transfer that the storage rejects stays queued and loses no attempt. When the storage asks
    for fewer requests, the run ends. When, of one type, more transfers find the storage unavailable
    than are done, the run ends for this type; otherwise those transfers count as failed. The next
    run starts after a backoff, which grows until a run completes a transfer. It starts with
    another type, behind the last transfer that was tried.
    """

    def __init__(
        self,
        copying: Copying,
        transfers: S3Transfers,
        artifacts: CacheArtifacts,
        options: CacheOptions,
        *,
        guard: CloseGuard | None = None,
    ) -> None:
        """Create a worker. `open_cache` does this.

        Args:
            copying: uploads and downloads artifacts.
            transfers: the queue.
            artifacts: where downloads are tracked.
            options: the intervals, limits and delays.
            guard: makes `run_once` raise once the cache is closed.
        """
        self._copying = copying
        self._transfers = transfers
        self._artifacts = artifacts
        self._options = options
        self._guard = guard or CloseGuard()
        self._turn = trio.Lock()
        self._slots = trio.Semaphore(options.transfer_concurrency)
        self._in_progress: set[tuple[str, str]] = set()
        """The types and keys of transfers that are being tried, or not classified by their run."""
        self._backoffs = 0
        """How many runs in a row backed off without completing a transfer."""
        self._queues = deque(FairQueue(transfers, each, options) for each in TransferType)
        self._total = TransferStatistics()
        self.queued: dict[str, int] = {}
        """The number of queued transfers by type, at the beginning of the last run."""

    def statistics(self) -> TransferStatistics:
        """Return the counts since the cache was opened."""
        return self._total

    async def run(self, stopping: trio.Event) -> None:
        """Run through the queue at every interval until stopped.

        A run that fails is logged as a warning, and the next one tries again. If this is
        cancelled, it waits for calls of the storage that cannot be cancelled; their transfers stay
        queued and are repeated.

        Args:
            stopping: set this event to make the worker end after the transfers in progress.

        Raises:
            trio.BrokenResourceError: a buffer's worker task has failed.
        """
        async with trio.open_nursery() as nursery:
            while not stopping.is_set():
                run = TransferRun()
                nursery.start_soon(self._run_and_log, run, stopping)
                await run.dispatched.wait()
                with trio.move_on_after(self._options.transfer_interval):
                    await run.ended.wait()
                if run.backs_off:
                    # A slow transfer delays the other ones no longer than the backoff does.
                    with trio.move_on_after(self._pause(self._backoffs + 1)):
                        await run.ended.wait()
                if run.ended.is_set():
                    await pause(stopping, self._pause(self._backoffs))

    async def _run_and_log(self, run: TransferRun, stopping: trio.Event) -> None:
        try:
            with log_and_continue("transfer worker"):
                await self._run(run, stopping)
        finally:
            run.dispatched.set()
            run.ended.set()
        backoffs = (0 if run.done else self._backoffs) + 1
        self._backoffs = backoffs if run.backs_off else 0

    def _pause(self, backoffs: int) -> float:
        interval = self._options.transfer_interval
        if backoffs == 0:
            return interval
        return interval + _delay(self._options.transfer_backoff, backoffs)

    async def run_once(self) -> bool:
        """Run through the queue once.

        It waits while another run starts transfers, and skips those that other runs still work on.
        If it is cancelled, it behaves as `run` does.

        Returns:
            Whether the storage ended the run: it asked for fewer requests or is unavailable.

        Raises:
            trio.ClosedResourceError: the cache is closed.
            trio.BrokenResourceError: a buffer's worker task has failed.
        """
        self._guard.check_open()
        run = TransferRun()
        await self._run(run, trio.Event())
        return run.backs_off

    async def _run(self, run: TransferRun, stopping: trio.Event) -> None:
        rate_limited = self._total.rate_limited

        def ends() -> bool:
            """Note whether the storage limits requests, and return whether the run ends."""
            run.rate_limited = self._total.rate_limited > rate_limited
            return stopping.is_set() or run.rate_limited

        try:
            async with trio.open_nursery() as nursery:
                async with self._turn:
                    rate_limited = self._total.rate_limited
                    for queue in self._queues:
                        await queue.begin()
                        kind = queue.transfer_type
                        self.queued[kind.value] = await self._transfers.count(kind)
                    began = await self._dispatch(run, ends, nursery)
                    if began is not None:  # the other types go first next time
                        self._queues.remove(began)
                        self._queues.append(began)
                run.dispatched.set()
            ends()
            async with trio.open_nursery() as nursery:
                for health in run.health.values():
                    nursery.start_soon(self._classify_unavailable, health)
        finally:
            for health in run.health.values():
                for transfer, _ in health.unavailable:
                    self._finish(transfer)
        self._count("runs")

    async def _dispatch(
        self, run: TransferRun, ends: Callable[[], bool], nursery: trio.Nursery
    ) -> FairQueue | None:
        """Start the transfers of a run, as slots become free.

        Returns:
            The queue whose transfer was started first; None if none was started.
        """
        queues = deque(self._queues)
        began: FairQueue | None = None
        while queues:
            # The slot comes first: a transfer that the queue returned would lose its turn if the
            # run ended before a slot was free.
            await self._slots.acquire()
            started = False
            try:
                if ends():
                    break
                queue = queues.popleft()
                health = run.health[queue.transfer_type]
                if health.healthy and (transfer := await queue.next(self._must_wait)) is not None:
                    queues.append(queue)
                    self._in_progress.add((transfer.type, transfer.key))
                    nursery.start_soon(self._transfer, health, transfer)
                    started = True
                    began = began or queue
            finally:
                if not started:
                    self._slots.release()
        return began

    def _must_wait(self, transfer: S3Transfer) -> bool:
        """Return whether a transfer may not begin while others are queued or in progress.

        Another content of a key waits, so that the latest one stays in the storage. Copies wait
        for the deletion of their project, and that waits for the copies in progress.
        """
        if transfer.type == TransferType.DELETE:
            return any(key.startswith(transfer.key) for _, key in self._in_progress)
        is_in_progress = (transfer.type, transfer.key) in self._in_progress
        return is_in_progress or self._transfers.deletions.covers(transfer.key)

    async def _transfer(self, health: StorageHealth, transfer: S3Transfer) -> None:
        classified = True
        try:
            classified = await self._attempt(health, transfer)
        finally:
            self._slots.release()
            if classified:
                self._finish(transfer)

    def _finish(self, transfer: S3Transfer) -> None:
        self._in_progress.discard((transfer.type, transfer.key))
        for queue in self._queues:
            if queue.transfer_type == transfer.type:
                queue.finish(transfer)

    async def _attempt(self, health: StorageHealth, transfer: S3Transfer) -> bool:
        """Try a transfer once and record the result.

        Returns:
            Whether the result is final. False if the run decides at its end whether the transfer
            failed or the storage was unavailable.
        """
        try:
            done = await self._copy(transfer)
        except Exception as error:  # noqa: BLE001  # no error of one transfer may stop the others
            match classify(error):
                case TransferResult.RATE_LIMITED:
                    self._count("rate_limited")
                    _log.info("%s of %r is rate limited: %s", transfer.type, transfer.key, error)
                case TransferResult.UNAVAILABLE:
                    self._count("unavailable")
                    health.unavailable.append((transfer, error))
                    return False
                case TransferResult.FAILED:
                    await self._record_failure(transfer, error)
                case TransferResult.MISSING:  # pragma: no branch  # the last kind
                    self._count("missing")
                    _log.info("%s of %r is dropped: %s", transfer.type, transfer.key, error)
                    await self._transfers.delete([transfer.id])
        else:
            health.done += 1
            if not done:
                return True
            self._count("done")
            if transfer.type == TransferType.DOWNLOAD:
                # The row is committed before the transfer is deleted. After a crash between the
                # two, the next opening would otherwise remove the file as an orphan.
                await self._artifacts.write_access(transfer.key)
            await self._transfers.delete([transfer.id])
        return True

    async def _copy(self, transfer: S3Transfer) -> bool:
        """Do the transfer, and return whether it is done or to be repeated."""
        # The limit is that of the storage: waiting for a buffer is not a failure of the transfer.
        time_limit = self._options.transfer_timeout
        match TransferType(transfer.type):
            case TransferType.UPLOAD:
                return await self._copying.upload(transfer, time_limit)
            case TransferType.DOWNLOAD:
                wanted = partial(self._transfers.is_queued, transfer)
                await self._copying.download(transfer, time_limit, wanted)
            case TransferType.DELETE:  # pragma: no branch  # the last type
                await self._copying.delete_project(transfer, time_limit)
        return True

    async def _classify_unavailable(self, health: StorageHealth) -> None:
        """Count the transfers in `health.unavailable` as failed, if the storage is healthy."""
        if not health.healthy:
            count, (transfer, error) = len(health.unavailable), health.unavailable[-1]
            _log.warning(
                "the storage is unavailable: %d transfers stay in the queue, the last of them the "
                "%s of %r: %r",
                count,
                transfer.type,
                transfer.key,
                error,
            )
            return
        async with trio.open_nursery() as nursery:
            for transfer, error in health.unavailable:
                nursery.start_soon(self._record_failure, transfer, error)

    async def _record_failure(self, transfer: S3Transfer, error: Exception) -> None:
        """Count a failed attempt in the table, or drop the transfer after its last attempt."""
        self._count("failed")
        attempts, limit = transfer.attempts + 1, self._options.transfer_attempts
        log = (transfer.type, transfer.key, attempts, limit, repr(error))
        if attempts >= limit:
            _log.error("%s of %r failed and is dropped, attempt %d of %d: %s", *log)
            self._count("dropped")
            await self._transfers.delete([transfer.id])
            return
        _log.warning("%s of %r failed, attempt %d of %d: %s", *log)
        try:
            delay = _delay(self._options.transfer_retry, attempts)
            await self._transfers.record_failure(transfer, delay=delay)
        except Exception as write_error:  # noqa: BLE001  # such as a full disk; the worker goes on
            _log.warning(
                "this attempt is not counted, since the database cannot be written: %r",
                write_error,
            )

    def _count(self, what: str) -> None:
        self._total = replace(self._total, **{what: getattr(self._total, what) + 1})


def _delay(policy: RetryPolicy, attempt: int) -> float:
    return policy.delay(attempt, random.random())  # noqa: S311  # jitter
