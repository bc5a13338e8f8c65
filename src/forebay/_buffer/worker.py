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
from forebay._batching.coalesce import Coalescer
from forebay._batching.dead_letter_limit import DeadLetterLimit
from forebay._batching.flush_policy import BufferState, FlushPolicy
from forebay._buffer.buffer import Buffer
from forebay._buffer.capacity import Capacity
from forebay._buffer.channel import Channel
from forebay._buffer.in_flight import InFlight
from forebay._buffer.ledger import Ledger
from forebay._buffer.observer import FlushObserver, Observe, unobserved
from forebay._buffer.suspension import Suspension
from forebay._errors import DrainError, FlushError, SchemaError, Unsettled
from forebay._options import BufferOptions
from forebay._table.operations import Operation, to_operation
from forebay._table.table import Table
from forebay.stores import Attempt, BatchError, FailureKind, FloodError, Outcome, Store

# Not the module's generator: a program that seeds that one gets all its numbers.
_jitter = random.Random()  # noqa: S311  # jitter is not a secret

_RETRIED = frozenset({FailureKind.TRANSIENT, FailureKind.IN_DOUBT})
"""The failures that a retry may fix, without anybody who removes a cause."""


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
        self._in_flight: InFlight | None = None
        self._suspension = Suspension(options, self.ledger)
        self._given_up = False
        self._retry_error: BatchError | None = None
        self.ended = trio.Event()
        """Set when the task has ended for any reason."""
        self.failure: FlushError | None = None
        """Why the buffer stopped, if it failed."""
        self.left_at_deadline: Unsettled | None = None
        """The entries that were not settled when the deadline of the drain passed, if it did."""

    def close(self) -> None:
        """Accept no more entries, and drain until the drain timeout has passed."""
        self.channel.close()
        self._suspension.drain()
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

        The deadline of the drain or a failure stops it. It never raises: `failure` and
        `left_at_deadline` have the reason, for the callers of the buffer and for `open_buffers`.
        """
        try:
            with self._scope:
                while (flight := await self._next_batch()) is not None:
                    with self.observer.flush(flight.batch) as observer:
                        await self._flush(flight, observer)
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
            self.left_at_deadline = self._unsettled()
            self._stop(DrainError({self._table.name: self.left_at_deadline}))
        self.channel.close_receive()
        self.observer.closed()
        self.ended.set()

    def _stop(self, why: Exception) -> None:
        """End the waits for a flush or for room: each raises an error with this cause."""
        self._suspension.end()
        self.ledger.fail(why)
        self.channel.fail()

    async def _next_batch(self) -> InFlight | None:
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

    def _take(self, reason: FlushReason) -> InFlight:
        batch = self._coalescer.take(reason)
        size, self._coalesced_size, self._coalesced_oldest = self._coalesced_size, 0, None
        self._in_flight = InFlight(batch, size)
        return self._in_flight

    async def _flush(self, flight: InFlight, observer: FlushObserver) -> None:
        """Commit a batch. Retry after failures that waiting, or somebody, may fix."""
        started, retry = trio.current_time(), self._options.retry
        attempt = self._store.begin(flight.batch)
        while True:
            # The store may shield its calls, so the deadline has to be checked between them.
            await trio.lowlevel.checkpoint_if_cancelled()
            in_drain = self._suspension.draining
            try:
                outcome = await self._commit(flight, attempt, observer)
            except BatchError as error:
                observer.failed(error)
                if error.outcome is not None:
                    self._settle(flight, error.settled, error.outcome, observer)
                if self._may_retry(error, flight.attempts):
                    self._note_failure(error)
                    await trio.sleep(retry.delay(flight.attempts, _jitter.random()))
                elif self._suspension.begin(error, in_drain=in_drain):
                    self._note_failure(error)
                    await self._suspension.wait(error)
                else:
                    failure = self._flush_error(error, flight.attempts)
                    raise failure from error.__cause__ or error
            else:
                # There is no checkpoint between COMMIT and this: a cancellation there would name
                # committed rows as unsettled.
                self._settle(flight, flight.batch.entries, outcome, observer)
                self._in_flight = self._retry_error = self.ledger.last_error = None
                self._suspension.end()
                self.ledger.durations.append(trio.current_time() - started)
                observer.committed(outcome)
                return

    async def _commit(self, flight: InFlight, attempt: Attempt, observer: FlushObserver) -> Outcome:
        """Try to commit the part of a batch that is not settled yet.

        Raises:
            BatchError: the attempt failed.
        """
        if flight.attempts:
            self.ledger.retries += 1
        flight.attempts += 1
        observer.attempt()
        if self._suspension.active:
            try:
                await self._store.recheck(self._table)
            except SchemaError as error:
                reason, *_sql = str(error).splitlines()  # the SQL stays in the __cause__
                code = type(error).__name__
                raise BatchError(reason, kind=FailureKind.FATAL, code=code) from error
        # The store counts the dead letters of the whole batch, so those that are settled, and
        # counted by the limit, come on top.
        limit = self._dead_letters.remaining(trio.current_time()) + flight.dead_letters
        return await attempt.commit(rejection_limit=limit)

    def _may_retry(self, error: BatchError, attempts: int) -> bool:
        """Return whether to retry with the normal backoff. A suspended buffer does not."""
        most = self._options.retry.max_attempts
        return (
            error.kind in _RETRIED
            and not self._suspension.active
            and (most is None or attempts < most)
        )

    def _note_failure(self, error: BatchError) -> None:
        self._retry_error = error
        self.ledger.last_error = str(error)

    def _settle(
        self, flight: InFlight, entries: int, outcome: Outcome, observer: FlushObserver
    ) -> None:
        """Settle the first entries of a batch, as far as they are not settled yet."""
        part = flight.settle(entries, outcome)
        if part is None:
            return
        self.channel.receive_nowait()
        rejections = part.outcome.rejections
        self._dead_letters.record(len(rejections), trio.current_time())
        self.ledger.settle(
            part.entries,
            operations=sum(part.outcome.operations.values()),
            rejections=rejections,
            oldest=self._oldest() if entries == flight.batch.entries else self.ledger.oldest,
        )
        self.channel.release(part.entries, part.size)
        observer.settled(part.outcome)

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
            operations.extend(self._in_flight.remaining().operations())
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
