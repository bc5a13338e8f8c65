"""The way from the producers of a buffer to its worker: a Trio memory channel of bursts.

Producers send single entries. One message per entry would cost more than the write of that entry,
so a message is a burst: a list to which producers go on appending after they have sent it. A burst
is closed when it fills a batch, or when the worker takes its entries. Another burst, still empty,
then takes its place.

Entries are counted when they are accepted, not when they are received. So the number of messages in
the memory channel does not matter.

Most entries do not pass through the channel at all. It sets the `limit` of the burst so that
producers may append rows up to there as long as nothing needs attention: nobody waits, there is
room, the batch is not full, no entry is measured or linked to a span. Whatever changes that, sets
the limit to 0. The next entry then comes to the channel, which sets a new limit.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Awaitable, Sequence
from contextlib import nullcontext

import trio

from forebay._buffer.budget import ScheduleBudget
from forebay._buffer.burst import Burst, Taken
from forebay._buffer.capacity import Capacity
from forebay._buffer.ledger import Ledger
from forebay._buffer.observer import Capture
from forebay._buffer.pending_entries import PendingEntries
from forebay._owner import Owner, running
from forebay._table.operations import Entry, Row, size_of


class _Wake(enum.Enum):
    """The message that only wakes the worker: something other than time made a flush due."""

    WAKE = enum.auto()


class Channel:
    """The channel of one buffer.

    Producers call `send_nowait`, `checkpoint`, `send`, `acquire`, `send_acquired` and
    `request_flush`. The worker calls `receive_nowait`, `wait`, `take` and `release`. `idle` and
    `send_alone` are for `DirectWriter`.

    The channel closes in two steps. After `close`, producers get `trio.ClosedResourceError`, and
    the worker can still take the entries that were accepted. After `close_receive`, the worker
    cannot take entries either.

    Room is reserved, the entry is appended, and the room is used, without a KeyboardInterrupt in
    between: otherwise an interrupt could leave room reserved forever.

    Args:
        name: the table's name, for error messages.
        capacity: the limit on the entries that are accepted and not settled.
        batch_size: the number of entries in a full batch. A burst with that many is closed.
        ledger: counts the accepted entries.
        pending: gets each burst with its first entry, and drops it once it is settled.
        capture: called with the numbers of accepted entries, in the task that sent them.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: Capacity,
        batch_size: int,
        ledger: Ledger,
        pending: PendingEntries | None = None,
        capture: Capture | None = None,
    ) -> None:
        self._name = name
        self._capacity = capacity
        self._batch_size = batch_size
        self._ledger = ledger
        self._pending = pending
        self._capture = capture
        self._owner = Owner(
            f"buffer {name!r}",
            calls="trio.from_thread.run_sync(buffer.enqueue_nowait, row, trio_token=token) or "
            "trio.from_thread.run(buffer.enqueue, row, trio_token=token), and so for other calls",
        )
        self.owner_identity: object = self._owner.identity
        """The `running.identity` of the thread that may append to the burst."""
        self._appendable = capture is None and not capacity.counts_bytes
        """Whether producers may append rows to the burst themselves."""
        self.budget: ScheduleBudget = ScheduleBudget(trio.lowlevel.current_clock())
        """When the next call has to let other tasks run."""
        self._now = trio.lowlevel.current_clock().current_time
        self._closed = False
        self._burst_limit = batch_size
        """The length at which the burst fills a batch."""
        self._worker_waits = False
        """Whether the worker waits for a message. If so, it has received all earlier messages."""
        self.received: deque[Burst] = deque()
        """Received bursts with entries left. The worker may have taken a part of the first."""
        self._unreceived = 0
        """How many messages were sent and not received."""
        # Each burst has at least one entry. So the memory channel has at most as many bursts as the
        # capacity has entries, one new burst and one wake-up: its `send_nowait` never raises.
        self._send, self._receive = trio.open_memory_channel[Burst | _Wake](capacity.limit + 2)

    # For both ends

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def capacity(self) -> int:
        """How many entries may be pending."""
        return self._capacity.limit

    @property
    def counts_bytes(self) -> bool:
        """Whether each entry also needs capacity for its bytes."""
        return self._capacity.counts_bytes

    @property
    def waiting(self) -> int:
        """How many tasks wait for room."""
        return self._capacity.waiting

    # The producers' end

    def check_open(self) -> None:
        """Check that entries are accepted.

        Raises:
            trio.BrokenResourceError: the worker failed.
            trio.ClosedResourceError: the buffer was closed.
            RuntimeError: this thread or process is not the one that opened the buffer.
        """
        self._owner.check()
        if self._ledger.failure is not None:
            raise self._ledger.broken()
        if self._closed:
            raise trio.ClosedResourceError(f"buffer {self._name!r} is closed")

    def check_owner(self) -> None:
        """Check that this thread and process opened the buffer, before they use Trio.

        Raises:
            RuntimeError: they did not.
        """
        self._owner.check()

    def checkpoint(self) -> Awaitable[None]:
        """Return the checkpoint to await before `send`: it always is a cancellation point.

        Raises:
            RuntimeError: as for `check_open`.
        """
        self._owner.check()
        return self.budget.checkpoint()

    @trio.lowlevel.enable_ki_protection
    def send_nowait(self, entry: Entry) -> int:
        """Accept an entry and return its number.

        Raises:
            trio.WouldBlock: there is no room. The worker then flushes.
            trio.BrokenResourceError: as for `check_open`.
            trio.ClosedResourceError: as for `check_open`.
            RuntimeError: as for `check_open`.
        """
        burst, is_row = self._ledger.burst, isinstance(entry, tuple)
        if running.identity is self.owner_identity and len(burst.entries) < burst.limit:
            burst.only_rows = burst.only_rows and is_row
            burst.entries.append(entry)
            return self._ledger.accepted
        self.check_open()
        size = size_of(entry) if self._capacity.counts_bytes else 0
        try:
            self._capacity.acquire_nowait(1, size)
        except trio.WouldBlock:
            self.wake()
            raise
        return self._append((entry,), only_rows=is_row, size=size)

    @property
    def idle(self) -> bool:
        """Whether a row can be accepted past the worker, for a flush of this row alone.

        It cannot while the worker does not wait, or other entries are pending, or if entries have
        to be measured, or linked to spans.
        """
        burst = self._ledger.burst
        return (
            self._worker_waits  # as it does not once the channel is closed
            and self._appendable
            and burst.base == self._ledger.settled
            and not burst.entries
            and self._capacity.room > 0
        )

    @trio.lowlevel.enable_ki_protection
    def send_alone(self, row: Row) -> None:
        """Accept a row past the worker. The channel must be `idle`.

        If this raises an error, for want of memory, the row was not accepted.
        """
        base, opened_at = self._ledger.burst.base, self._now()
        following = Burst(base + 1)
        if self._pending is not None:
            alone = Burst(base)
            alone.entries.append(row)
            self._pending.add(alone)
        self._ledger.oldest = opened_at
        self._ledger.burst = following  # now the row is accepted

    @trio.lowlevel.enable_ki_protection
    async def send(self, entry: Entry) -> int:
        """Wait for room, accept an entry, and return its number.

        This is a checkpoint only if it waits, so await `checkpoint` before. If it is cancelled, the
        entry was not accepted.

        Raises:
            trio.BrokenResourceError: as for `check_open`.
            trio.ClosedResourceError: as for `check_open`.
            RuntimeError: as for `check_open`.
        """
        try:
            return self.send_nowait(entry)
        except trio.WouldBlock:
            pass
        size = size_of(entry) if self._capacity.counts_bytes else 0
        await self._acquire_one(size)
        return self._append((entry,), only_rows=isinstance(entry, tuple), size=size)

    @trio.lowlevel.enable_ki_protection
    async def acquire(self, limit: int) -> int:
        """Reserve room for several entries of `send_acquired`; wait for room for the first.

        If this is cancelled, no room is reserved. It reserves no room for bytes, so a channel that
        counts bytes does not use it.

        Args:
            limit: the largest number of entries to reserve room for.

        Returns:
            The number of entries for which room is reserved: from 1 to `limit`.

        Raises:
            trio.BrokenResourceError: as for `check_open`.
            trio.ClosedResourceError: as for `check_open`.
            RuntimeError: as for `check_open`.
        """
        self.check_open()
        acquired = 0
        if self._capacity.room == 0:
            await self._acquire_one()
            acquired = 1
        self._ledger.burst.limit = 0  # the room that it allows is about to be reserved
        if more := min(self._capacity.room, limit - acquired):
            self._capacity.acquire_nowait(more)
        return acquired + more

    @trio.lowlevel.enable_ki_protection
    def send_acquired(self, entries: Sequence[Entry], acquired: int, *, only_rows: bool) -> None:
        """Accept entries for which room is reserved, and release the room that is left.

        Args:
            entries: at most `acquired` entries.
            acquired: what `acquire` returned.
            only_rows: whether all entries are rows.
        """
        if len(entries) < acquired:
            self._capacity.release(acquired - len(entries))
        if entries:
            self._append(entries, only_rows=only_rows)

    async def _acquire_one(self, size: int = 0) -> None:
        """Wait for room for one entry and reserve it, unless the buffer is closed or fails."""
        self._ledger.burst.limit = 0  # later entries must wait behind this one
        self.wake()
        await self._capacity.acquire(size)
        try:
            self.check_open()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            # If the whole program is cancelled, the buffer may close before this task notices.
            # The task then ends with Cancelled, not with an error about the buffer.
            await trio.lowlevel.checkpoint_if_cancelled()
            raise

    def _append(self, entries: Sequence[Entry], *, only_rows: bool, size: int = 0) -> int:
        """Append entries for which room is reserved, and return the number of the last one."""
        burst = self._ledger.burst
        if not burst.entries:
            burst.opened_at = self._now()
            self._send_message(burst)
            if self._pending is not None:
                self._pending.add(burst)
            if self._ledger.oldest is None:
                self._ledger.oldest = burst.opened_at
        burst.entries.extend(entries)
        burst.only_rows = burst.only_rows and only_rows
        burst.size += size
        self._capacity.use(len(entries))
        last = self._ledger.accepted
        if self._capture is not None:
            self._capture(last - len(entries) + 1, last)
        if len(burst.entries) >= self._burst_limit:
            self._close_burst()
            self.wake()
        elif self._capacity.exhausted:
            burst.limit = 0
            self.wake()
        elif self._appendable:
            room = min(self._burst_limit - len(burst.entries), self._capacity.room)
            # The last entry comes to the channel again, which has to wake the worker then.
            burst.limit = len(burst.entries) + room - 1
        return last

    def _close_burst(self) -> None:
        """Let the next entry begin a new burst."""
        self._ledger.burst = Burst(self._ledger.accepted)

    @trio.lowlevel.enable_ki_protection
    def request_flush(self) -> int:
        """Make the worker flush all entries accepted so far.

        Returns:
            The number of the last of these entries, for `Ledger.wait_settled`.

        Raises:
            RuntimeError: as for `check_open`.
        """
        self._owner.check()
        number = self._ledger.accepted
        if self._ledger.request(number):
            self.wake()
        return number

    def wake(self) -> None:
        """If the worker waits, make it check again whether a flush is due."""
        if self._worker_waits:
            self._send_message(_Wake.WAKE)

    def _send_message(self, message: Burst | _Wake) -> None:
        self._unreceived += 1
        self._worker_waits = False
        self._send.send_nowait(message)

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Accept no more entries. The worker can still take those that were accepted."""
        self._closed = True
        self._close_burst()
        self._worker_waits = False  # closing wakes it
        self._send.close()
        self._capacity.close()

    def fail(self) -> None:
        """Wake the producers that wait. They raise the failure that the ledger has."""
        self._close_burst()
        self._capacity.close()

    # The worker's end

    @property
    def ended(self) -> bool:
        """Whether the channel is closed and all its messages were received."""
        return self._closed and not self._unreceived

    @property
    def exhausted(self) -> bool:
        """Whether the buffer has no room for one more entry."""
        return self._capacity.exhausted

    @property
    def oldest(self) -> float | None:
        """When the first received burst with entries left was opened; None if there is none."""
        return self.received[0].opened_at if self.received else None

    def receive_nowait(self) -> None:
        """Receive all bursts that were sent."""
        while self._unreceived:
            self._keep(self._receive.receive_nowait())

    async def wait(self, deadline: float, *, missing: int) -> None:
        """Wait until a message arrives, the channel is closed, or the deadline passes.

        Args:
            deadline: the time at which to return, in seconds of Trio's clock; `math.inf` for none.
            missing: the number of entries that the batch lacks. A burst with that many is closed.
        """
        self._burst_limit = missing
        self._ledger.burst.limit = 0  # it may be longer than the burst may become now
        # A cancel scope costs as much as the rest of a wait, so there is one only if needed.
        with nullcontext() if deadline == math.inf else trio.move_on_at(deadline):
            self._worker_waits = True
            try:
                self._keep(await self._receive.receive())
            except trio.EndOfChannel:
                pass  # now it has `ended`
            finally:
                self._worker_waits = False
                self._burst_limit = self._batch_size

    def _keep(self, message: Burst | _Wake) -> None:
        self._unreceived -= 1
        if isinstance(message, Burst):
            self.received.append(message)

    def take(self, limit: int, *, flush_due: bool) -> Taken | None:
        """Take entries of the first received burst.

        The burst to which producers append is left to them, so that the worker coalesces it in one
        call. It is closed and taken only if a flush is due or if it has `limit` entries.

        Args:
            limit: the largest number of entries to take.
            flush_due: whether to take entries of that burst, too.

        Returns:
            The entries; None if there are none to take.
        """
        if not self.received:
            return None
        burst = self.received[0]
        if burst is self._ledger.burst:
            if not flush_due and burst.left < limit:
                return None
            self._close_burst()
        taken = burst.take(limit)
        if not burst.left:
            self.received.popleft()
        return taken

    def release(self, size: int) -> None:
        """Release the room of entries that settled: wake tasks that wait for it, drop the entries.

        Args:
            size: the sum of `Taken.size`.
        """
        self._capacity.release(size=size)
        if self._pending is not None:
            self._pending.settle(self._ledger.settled)

    def close_receive(self) -> None:
        """Close the worker's end, after which no entry can be taken."""
        self._receive.close()
