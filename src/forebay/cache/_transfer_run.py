"""One run of the transfer worker: which transfers it tries, and whether the storage works."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from forebay.cache.options import CacheOptions
from forebay.cache.tables import S3Transfer, TransferType
from forebay.cache.transfers import S3Transfers


class FairQueue:
    """Returns the queued transfers of one type in order, each at most once per run.

    If a run ends early, the next run starts behind the transfer that was returned last, and comes
    back to the others at its end. So transfers that the storage rejects again and again do not
    starve those behind them.
    """

    def __init__(
        self, transfers: S3Transfers, transfer_type: TransferType, options: CacheOptions
    ) -> None:
        self._transfers = transfers
        self._options = options
        self.transfer_type = transfer_type
        self._last: S3Transfer | None = None
        """The transfer returned last; None if the last run reached the end of the queue."""
        self._ranges: deque[tuple[S3Transfer | None, S3Transfer]] = deque()
        """What this run still has to read: from behind the first of each pair up to the second."""
        self._batch: deque[S3Transfer] = deque()
        self._finished: set[str] = set()
        """The ids of transfers that finished after the batch was read, and may still be in it."""

    def finish(self, transfer: S3Transfer) -> None:
        """Note that an attempt at a transfer has ended, so that this run does not repeat it."""
        self._finished.add(transfer.id)

    async def begin(self) -> None:
        """Begin a run over the transfers that are queued now."""
        self._batch.clear()
        self._ranges.clear()
        newest = await self._transfers.newest(self.transfer_type)
        if newest is not None:
            self._ranges.append((self._last, newest))
            if self._last is not None:
                self._ranges.append((None, self._last))

    async def next(self, must_wait: Callable[[S3Transfer], bool]) -> S3Transfer | None:
        """Return the next transfer of this run that is due, or None at the end of the run.

        Args:
            must_wait: returns whether a transfer has to wait for others; it is skipped.
        """
        while (transfer := await self._next()) is not None:
            if not must_wait(transfer) and transfer.id not in self._finished:
                break
        return transfer

    async def _next(self) -> S3Transfer | None:
        while self._ranges and not self._batch:
            after, until = self._ranges.popleft()
            self._finished.clear()
            batch = await self._transfers.due(
                self.transfer_type,
                self._options.transfer_batch,
                after=after,
                until=until,
                longest_delay=self._options.transfer_retry.max_delay,
            )
            if batch:
                self._batch.extend(batch)
                self._ranges.appendleft((batch[-1], until))
        self._last = self._batch.popleft() if self._batch else None
        return self._last


@dataclass(slots=True)
class StorageHealth:
    """How the storage has handled the transfers of one type in one run."""

    done: int = 0
    unavailable: list[tuple[S3Transfer, Exception]] = field(default_factory=list)
    """The transfers that found the storage unavailable, each with its exception."""

    @property
    def healthy(self) -> bool:
        """Whether at least as many transfers were done as found the storage unavailable."""
        return len(self.unavailable) <= self.done


@dataclass(slots=True)
class TransferRun:
    """The state of one run, from its first transfer until its last one has ended."""

    health: dict[TransferType, StorageHealth] = field(
        default_factory=lambda: {each: StorageHealth() for each in TransferType}
    )
    rate_limited: bool = False
    """Whether the storage asked for fewer requests."""
    dispatched: trio.Event = field(default_factory=trio.Event)
    """Set when the run starts no more transfers."""
    ended: trio.Event = field(default_factory=trio.Event)
    """Set when the last transfer has ended, and each that found no storage is classified."""

    @property
    def backs_off(self) -> bool:
        """Whether the storage ended the run, so that the worker backs off before the next one."""
        return self.rate_limited or not all(each.healthy for each in self.health.values())

    @property
    def done(self) -> int:
        """How many transfers of all types are done."""
        return sum(each.done for each in self.health.values())
