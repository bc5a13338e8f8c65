"""The way from the producers of a buffer to its worker: a Trio memory channel of bursts.

Producers send single entries. One message per entry would cost more than the write of that entry,
so a message is a burst: a list to which producers go on appending after they have sent it. A burst
is closed when it fills a batch, or when the worker takes its entries. The next entry then opens
another burst.

Entries are counted when they are accepted, not when they are received. So the number of messages in
the memory channel does not matter.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext, suppress

import trio

from forebay._buffer.burst import Burst, Taken
from forebay._buffer.capacity import Capacity
from forebay._buffer.ledger import Ledger
from forebay._buffer.observer import Capture
from forebay._owner import Owner
from forebay._table.operations import Entry, size_of


class _Wake(enum.Enum):
    """The message that only wakes the worker: something other than time made a flush due."""

    WAKE = enum.auto()


class Channel:
    """The channel of one buffer.

    Producers call `send_nowait`, `send`, `acquire`, `send_acquired` and `request_flush`. The
    worker calls `receive_nowait`, `wait`, `take` and `release`.

    The channel closes in two steps. After `close`, producers get `trio.ClosedResourceError`, and
    the worker can still take the entries that were accepted. After `close_receive`, the worker
    cannot take entries either.

    Capacity is acquired, the entry is appended, and it is counted, without a KeyboardInterrupt in
    between: otherwise an interrupt could leave capacity acquired forever, or an entry uncounted.

    Args:
        name: the table's name, for error messages.
        capacity: the limit on the entries that are accepted and not settled.
        batch_size: the number of entries in a full batch. A burst with that many is closed.
        ledger: counts the accepted entries.
        capture: called with the numbers of accepted entries, in the task that sent them.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: Capacity,
        batch_size: int,
        ledger: Ledger,
        capture: Capture | None = None,
    ) -> None:
        self._name = name
        self._capacity = capacity
        self._batch_size = batch_size
        self._ledger = ledger
        self._capture = capture
        self._owner = Owner(
            f"buffer {name!r}",
            calls="trio.from_thread.run_sync(buffer.enqueue_nowait, row, trio_token=token) or "
            "trio.from_thread.run(buffer.enqueue, row, trio_token=token)",
        )
        self._closed = False
        self._open: Burst | None = None
        """The burst to which producers append; None if the next entry opens one."""
        self._burst_limit = batch_size
        """The length at which the open burst fills a batch."""
        self._worker_waits = False
        """Whether the worker waits for a message. If so, it has received all earlier messages."""
        self._received: deque[Burst] = deque()
        """Received bursts with entries left. The worker may have taken a part of the first."""
        self._ended = False
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

    def check_thread(self) -> None:
        """Check that this is the thread that opened the buffer, before it uses Trio.

        Raises:
            RuntimeError: this is another thread.
        """
        self._owner.check_thread()

    @trio.lowlevel.enable_ki_protection
    def send_nowait(self, entry: Entry) -> int:
        """Accept an entry and return its number.

        Raises:
            trio.WouldBlock: there is no room. The worker then flushes.
            trio.BrokenResourceError: as for `check_open`.
            trio.ClosedResourceError: as for `check_open`.
            RuntimeError: as for `check_open`.
        """
        self.check_open()
        size = size_of(entry) if self._capacity.counts_bytes else 0
        try:
            self._capacity.acquire_nowait(1, size)
        except trio.WouldBlock:
            self._wake()
            raise
        return self._append((entry,), only_rows=isinstance(entry, tuple), size=size)

    @trio.lowlevel.enable_ki_protection
    async def send(self, entry: Entry) -> int:
        """Wait for room, accept an entry, and return its number.

        Each call is a cancellation point. A call is a schedule point only if it waits. If it is
        cancelled, the entry was not accepted.

        Raises:
            trio.BrokenResourceError: as for `check_open`.
            trio.ClosedResourceError: as for `check_open`.
            RuntimeError: as for `check_open`.
        """
        self._owner.check_thread()
        await trio.lowlevel.checkpoint_if_cancelled()
        with suppress(trio.WouldBlock):
            return self.send_nowait(entry)
        size = size_of(entry) if self._capacity.counts_bytes else 0
        await self._acquire_one(size)
        return self._append((entry,), only_rows=isinstance(entry, tuple), size=size)

    @trio.lowlevel.enable_ki_protection
    async def acquire(self, limit: int) -> int:
        """Acquire capacity for several entries of `send_acquired`; wait for room for the first.

        If this is cancelled, no capacity was acquired. It acquires no capacity for bytes, so a
        channel that counts bytes does not use it.

        Args:
            limit: the largest number of entries to acquire capacity for.

        Returns:
            The number of entries for which capacity was acquired: from 1 to `limit`.

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
        if more := min(self._capacity.room, limit - acquired):
            self._capacity.acquire_nowait(more)
        return acquired + more

    @trio.lowlevel.enable_ki_protection
    def send_acquired(self, entries: Sequence[Entry], acquired: int, *, only_rows: bool) -> None:
        """Accept entries for which capacity was acquired, and release the capacity left over.

        Args:
            entries: at most `acquired` entries.
            acquired: what `acquire` returned.
            only_rows: whether all entries are rows.
        """
        if entries:
            self._append(entries, only_rows=only_rows)
        self._capacity.release(acquired - len(entries))

    async def _acquire_one(self, size: int = 0) -> None:
        """Wait for room for one entry and acquire it, unless the buffer is closed or fails."""
        self._wake()
        await self._capacity.acquire(size)
        try:
            self.check_open()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            # If the whole program is cancelled, the buffer may close before this task notices.
            # The task then ends with Cancelled, not with an error about the buffer.
            await trio.lowlevel.checkpoint_if_cancelled()
            raise

    def _append(self, entries: Sequence[Entry], *, only_rows: bool, size: int = 0) -> int:
        """Append entries to the open burst and return the number of the last one."""
        burst = self._open
        if burst is None:
            burst = self._open = Burst(trio.current_time())
            self._send.send_nowait(burst)
            self._worker_waits = False
        burst.entries.extend(entries)
        burst.only_rows = burst.only_rows and only_rows
        burst.size += size
        last = self._ledger.accept(len(entries), burst.opened_at)
        if self._capture is not None:
            self._capture(last - len(entries) + 1, last)
        if len(burst.entries) >= self._burst_limit:
            self._open = None
            self._wake()
        elif self._capacity.exhausted:
            self._wake()
        return last

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
            self._wake()
        return number

    def _wake(self) -> None:
        """If the worker waits, make it check again whether a flush is due."""
        if self._worker_waits:
            self._worker_waits = False
            self._send.send_nowait(_Wake.WAKE)

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Accept no more entries. The worker can still take those that were accepted."""
        self._closed = True
        self._open = None
        self._send.close()
        self._capacity.close()

    def fail(self) -> None:
        """Wake the producers that wait. They raise the failure that the ledger has."""
        self._open = None
        self._capacity.close()

    # The worker's end

    @property
    def ended(self) -> bool:
        """Whether the channel is closed and all its bursts were received."""
        return self._ended

    @property
    def exhausted(self) -> bool:
        """Whether the buffer has no room for one more entry."""
        return self._capacity.exhausted

    @property
    def oldest(self) -> float | None:
        """When the first received burst with entries left was opened; None if there is none."""
        return self._received[0].opened_at if self._received else None

    def receive_nowait(self) -> None:
        """Receive all bursts that were sent."""
        try:
            while True:
                self._keep(self._receive.receive_nowait())
        except trio.WouldBlock:
            pass
        except trio.EndOfChannel:
            self._ended = True

    async def wait(self, deadline: float, *, missing: int) -> None:
        """Wait until a message arrives, the channel is closed, or the deadline passes.

        Args:
            deadline: the time at which to return, in seconds of Trio's clock; `math.inf` for none.
            missing: the number of entries that the batch lacks. An open burst with that many is
                closed.
        """
        self._burst_limit = missing
        # A cancel scope costs as much as the rest of a wait, so there is one only if needed.
        with nullcontext() if deadline == math.inf else trio.move_on_at(deadline):
            self._worker_waits = True
            try:
                self._keep(await self._receive.receive())
            except trio.EndOfChannel:
                self._ended = True
            finally:
                self._worker_waits = False
                self._burst_limit = self._batch_size

    def _keep(self, message: Burst | _Wake) -> None:
        if isinstance(message, Burst):
            self._received.append(message)

    def take(self, limit: int, *, flush_due: bool) -> Taken | None:
        """Take entries of the first received burst.

        The open burst is left to the producers, so that the worker coalesces it in one call. It is
        closed and taken only if a flush is due or if it has `limit` entries.

        Args:
            limit: the largest number of entries to take.
            flush_due: whether to take entries of the open burst, too.

        Returns:
            The entries; None if there are none to take.
        """
        if not self._received:
            return None
        burst = self._received[0]
        if burst is self._open:
            if not flush_due and burst.left < limit:
                return None
            self._open = None
        taken = burst.take(limit)
        if not burst.left:
            self._received.popleft()
        return taken

    def release(self, entries: int, size: int) -> None:
        """Release the capacity of entries that were settled.

        Args:
            entries: the number of entries.
            size: the sum of `Taken.size`.
        """
        self._capacity.release(entries, size)

    def close_receive(self) -> None:
        """Close the worker's end, after which no entry can be taken."""
        self._receive.close()
