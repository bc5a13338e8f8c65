"""Flush one batch: commit it, retry or wait after a failure, and settle what is committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from forebay._batching.dead_letter_limit import DeadLetterLimit
from forebay._buffer.channel import Channel
from forebay._buffer.in_flight import InFlight
from forebay._buffer.ledger import Ledger
from forebay._buffer.log import BufferLog
from forebay._buffer.observer import FlushObserver
from forebay._buffer.suspension import Suspension
from forebay._errors import SchemaError
from forebay._options import JITTER, BufferOptions
from forebay._table.table import Table
from forebay.stores import Attempt, BatchError, FailureKind, Outcome, Store

_RETRIED = frozenset({FailureKind.TRANSIENT, FailureKind.IN_DOUBT})
"""The failures that a retry may fix, without anybody who removes a cause."""


class Flusher:
    """Flushes the batches of one buffer, one after another.

    Args:
        table: the table of the buffer.
        store: where the batches are committed.
        options: the options of the buffer.
        ledger: counts the settled entries, and shows the last error.
        channel: gets the capacity of settled entries back.
        oldest: returns when the oldest entry was accepted that is in no batch yet.
        log: gets the failures, and the refused entries.
    """

    def __init__(
        self,
        table: Table[Any],
        store: Store,
        options: BufferOptions,
        *,
        ledger: Ledger,
        channel: Channel,
        oldest: Callable[[], float | None],
        log: BufferLog,
    ) -> None:
        self._table = table
        self._store = store
        self._now = trio.lowlevel.current_clock().current_time
        self._retry = options.retry
        self._ledger = ledger
        self._channel = channel
        self._oldest = oldest
        self._log = log
        self.dead_letters = DeadLetterLimit(options.dead_letters_per_minute)
        self.suspension = Suspension(options, ledger)
        self.in_flight: InFlight | None = None
        """The batch that is being flushed, or will be next; None once it is settled."""
        self.retry_error: BatchError | None = None
        """Why the last attempt at the batch in flight failed; None if none did."""

    async def flush(self, flight: InFlight, observer: FlushObserver) -> None:
        """Commit a batch. Retry after failures that waiting, or somebody, may fix.

        If this is cancelled, `in_flight` has the entries that are not settled.

        Args:
            flight: the batch, which is `in_flight`.
            observer: gets the attempts and their outcome.

        Raises:
            BatchError: the buffer must stop. It is the error of the last attempt.
        """
        started = self._now()
        attempt = self._store.begin(flight.batch)
        while True:
            # The store may shield its calls, so the deadline has to be checked between them.
            await trio.lowlevel.checkpoint_if_cancelled()
            in_drain = self.suspension.draining
            try:
                outcome = await self._commit(flight, attempt, observer)
            except BatchError as error:
                observer.failed(error)
                if error.outcome is not None:
                    self._settle(flight, error.settled, error.outcome, observer)
                await self._wait_or_fail(error, flight.attempts, in_drain=in_drain)
            else:
                # There is no checkpoint between COMMIT and this: a cancellation there would name
                # committed rows as unsettled.
                self._settle(flight, flight.batch.entries, outcome, observer)
                self.in_flight = self.retry_error = self._ledger.last_error = None
                self.suspension.end()
                duration = self._now() - started
                self._ledger.durations.append(duration)
                if flight.attempts > 1:
                    self._log.flushed(attempts=flight.attempts, duration=duration)
                observer.committed(outcome)
                return

    async def _commit(self, flight: InFlight, attempt: Attempt, observer: FlushObserver) -> Outcome:
        """Try to commit the part of a batch that is not settled yet.

        Raises:
            BatchError: the attempt failed.
        """
        if flight.attempts:
            self._ledger.retries += 1
        flight.attempts += 1
        observer.attempt()
        if self.suspension.active:
            try:
                await self._store.recheck(self._table)
            except SchemaError as error:
                reason, *_sql = str(error).splitlines()  # the SQL stays in the __cause__
                code = type(error).__name__
                raise BatchError(reason, kind=FailureKind.FATAL, code=code) from error
        # The store counts the dead letters of the whole batch, so those that are settled, and
        # counted by the limit, come on top.
        limit = self.dead_letters.remaining(self._now()) + flight.dead_letters
        return await attempt.commit(rejection_limit=limit)

    async def _wait_or_fail(self, error: BatchError, attempts: int, *, in_drain: bool) -> None:
        """Wait until the next attempt is due.

        Args:
            error: the error of the last attempt.
            attempts: the number of attempts at the batch.
            in_drain: whether the last attempt began while the buffer drained.

        Raises:
            BatchError: no attempt may follow. It is `error`.
        """
        if self._may_retry(error, attempts):
            self._note_failure(error)
            delay = self._retry.delay(attempts, JITTER.random())
            self._log.retrying(error, attempts=attempts, delay=delay)
            await trio.sleep(delay)
        elif self.suspension.begin(error, in_drain=in_drain):
            self._note_failure(error)
            delay = self.suspension.delay(error)
            pending = self._ledger.pending
            self._log.suspended(error, attempts=attempts, delay=delay, pending=pending)
            await self.suspension.wait(delay)
        else:
            raise error

    def _may_retry(self, error: BatchError, attempts: int) -> bool:
        """Return whether to retry with the normal backoff. A suspended buffer does not."""
        most = self._retry.max_attempts
        return (
            error.kind in _RETRIED
            and not self.suspension.active
            and (most is None or attempts < most)
        )

    def _note_failure(self, error: BatchError) -> None:
        self.retry_error = error
        self._ledger.last_error = str(error)

    def _settle(
        self, flight: InFlight, entries: int, outcome: Outcome, observer: FlushObserver
    ) -> None:
        """Settle the first entries of a batch, as far as they are not settled yet."""
        part = flight.settle(entries, outcome)
        if part is None:
            return
        self._channel.receive_nowait()
        rejections = part.outcome.rejections
        if rejections:
            self.dead_letters.record(len(rejections), self._now())
        self._ledger.settle(
            part.entries,
            operations=sum(part.outcome.operations.values()),
            rejections=rejections,
            oldest=self._oldest() if entries == flight.batch.entries else self._ledger.oldest,
        )
        self._channel.release(part.size)
        observer.settled(part.outcome)
        if rejections or self._log.holds_refusals:
            self._log.refused(rejections)
