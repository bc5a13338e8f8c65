"""The way into a buffer: a Trio memory channel that carries bursts of entries.

A channel that carried one entry a message would cost more than the write it carries. So a
message is a burst: a list that producers go on appending to while it lies in the channel, or in
the hands of a worker that waits for its timer. The burst is closed when it makes a batch full, or
when the worker takes its entries; the next entry opens another, which has a time of its own.
Entries are counted where they are accepted, one by one; the channel's own length means nothing
here.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence

import trio

from forebay._buffer.capacity import Capacity
from forebay._buffer.ledger import Ledger
from forebay._buffer.observer import Capture
from forebay._table.operations import Entry


class Burst:
    """Entries in the order of acceptance, all accepted at or after one time."""

    __slots__ = ("entries", "only_rows", "opened_at", "size", "taken")

    def __init__(self, opened_at: float) -> None:
        self.entries: list[Entry] = []
        self.only_rows: bool = True
        self.opened_at: float = opened_at
        self.size: int = 0
        self.taken: int = 0
        """How many entries, from the start, went into a batch."""

    def take(self, most: int) -> Sequence[Entry]:
        """Take the next entries, so many at the most."""
        start, self.taken = self.taken, min(self.taken + most, len(self.entries))
        if start == 0 and self.taken == len(self.entries):
            return self.entries
        return self.entries[start : self.taken]

    def __len__(self) -> int:
        return len(self.entries) - self.taken


class Wake(enum.Enum):
    """The message that only wakes the worker: something other than time made a flush due."""

    WAKE = enum.auto()


class Intake:
    """The sending side of one buffer's channel, and what the worker may know of it."""

    def __init__(self, name: str, *, capacity: Capacity, ledger: Ledger) -> None:
        self.name = name
        self.capacity = capacity
        self.ledger = ledger
        self.clock: trio.abc.Clock = trio.lowlevel.current_clock()
        self.closed: bool = False
        self.capture: Capture | None = None
        """Told the numbers of the entries accepted, by the task that brought them."""
        self._pid = os.getpid()
        self.burst_limit: int = capacity.limit
        """The length at which a burst makes a batch full; the worker sets it."""
        self.worker_waits: bool = False
        """Whether the worker waits for a message; it then has taken all that were sent."""
        self._open: Burst | None = None
        # Each burst holds an entry or more, and beside them at most one wake and one more
        # burst are under way, so `send_nowait` never finds the channel full.
        self.receive: trio.MemoryReceiveChannel[Burst | Wake]
        self._send, self.receive = trio.open_memory_channel[Burst | Wake](capacity.limit + 2)

    @trio.lowlevel.enable_ki_protection
    def accept(self, entries: Sequence[Entry], *, only_rows: bool, size: int = 0) -> None:
        """Put entries, for which room was taken, into the open burst."""
        burst = self._open
        if burst is None:
            burst = self._open = Burst(trio.current_time())
            self._send.send_nowait(burst)
            self.worker_waits = False
        burst.entries.extend(entries)
        burst.only_rows = burst.only_rows and only_rows
        burst.size += size
        self.ledger.accept(len(entries), burst.opened_at)
        if self.capture is not None:
            self.capture(self.ledger.accepted - len(entries) + 1, self.ledger.accepted)
        if len(burst.entries) >= self.burst_limit:
            self.close_burst()
            self.wake()
        elif self.capacity.reached:
            self.wake()

    @trio.lowlevel.enable_ki_protection
    def wake(self) -> None:
        """Have the worker look again, where it would wait for the timer otherwise."""
        if self.worker_waits:
            self.worker_waits = False
            self._send.send_nowait(Wake.WAKE)

    def is_open(self, burst: Burst) -> bool:
        """Whether producers still append to a burst."""
        return burst is self._open

    def close_burst(self) -> None:
        """Have producers append to this burst no more: the next entry opens another."""
        self._open = None

    def check_open(self) -> None:
        """Refuse an entry when none is accepted any more.

        Raises:
            trio.BrokenResourceError: the worker failed.
            trio.ClosedResourceError: the buffer was closed.
            RuntimeError: this is a forked child of the process that opened the buffer.
        """
        self.check_process()
        if self.ledger.failure is not None:
            raise self.ledger.broken()
        if self.closed:
            raise trio.ClosedResourceError(f"buffer {self.name!r} is closed")

    def check_process(self) -> None:
        """Refuse to go on in a fork.

        Raises:
            RuntimeError: this is a forked child of the process that opened the buffer.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"buffer {self.name!r} belongs to process {self._pid}, and this is a fork of it: "
                f"open buffers after the fork"
            )

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Accept nothing more. What was accepted stays in the channel, for the worker."""
        self.closed = True
        self._open = None
        self._send.close()
        self.capacity.turn_away()

    def fail(self) -> None:
        """Turn away who waits for room: the ledger knows why."""
        self._open = None
        self.capacity.turn_away()
