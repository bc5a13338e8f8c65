"""One way through the queue of transfers: where the last run left it, and how this one goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Container

from forebay.cache.options import CacheOptions
from forebay.cache.tables import S3Transfer, TransferType
from forebay.cache.transfers import S3Transfers


class Lane:
    """Gives the transfers of one way in the order of the queue, each once a run.

    A run that ends early is taken up by the next one behind the transfer that was given last:
    what was turned away waits for its turn, and what stands behind it has one.
    """

    def __init__(self, transfers: S3Transfers, way: TransferType, options: CacheOptions) -> None:
        self._transfers = transfers
        self._options = options
        self.way = way
        self._last: S3Transfer | None = None
        """What was given last, unless that was the end of the queue."""
        self._stretches: deque[tuple[S3Transfer | None, S3Transfer]] = deque()
        """What is to be given yet: behind the first of a pair, up to the second."""
        self._batch: deque[S3Transfer] = deque()
        self._ended: set[str] = set()
        """The ids of transfers that ended since the batch was read, which may have them still."""

    def ended(self, transfer: S3Transfer) -> None:
        """Note that a transfer is in nobody's hand any more, and had its turn."""
        self._ended.add(transfer.id)

    async def begin(self) -> None:
        """Begin a run: over what is queued now, not over what is queued meanwhile."""
        self._batch.clear()
        self._stretches.clear()
        newest = await self._transfers.newest(self.way)
        if newest is not None:
            self._stretches.append((self._last, newest))
            if self._last is not None:
                self._stretches.append((None, self._last))

    async def next(self, in_hand: Container[str]) -> S3Transfer | None:
        """Give the next transfer of this run that is due; None where none is left.

        Args:
            in_hand: the ids of transfers that runs before have in hand still: passed over.
        """
        while (transfer := await self._next()) is not None:
            if transfer.id not in in_hand and transfer.id not in self._ended:
                break
        return transfer

    async def _next(self) -> S3Transfer | None:
        while self._stretches and not self._batch:
            after, until = self._stretches.popleft()
            self._ended.clear()
            batch = await self._transfers.due(
                self.way,
                self._options.transfer_batch,
                after=after,
                until=until,
                longest=self._options.transfer_retry.max_delay,
            )
            if batch:
                self._batch.extend(batch)
                self._stretches.appendleft((batch[-1], until))
        self._last = self._batch.popleft() if self._batch else None
        return self._last
