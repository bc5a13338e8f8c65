"""`TransferWorker`: works off the queue of transfers, many at once."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from forebay import RetryPolicy
from forebay.cache._gate import Gate
from forebay.cache._lane import Lane
from forebay.cache._pause import outlived, pause
from forebay.cache._tally import Run, Tally
from forebay.cache._verdict import Verdict, verdict
from forebay.cache.artifacts import CacheArtifacts
from forebay.cache.files import ArtifactFiles
from forebay.cache.object_storage import ObjectStorage
from forebay.cache.options import CacheOptions
from forebay.cache.tables import S3Transfer, TransferType
from forebay.cache.transfers import S3Transfers

_log = logging.getLogger("forebay.cache")


@dataclass(frozen=True, slots=True)
class TransferStatistics:
    """What a transfer worker has done since the cache was opened."""

    runs: int = 0
    """How often the queue was gone through, to its end or until the storage ended the run."""
    done: int = 0
    """Transfers that are done."""
    missing: int = 0
    """Transfers given up at once, since there was no file, or no object, to copy."""
    rate_limited: int = 0
    """Attempts that the storage turned away; these transfers stay in the queue."""
    unavailable: int = 0
    """Attempts that found the storage out of order; these transfers stay in the queue."""
    failed: int = 0
    """Attempts that failed in any other way, and those of `unavailable` that the storage's other
    work showed to be such; these transfers are put off."""
    dropped: int = 0
    """Transfers given up after the last attempt that they had."""


class TransferWorker:
    """Takes transfers from the queue, and copies artifacts by an `ObjectStorage`.

    A run goes through the queue once, in batches, an upload and a download in turn. The next one
    begins at the interval though slow transfers go on: it takes what was queued meanwhile, for
    the places that are left, and passes over what the others have in hand. What is done leaves
    the queue. What fails is counted in the table and put off, for longer from one failure
    to the next, and dropped with the last attempt it has.

    What the storage turns away stays, and has lost no attempt: when it asks for fewer requests
    the run ends; when it is out of order the run ends for this way, unless it does as many
    transfers as it does not, which have failed then. The next run begins behind those, with the
    other way, after a pause that grows from one such run to the next until something is done.
    """

    def __init__(
        self,
        storage: ObjectStorage,
        transfers: S3Transfers,
        artifacts: CacheArtifacts,
        files: ArtifactFiles,
        options: CacheOptions,
        *,
        gate: Gate | None = None,
    ) -> None:
        """Make a worker; `open_cache` does.

        Args:
            storage: where objects are.
            transfers: the queue.
            artifacts: where downloads are noted.
            files: where the artifacts' files are.
            options: how many, how often, how long.
            gate: what closes to `run_once`.
        """
        self._storage = storage
        self._transfers = transfers
        self._artifacts = artifacts
        self._files = files
        self._options = options
        self._gate = gate or Gate()
        self._turn = trio.Lock()
        self._slots = trio.Semaphore(options.transfer_concurrency)
        self._in_hand: set[str] = set()
        """The ids of transfers that are under way, or whose run is not judged yet."""
        self._vain_runs = 0
        self._lanes = deque(Lane(transfers, way, options) for way in TransferType)
        self._total = TransferStatistics()

    def statistics(self) -> TransferStatistics:
        """Tell what was done since the cache was opened."""
        return self._total

    async def run(self, stopping: trio.Event) -> None:
        """Work off the queue at every interval.

        A run that fails is a warning, and the next one tries again. Cancelled, it waits for calls
        of the storage that cannot be cancelled; what these did will be done again.

        Args:
            stopping: set it to let this end after the transfers under way.

        Raises:
            trio.BrokenResourceError: a buffer's worker has failed.
        """
        async with trio.open_nursery() as nursery:
            while not stopping.is_set():
                run = Run()
                nursery.start_soon(self._outlive, run, stopping)
                await run.taken.wait()
                with trio.move_on_after(self._options.transfer_interval):
                    await run.ended.wait()
                if run.turned_away:
                    # A slow transfer of it holds up the others for no longer than the pause.
                    with trio.move_on_after(self._pause(self._vain_runs + 1)):
                        await run.ended.wait()
                if run.ended.is_set():
                    await pause(stopping, self._pause(self._vain_runs))

    async def _outlive(self, run: Run, stopping: trio.Event) -> None:
        try:
            with outlived("the transfer worker's"):
                await self._run(run, stopping)
        finally:
            run.taken.set()
            run.ended.set()
        vain = (0 if run.done else self._vain_runs) + 1
        self._vain_runs = vain if run.turned_away else 0

    def _pause(self, vain_runs: int) -> float:
        interval = self._options.transfer_interval
        if vain_runs == 0:
            return interval
        return interval + _delay(self._options.transfer_backoff, vain_runs)

    async def run_once(self) -> bool:
        """Go through the queue once.

        Waits while another run takes transfers from it; what that one has in hand is passed over.
        Cancelled as `run` is.

        Returns:
            Whether the storage ended the run: it asked for fewer requests, or is out of order.

        Raises:
            trio.ClosedResourceError: the cache is closed.
            trio.BrokenResourceError: a buffer's worker has failed.
        """
        self._gate.check()
        run = Run()
        await self._run(run, trio.Event())
        return run.turned_away

    async def _run(self, run: Run, stopping: trio.Event) -> None:
        limited = self._total.rate_limited

        def ends() -> bool:
            run.limited = self._total.rate_limited > limited
            return stopping.is_set() or run.limited

        try:
            async with trio.open_nursery() as nursery:
                async with self._turn:
                    limited = self._total.rate_limited
                    for lane in self._lanes:
                        await lane.begin()
                    await self._take(run, ends, nursery)
                    self._lanes.rotate()
                run.taken.set()
            ends()
            async with trio.open_nursery() as nursery:
                for tally in run.tallies.values():
                    nursery.start_soon(self._judge, tally)
        finally:
            for tally in run.tallies.values():
                for transfer, _ in tally.unavailable:
                    self._leave(transfer)
        self._count("runs")

    async def _take(self, run: Run, ends: Callable[[], bool], nursery: trio.Nursery) -> None:
        going = deque(self._lanes)
        while going:
            # Before a transfer is taken: one that were taken and not tried would lose its turn.
            await self._slots.acquire()
            started = False
            try:
                if ends():
                    return
                lane = going.popleft()
                tally = run.tallies[lane.way]
                if tally.works and (transfer := await lane.next(self._in_hand)) is not None:
                    going.append(lane)
                    self._in_hand.add(transfer.id)
                    nursery.start_soon(self._transfer, tally, transfer)
                    started = True
            finally:
                if not started:
                    self._slots.release()

    async def _transfer(self, tally: Tally, transfer: S3Transfer) -> None:
        judged = True
        try:
            judged = await self._attempt(tally, transfer)
        finally:
            self._slots.release()
            if judged:
                self._leave(transfer)

    def _leave(self, transfer: S3Transfer) -> None:
        self._in_hand.discard(transfer.id)
        for lane in self._lanes:
            lane.ended(transfer)

    async def _attempt(self, tally: Tally, transfer: S3Transfer) -> bool:
        """Try a transfer once, and note what came of it; tell whether that is judged already."""
        try:
            with trio.fail_after(self._options.transfer_timeout):
                await self._copy(transfer)
        except Exception as error:  # noqa: BLE001  # whatever it is, it stops no other transfer
            match verdict(error):
                case Verdict.RATE_LIMITED:
                    self._count("rate_limited")
                    _log.info("%s of %r is turned away: %s", transfer.type, transfer.key, error)
                case Verdict.UNAVAILABLE:
                    self._count("unavailable")
                    tally.unavailable.append((transfer, error))
                    return False
                case Verdict.FAILED:
                    await self._failed(transfer, error)
                case Verdict.MISSING:
                    self._count("missing")
                    _log.info("%s of %r is given up: %s", transfer.type, transfer.key, error)
                    await self._transfers.delete([transfer.id])
        else:
            tally.done += 1
            self._count("done")
            # Not within the timeout: to wait for a buffer is not the transfer's fault.
            if transfer.type == TransferType.DOWNLOAD:
                # In the file before the queue forgets it: a crash between the two, and the next
                # start would take the artifact's file for one that nobody knows.
                await self._artifacts.track_stored(transfer.key)
            await self._transfers.delete([transfer.id])
        return True

    async def _copy(self, transfer: S3Transfer) -> None:
        if transfer.type == TransferType.UPLOAD:
            await self._storage.upload(transfer.key, self._files.path(transfer.key))
        else:
            async with self._files.writing(transfer.key) as path:
                await self._storage.download(transfer.key, path)

    async def _judge(self, tally: Tally) -> None:
        """Tell the transfers that failed from a storage that is out of order."""
        if not tally.works:
            count, (transfer, error) = len(tally.unavailable), tally.unavailable[-1]
            _log.warning(
                "the storage is out of order: %d transfers stay in the queue, the last of them the "
                "%s of %r: %r",
                count,
                transfer.type,
                transfer.key,
                error,
            )
            return
        async with trio.open_nursery() as nursery:
            for transfer, error in tally.unavailable:
                nursery.start_soon(self._failed, transfer, error)

    async def _failed(self, transfer: S3Transfer, error: Exception) -> None:
        self._count("failed")
        attempts, most = transfer.attempts + 1, self._options.transfer_attempts
        log = (transfer.type, transfer.key, attempts, most, repr(error))
        if attempts >= most:
            _log.error("%s of %r failed, and is dropped, attempt %d of %d: %s", *log)
            self._count("dropped")
            await self._transfers.delete([transfer.id])
            return
        _log.warning("%s of %r failed, attempt %d of %d: %s", *log)
        try:
            wait = _delay(self._options.transfer_retry, attempts)
            await self._transfers.note_failure(transfer, wait=wait)
        except Exception as trouble:  # noqa: BLE001  # the disk is full: buffers wait, so do we
            _log.warning(
                "this attempt is not counted, since the database takes no note: %r", trouble
            )

    def _count(self, what: str) -> None:
        self._total = replace(self._total, **{what: getattr(self._total, what) + 1})


def _delay(policy: RetryPolicy, attempt: int) -> float:
    return policy.delay(attempt, random.random())  # noqa: S311  # jitter
