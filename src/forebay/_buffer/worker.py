"""The buffer task: receive, coalesce, flush, retry, settle, until the intake is closed and empty.

The task runs in a shielded scope, so that a cancelled program does not take the rows with it:
leaving `open_buffers` closes the intake and gives the scope its deadline.
"""

from __future__ import annotations

import random
import sys
from typing import Any
from uuid import uuid4

import trio

from forebay._batching.batch import FlushReason
from forebay._batching.coalesce import Coalescer, remainder
from forebay._batching.dead_letter_limit import DeadLetterLimit
from forebay._batching.flush_policy import FlushPolicy, Pending
from forebay._buffer.buffer import Buffer
from forebay._buffer.capacity import Capacity
from forebay._buffer.channel import Channel
from forebay._buffer.ledger import Ledger
from forebay._buffer.observer import FlushObserver, Observe, unobserved
from forebay._errors import DrainError, FlushError, Unsettled
from forebay._options import BufferOptions
from forebay._table.operations import Operation, operation
from forebay._table.table import Table
from forebay.stores import Batch, BatchError, FailureKind, FloodError, Outcome, Store

_jitter = random.Random()  # noqa: S311  # no secret; and a program's own random numbers stay as seeded

_RETRIED = frozenset({FailureKind.TRANSIENT, FailureKind.IN_DOUBT})
"""Failures after which the same batch is committed again, as often as it takes."""


class Worker:
    """Owns what one buffer holds, from the channel to COMMIT."""

    def __init__(
        self,
        table: Table[Any],
        store: Store,
        options: BufferOptions,
        observe: Observe = unobserved,
    ) -> None:
        self._table = table
        self._store = store
        self._options = options
        self._policy = FlushPolicy.of(options)
        self.ledger = Ledger(table.name)
        self.observer = observe(table.name, self.ledger, options.capacity)
        self.channel = Channel(
            table.name,
            capacity=Capacity(options.capacity, options.capacity_bytes),
            batch_size=self._policy.batch_size,
            ledger=self.ledger,
            capture=self.observer.capture,
        )
        self.buffer: Buffer[Any] = Buffer(table, self.channel, self.ledger)
        self._dead_letters = DeadLetterLimit(options.dead_letters_per_minute)
        self._scope = trio.CancelScope(shield=True)
        self._coalescer = Coalescer(table, stream=uuid4().hex)
        self._coalesced_oldest: float | None = None
        self._coalesced_size = 0
        self._in_flight_size = 0
        self._in_flight: Batch | None = None
        self._given_up = False
        self._retry_error: BatchError | None = None
        self.ended = trio.Event()
        """Set when the task has come to its end, in whatever way."""
        self.failure: FlushError | None = None
        """Why the buffer stopped before its end, if it did."""
        self.late: Unsettled | None = None
        """What was not settled when the deadline of the drain passed, if it did."""

    def close(self) -> None:
        """Accept nothing more and drain, from now to the drain timeout."""
        self.channel.close()
        timeout = 0.0 if self._given_up else self._options.drain_timeout
        self._scope.deadline = trio.current_time() + timeout

    def give_up(self) -> None:
        """Let the deadline pass now, or at once when the drain begins."""
        self._given_up = True
        if self.channel.closed:
            self._scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Run until the intake is closed and all is settled, or the deadline or a failure ends it.

        Never raises: what went wrong is kept, for the callers and for the group.
        """
        try:
            with self._scope:
                while (batch := await self._next_batch()) is not None:
                    with self.observer.flush(batch) as flush:
                        await self._flush(batch, flush)
        except FlushError as error:
            self.failure = error
        except BaseException as error:  # noqa: BLE001  # one store's fault must not cost the others
            self.failure = FlushError(
                repr(error), buffer=self._table.name, unsettled=self._unsettled()
            )
            self.failure.__cause__ = error
        if self.failure is not None:
            self._stop(self.failure)
        elif self.ledger.pending:
            if self._retry_error is not None:
                self._settle_part(self._retry_error)
            self.late = self._unsettled()
            self._stop(DrainError({self._table.name: self.late}))
        self.channel.close_receive()
        self.observer.closed()
        self.ended.set()

    def _stop(self, why: Exception) -> None:
        """Tell all who wait for entries to settle, or for room, that it is over."""
        self.ledger.fail(why)
        self.channel.fail()

    async def _next_batch(self) -> Batch | None:
        """Wait until a flush is due, and take the batch; None at the end."""
        while True:
            self.channel.receive_nowait()
            self._coalesce()
            reason = self._policy.reason(self._pending(), trio.current_time())
            if reason is not None:
                self._coalesce(flush_due=True)
                return self._take(reason)
            if self.channel.ended:
                return None
            await self.channel.wait(
                self._policy.deadline(self._oldest()),
                missing=self._policy.batch_size - len(self._coalescer),
            )

    def _pending(self) -> Pending:
        return Pending(
            rows=len(self._coalescer),
            no_room=self.channel.exhausted,
            requested=self.ledger.requested > self.ledger.settled,
            closing=self.channel.ended,
            oldest=self._oldest(),
        )

    def _oldest(self) -> float | None:
        return self.channel.oldest if self._coalesced_oldest is None else self._coalesced_oldest

    def _coalesce(self, *, flush_due: bool = False) -> None:
        """Coalesce the entries received, up to the size of a batch."""
        while (missing := self._policy.batch_size - len(self._coalescer)) > 0:
            taken = self.channel.take(missing, flush_due=flush_due)
            if taken is None:
                return
            if self._coalesced_oldest is None:
                self._coalesced_oldest = taken.opened_at
            self._coalescer.add(taken.entries, only_rows=taken.only_rows)
            self._coalesced_size += taken.size

    def _take(self, reason: FlushReason) -> Batch:
        batch = self._in_flight = self._coalescer.take(reason)
        self._in_flight_size, self._coalesced_size = self._coalesced_size, 0
        self._coalesced_oldest = None
        return batch

    async def _flush(self, batch: Batch, observer: FlushObserver) -> None:
        """Commit a batch, again and again while the failure is one that waiting may mend."""
        retry = self._options.retry
        started, tries = trio.current_time(), 1
        attempt = self._store.begin(batch)
        while True:
            # A store may not let itself be cancelled; the deadline counts between its calls.
            await trio.lowlevel.checkpoint_if_cancelled()
            if tries > 1:
                self.ledger.retries += 1
            observer.attempt()
            try:
                outcome = await attempt.commit(
                    rejection_limit=self._dead_letters.left(trio.current_time())
                )
            except BatchError as error:
                lasting = error.kind not in _RETRIED
                last = retry.max_attempts is not None and tries >= retry.max_attempts
                observer.failed(error)
                if lasting or last:
                    self._settle_part(error)
                    raise self._stopped(error, tries) from error.__cause__ or error
                self._retry_error = error
                self.ledger.last_error = str(error)
                await trio.sleep(retry.delay(tries, _jitter.random()))
                tries += 1
            else:
                # No checkpoint between COMMIT and the account of it.
                self._settle(batch, outcome)
                self.ledger.durations.append(trio.current_time() - started)
                observer.committed(outcome)
                return

    def _settle(self, batch: Batch, outcome: Outcome) -> None:
        self._in_flight = None
        self._retry_error = None
        self.channel.receive_nowait()
        self._dead_letters.count(len(outcome.rejections), trio.current_time())
        self.ledger.settle(
            batch.entries,
            operations=sum(outcome.operations.values()),
            rejections=outcome.rejections,
            oldest=self._oldest(),
        )
        self.channel.release(batch.entries, self._in_flight_size)

    def _settle_part(self, error: BatchError) -> None:
        """Account for the part of the batch in flight that is in the table, as the rest stops."""
        batch = self._in_flight
        if batch is None or error.outcome is None or not error.settled:
            return
        self.ledger.settle(
            error.settled,
            operations=sum(error.outcome.operations.values()),
            rejections=error.outcome.rejections,
            oldest=self.ledger.oldest,
        )
        self._in_flight = remainder(batch, batch.position + error.settled)

    def _stopped(self, error: BatchError, attempts: int) -> FlushError:
        return FlushError(
            f"{error}; {self._dead_letters}" if isinstance(error, FloodError) else str(error),
            buffer=self._table.name,
            unsettled=self._unsettled(),
            attempts=attempts,
        )

    def _unsettled(self) -> Unsettled:
        """Name what was accepted and is not settled. The worker flushes nothing after it."""
        self.channel.receive_nowait()
        operations: list[Operation] = []
        if self._in_flight is not None:
            operations.extend(self._in_flight.operations())
        operations.extend(self._coalescer.take(FlushReason.DRAIN).operations())
        while (taken := self.channel.take(sys.maxsize, flush_due=True)) is not None:
            operations.extend(map(operation, taken.entries))
        oldest = self.ledger.oldest
        return Unsettled(
            entries=tuple(operations),
            count=self.ledger.pending,
            oldest_age=0.0 if oldest is None else trio.current_time() - oldest,
            last_error=self._retry_error,
        )
