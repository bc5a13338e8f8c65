"""The worker task of a buffer: receive, coalesce, commit, retry and settle until the end.

The task ends once the channel is closed and empty. It runs in a shielded scope, so that a
cancelled program does not lose its rows: leaving `open_buffers` closes the channel and sets the
deadline of that scope.
"""

from __future__ import annotations

import random
import sys
from typing import Any
from uuid import uuid4

import trio

from forebay._batching.batch import FlushReason
from forebay._batching.coalesce import Coalescer, remaining_batch
from forebay._batching.dead_letter_limit import DeadLetterLimit
from forebay._batching.flush_policy import BufferState, FlushPolicy
from forebay._buffer.buffer import Buffer
from forebay._buffer.capacity import Capacity
from forebay._buffer.channel import Channel
from forebay._buffer.ledger import Ledger
from forebay._buffer.observer import FlushObserver, Observe, unobserved
from forebay._errors import DrainError, FlushError, Unsettled
from forebay._options import BufferOptions
from forebay._table.operations import Operation, to_operation
from forebay._table.table import Table
from forebay.stores import Batch, BatchError, FailureKind, FloodError, Outcome, Store

# Separate from the module's generator, so that a program which seeds that one gets its numbers.
_jitter = random.Random()  # noqa: S311  # jitter is not a secret

_RETRIED = frozenset({FailureKind.TRANSIENT, FailureKind.IN_DOUBT})
"""The failures after which the worker commits the same batch again."""


class Worker:
    """The worker task of one buffer, and the parts that the task and the buffer share.

    Args:
        table: the table that the buffer writes to.
        store: where the batches are committed.
        options: the options of the buffer.
        observe: makes the observer of the buffer.
    """

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
        self._policy = FlushPolicy.from_options(options)
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
        """Set when the task has ended for any reason."""
        self.failure: FlushError | None = None
        """Why the buffer stopped, if it failed."""
        self.late: Unsettled | None = None
        """The entries that were not settled when the deadline of the drain passed, if it did."""

    def close(self) -> None:
        """Accept no more entries, and drain until the drain timeout has passed."""
        self.channel.close()
        timeout = 0.0 if self._given_up else self._options.drain_timeout
        self._scope.deadline = trio.current_time() + timeout

    def give_up(self) -> None:
        """End the drain now, or as soon as it begins."""
        self._given_up = True
        if self.channel.closed:
            self._scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Run until the channel is closed and all entries are settled, or until it has to stop.

        The deadline of the drain stops it, or a failure. It never raises: `failure` and `late`
        have the reason, for the callers of the buffer and for `open_buffers`.
        """
        try:
            with self._scope:
                while (batch := await self._next_batch()) is not None:
                    with self.observer.flush(batch) as flush:
                        await self._flush(batch, flush)
        except FlushError as error:
            self.failure = error
        except BaseException as error:  # noqa: BLE001  # the other buffers have to drain
            self.failure = FlushError(
                repr(error), buffer=self._table.name, unsettled=self._unsettled(), cause=error
            )
            self.failure.__cause__ = error
        if self.failure is not None:
            self._stop(self.failure)
        elif self.ledger.pending:
            if self._retry_error is not None:
                self._settle_committed_part(self._retry_error)
            self.late = self._unsettled()
            self._stop(DrainError({self._table.name: self.late}))
        self.channel.close_receive()
        self.observer.closed()
        self.ended.set()

    def _stop(self, why: Exception) -> None:
        """Raise in all tasks that wait for a flush or for room."""
        self.ledger.fail(why)
        self.channel.fail()

    async def _next_batch(self) -> Batch | None:
        """Wait until a flush is due and return its batch; None at the end of the channel."""
        while True:
            self.channel.receive_nowait()
            self._coalesce()
            reason = self._policy.flush_reason(self._state(), trio.current_time())
            if reason is not None:
                self._coalesce(flush_due=True)
                return self._take(reason)
            if self.channel.ended:
                return None
            await self.channel.wait(
                self._policy.deadline(self._oldest()),
                missing=self._policy.batch_size - len(self._coalescer),
            )

    def _state(self) -> BufferState:
        return BufferState(
            rows=len(self._coalescer),
            full=self.channel.exhausted,
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
        """Commit a batch, and retry after failures that waiting may fix."""
        retry = self._options.retry
        started, attempts = trio.current_time(), 1
        attempt = self._store.begin(batch)
        while True:
            # The store may shield its calls, so the deadline has to be checked between them.
            await trio.lowlevel.checkpoint_if_cancelled()
            if attempts > 1:
                self.ledger.retries += 1
            observer.attempt()
            try:
                outcome = await attempt.commit(
                    rejection_limit=self._dead_letters.remaining(trio.current_time())
                )
            except BatchError as error:
                permanent = error.kind not in _RETRIED
                last = retry.max_attempts is not None and attempts >= retry.max_attempts
                observer.failed(error)
                if permanent or last:
                    self._settle_committed_part(error)
                    raise self._flush_error(error, attempts) from error.__cause__ or error
                self._retry_error = error
                self.ledger.last_error = str(error)
                await trio.sleep(retry.delay(attempts, _jitter.random()))
                attempts += 1
            else:
                # There is no checkpoint between COMMIT and this, or committed rows would be
                # named as unsettled.
                self._settle(batch, outcome)
                self.ledger.durations.append(trio.current_time() - started)
                observer.committed(outcome)
                return

    def _settle(self, batch: Batch, outcome: Outcome) -> None:
        self._in_flight = None
        self._retry_error = None
        self.channel.receive_nowait()
        self._dead_letters.record(len(outcome.rejections), trio.current_time())
        self.ledger.settle(
            batch.entries,
            operations=sum(outcome.operations.values()),
            rejections=outcome.rejections,
            oldest=self._oldest(),
        )
        self.channel.release(batch.entries, self._in_flight_size)

    def _settle_committed_part(self, error: BatchError) -> None:
        """Settle the entries of the batch in flight that were committed before an error."""
        batch = self._in_flight
        if batch is None or error.outcome is None or not error.settled:
            return
        self.ledger.settle(
            error.settled,
            operations=sum(error.outcome.operations.values()),
            rejections=error.outcome.rejections,
            oldest=self.ledger.oldest,
        )
        self._in_flight = remaining_batch(batch, batch.position + error.settled)

    def _flush_error(self, error: BatchError, attempts: int) -> FlushError:
        return FlushError(
            f"{error}; {self._dead_letters}" if isinstance(error, FloodError) else str(error),
            buffer=self._table.name,
            unsettled=self._unsettled(),
            cause=error,
            attempts=attempts,
        )

    def _unsettled(self) -> Unsettled:
        """Return all entries that are not settled, oldest first. No flush may follow."""
        self.channel.receive_nowait()
        operations: list[Operation] = []
        if self._in_flight is not None:
            operations.extend(self._in_flight.operations())
        operations.extend(self._coalescer.take(FlushReason.DRAIN).operations())
        while (taken := self.channel.take(sys.maxsize, flush_due=True)) is not None:
            operations.extend(map(to_operation, taken.entries))
        oldest = self.ledger.oldest
        return Unsettled(
            entries=tuple(operations),
            count=self.ledger.pending,
            oldest_age=0.0 if oldest is None else trio.current_time() - oldest,
            last_error=self._retry_error,
        )
