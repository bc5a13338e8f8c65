"""The worker task of a buffer: receive, coalesce, commit, retry and settle until the end.

The task ends once the channel is closed and empty. It runs in a shielded scope, so that a
cancelled program does not lose its rows: leaving `open_buffers` closes the channel and sets the
deadline of that scope.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any
from uuid import uuid4

import trio

from forebay._batching.batch import FlushReason
from forebay._batching.coalesce import Coalescer
from forebay._batching.flush_policy import BufferState, FlushPolicy
from forebay._buffer.buffer import Buffer
from forebay._buffer.capacity import Capacity
from forebay._buffer.channel import Channel
from forebay._buffer.direct_writer import DirectWriter
from forebay._buffer.flusher import Flusher
from forebay._buffer.in_flight import InFlight
from forebay._buffer.ledger import Ledger
from forebay._buffer.log import BufferLog
from forebay._buffer.observer import Observe, unobserved
from forebay._buffer.pending_entries import PendingEntries
from forebay._buffer.reader import Reader
from forebay._errors import DrainError, FlushError, Unsettled
from forebay._options import BufferOptions
from forebay._table.operations import Operation, to_operation
from forebay._table.table import Table, key_getter
from forebay.stores import BatchError, FloodError, Store


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
        self._options = options
        self._policy = FlushPolicy.from_options(options)
        stream = uuid4().hex
        self.ledger = Ledger(table.name)
        self.observer = observe(table.name, self.ledger, options.capacity)
        pending = PendingEntries(key_getter(table)) if table.key else None
        self.channel = Channel(
            table.name,
            capacity=Capacity(options.capacity, options.capacity_bytes, ledger=self.ledger),
            batch_size=self._policy.batch_size,
            ledger=self.ledger,
            pending=pending,
            capture=self.observer.capture,
        )
        reader = None
        if pending is not None:
            reader = Reader(table, store, stream=stream, ledger=self.ledger, pending=pending)
        self._log = BufferLog(table.name)
        self._flusher = Flusher(
            table,
            store,
            options,
            ledger=self.ledger,
            channel=self.channel,
            oldest=self._oldest,
            log=self._log,
        )
        self._coalescer = Coalescer(table, stream=stream)
        self.buffer: Buffer[Any] = Buffer(
            table,
            self.channel,
            self.ledger,
            reader,
            DirectWriter(self.channel, self._coalescer, self._flusher, self.observer),
            unsupported=partial(store.unsupported_calls, table),
            spool_state=partial(store.spool_state, table.name),
        )
        self._scope = trio.CancelScope(shield=True)
        self._now = trio.lowlevel.current_clock().current_time
        self._coalesced_oldest: float | None = None
        self._coalesced_size = 0
        self._given_up = False
        self.ended = trio.Event()
        """Set when the task has ended for any reason."""
        self.failure: FlushError | None = None
        """Why the buffer stopped, if it failed."""
        self.left_at_deadline: Unsettled | None = None
        """The entries that were not settled when the deadline of the drain passed, if it did."""

    def close(self) -> None:
        """Accept no more entries, and drain until the drain timeout has passed."""
        self.channel.close()
        self._flusher.suspension.drain()
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

        The deadline of the drain or a failure stops it. `failure` and `left_at_deadline` have the
        reason, for the callers of the buffer and for `open_buffers`. It raises only if there is no
        memory to name the entries.
        """
        try:
            await self._run()
        finally:
            self.ended.set()  # otherwise `open_buffers` would wait forever

    async def _run(self) -> None:
        try:
            with self._scope:
                try:
                    while (flight := await self._next_batch()) is not None:
                        await self._flush(flight)
                finally:
                    # The outcome of a transaction that has begun is awaited in any case.
                    left = self._flusher.in_flight
                    if left is not None and left.begun:
                        await self._flush(left)
        except BaseException as error:  # noqa: BLE001  # the other buffers have to drain
            self.failure = self._failure(error)
            self._stop(self.failure)
        if self.failure is None and self.ledger.pending:
            self.left_at_deadline = self._unsettled()
            self._log.gave_up(self.left_at_deadline)
            self._stop(DrainError({self._table.name: self.left_at_deadline}))
        self.channel.close_receive()
        self.observer.closed()
        self._log.ended()

    async def _flush(self, flight: InFlight) -> None:
        with flight.observer:
            await self._flusher.flush(flight)

    def _stop(self, why: Exception) -> None:
        """End the waits for a flush or for room: each raises an error with this cause."""
        self._flusher.suspension.end()
        self.ledger.fail(why)
        self.channel.fail()

    async def _next_batch(self) -> InFlight | None:
        """Wait until a flush is due and return its batch; None at the end of the channel.

        This is a checkpoint after each short flush: a store need not let other tasks run then.
        """
        others_ran = not self._flusher.last_was_short
        while True:
            if self._flusher.in_flight is not None:  # a direct write has not settled it
                return self._flusher.in_flight
            self.channel.receive_nowait()
            requested = self.ledger.requested > self.ledger.settled
            self._coalesce(flush_due=requested)
            reason = self._policy.flush_reason(self._state(requested=requested), self._now())
            if reason is None:
                if self.channel.ended:
                    return None
                await self.channel.wait(
                    self._policy.deadline(self._oldest()),
                    missing=self._policy.batch_size - len(self._coalescer),
                )
            elif others_ran:
                self._coalesce(flush_due=True)
                return self._take(reason)
            else:
                await trio.lowlevel.checkpoint()
            others_ran = True

    def _state(self, *, requested: bool) -> BufferState:
        return BufferState(
            len(self._coalescer),
            self.channel.exhausted,
            requested,
            self.channel.ended,
            self._oldest(),
        )

    def _oldest(self) -> float | None:
        return self.channel.oldest if self._coalesced_oldest is None else self._coalesced_oldest

    def _coalesce(self, *, flush_due: bool = False) -> None:
        """Coalesce the entries received, up to the size of a batch."""
        while self.channel.received:
            missing = self._policy.batch_size - len(self._coalescer)
            if missing <= 0 or ((taken := self.channel.take(missing, flush_due=flush_due)) is None):
                return
            if self._coalesced_oldest is None:
                self._coalesced_oldest = taken.opened_at
            self._coalescer.add(taken.entries, only_rows=taken.only_rows)
            self._coalesced_size += taken.size

    def _take(self, reason: FlushReason) -> InFlight:
        batch = self._coalescer.take(reason)
        flight = self._flusher.take(batch, self._coalesced_size, self.observer.flush(batch))
        self._coalesced_size, self._coalesced_oldest = 0, None
        return flight

    def _failure(self, error: BaseException) -> FlushError:
        """Return the error for a flush that failed, and log it."""
        unsettled, attempts = self._unsettled(), 1
        reason, summary, cause = repr(error), type(error).__name__, error
        if isinstance(error, BatchError):
            reason, summary, cause = str(error), error.summary, error.__cause__ or error
            if isinstance(error, FloodError):
                reason = f"{reason}; {self._flusher.dead_letters}"
            if self._flusher.in_flight is not None:
                attempts = self._flusher.in_flight.attempts
        self._log.stopped(summary, attempts=attempts, unsettled=unsettled)
        failure = FlushError(
            reason, buffer=self._table.name, unsettled=unsettled, cause=error, attempts=attempts
        )
        failure.__cause__ = cause
        return failure

    def _unsettled(self) -> Unsettled:
        """Return all entries that are not settled, oldest first. No flush may follow."""
        self.channel.receive_nowait()
        operations: list[Operation] = []
        if (flight := self._flusher.in_flight) is not None:
            operations.extend(flight.remaining().operations())
        operations.extend(self._coalescer.take(FlushReason.DRAIN).operations())
        while (taken := self.channel.take(sys.maxsize, flush_due=True)) is not None:
            operations.extend(map(to_operation, taken.entries))
        oldest = self.ledger.oldest
        return Unsettled(
            entries=tuple(operations),
            count=self.ledger.pending,
            oldest_age=0.0 if oldest is None else trio.current_time() - oldest,
            last_error=self._flusher.retry_error,
        )
