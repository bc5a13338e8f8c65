"""Flush one batch: commit it, retry or wait after a failure, and settle what is committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

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
from forebay.stores import Batch, BatchError, FailureKind, Outcome, PromptAttempt, Store

_RETRIED = frozenset({FailureKind.TRANSIENT, FailureKind.IN_DOUBT})
"""The failures that a retry may fix, without anybody who removes a cause."""

_SHORT: Final = 0.001
"""The longest time for which a store keeps other tasks from running, in seconds."""


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
        self.dead_letters: DeadLetterLimit = DeadLetterLimit(options.dead_letters_per_minute)
        self.suspension: Suspension = Suspension(options, ledger)
        self.in_flight: InFlight | None = None
        """The batch that is being flushed, or will be next; None once it is settled."""
        self.retry_error: BatchError | None = None
        """Why the last attempt at the batch in flight failed; None if none did."""
        self.last_entries: int = 0
        """The number of entries in the last batch that was flushed."""
        self.last_was_short: bool = True
        """Whether the last flush was so short that no other task may have run meanwhile."""

    def take(self, batch: Batch, size: int, observer: FlushObserver) -> InFlight:
        """Make a batch the one in flight. From here on the flusher names its entries.

        Args:
            batch: the batch.
            size: the bytes to release once it is settled.
            observer: gets the attempts and their outcome. It is the context of `flush`.
        """
        flight = InFlight(batch, observer, size=size, started=self._now())
        self.in_flight = flight
        flight.attempt = self._store.begin(batch)  # a store may raise any error
        return flight

    async def flush(self, flight: InFlight) -> None:
        """Commit a batch. Retry after failures that waiting, or somebody, may fix.

        If this is cancelled, `in_flight` has the entries that are not settled.

        Args:
            flight: the batch, which is `in_flight`.

        Raises:
            BatchError: the buffer must stop. It is the error of the last attempt.
        """
        while True:
            # An attempt of `flush_nowait` began before the drain.
            in_drain = self.suspension.draining and not flight.begun
            try:
                outcome = await self._commit(flight)
            except BatchError as error:
                flight.observer.failed(error)
                if error.outcome is not None:
                    self._settle(flight, error.settled, error.outcome)
                await self._wait_or_fail(error, flight.attempts, in_drain=in_drain)
            else:
                # There is no checkpoint between COMMIT and this: a cancellation there would name
                # committed rows as unsettled.
                self._finish(flight, outcome)
                return

    def flush_nowait(self, flight: InFlight) -> None:
        """Commit a batch if the store can do so at once, without letting other tasks run.

        If it cannot, or if that fails, `flush` goes on with the batch, which is still `in_flight`.

        Args:
            flight: the batch, which is `in_flight`, and of which there was no attempt.
        """
        if not isinstance(flight.attempt, PromptAttempt):
            return
        flight.begun = True
        try:
            self._begin(flight)
            limit = self._rejection_limit(flight)
            outcome = flight.attempt.commit_nowait(rejection_limit=limit)
            with flight.observer:
                self._finish(flight, outcome)
        except trio.WouldBlock:
            pass
        except Exception as error:  # noqa: BLE001  # raised by the next attempt
            flight.failure = error

    async def _commit(self, flight: InFlight) -> Outcome:
        """Try to commit the part of a batch that is not settled yet.

        Raises:
            BatchError: the attempt failed.
        """
        if not flight.begun:
            # The store may shield its calls, so the deadline has to be checked between them.
            await trio.lowlevel.checkpoint_if_cancelled()
            self._begin(flight)
        flight.begun = False
        if flight.failure is not None:
            failure, flight.failure = flight.failure, None
            raise failure
        if self.suspension.active:
            try:
                await self._store.recheck(self._table)
            except SchemaError as error:
                reason, *_sql = str(error).splitlines()  # the SQL stays in the __cause__
                code = type(error).__name__
                raise BatchError(reason, kind=FailureKind.FATAL, code=code) from error
        return await flight.attempt.commit(rejection_limit=self._rejection_limit(flight))

    def _begin(self, flight: InFlight) -> None:
        """Count an attempt."""
        if flight.attempts:
            self._ledger.retries += 1
        flight.attempts += 1
        flight.observer.attempt()

    def _rejection_limit(self, flight: InFlight) -> float:
        # The store counts the dead letters of the whole batch, so those that are settled, and
        # counted by the limit, come on top.
        return self.dead_letters.remaining(self._now()) + flight.dead_letters

    def _finish(self, flight: InFlight, outcome: Outcome) -> None:
        """Settle a batch that is committed."""
        self._settle(flight, flight.batch.entries, outcome)
        self.in_flight = self.retry_error = self._ledger.last_error = None
        self.suspension.end()
        duration = self._now() - flight.started
        self._ledger.durations.append(duration)
        self.last_was_short = duration < _SHORT
        self.last_entries = flight.batch.entries
        if flight.attempts > 1:
            self._log.flushed(attempts=flight.attempts, duration=duration)
        flight.observer.committed(outcome)

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

    def _settle(self, flight: InFlight, entries: int, outcome: Outcome) -> None:
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
        flight.observer.settled(part.outcome)
        if rejections or self._log.holds_refusals:
            self._log.refused(rejections)
