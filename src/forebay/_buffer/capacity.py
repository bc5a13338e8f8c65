"""The bound on the entries that one buffer holds, and the queue of tasks that wait for room."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

import trio

from forebay._buffer.ledger import Ledger

_ADMITTED_PER_TURN: Final = 100
"""The number of tasks that get room in one turn of the event loop. Their steps take about 1 ms.

If 10,000 tasks got room at once, that turn would take 100 ms, and all other tasks would be late.
"""


class Capacity:
    """A limit on pending entries, and optionally on their bytes, granted first come, first served.

    This is `trio.CapacityLimiter` for amounts. Room goes to the task that has waited longest
    before any other task can acquire it, so that no producer starves.

    The entries in use are the pending ones, which the ledger counts, and those for which room is
    reserved: a producer acquired it, and has not accepted its entries yet. So a settled entry frees
    its room at once; `release` gives the room to the tasks that wait.

    Args:
        limit: the number of entries.
        byte_limit: the number of bytes; None for no limit.
        ledger: counts the pending entries.
    """

    def __init__(self, limit: int, byte_limit: int | None = None, *, ledger: Ledger) -> None:
        self.limit = limit
        self.byte_limit: float = math.inf if byte_limit is None else byte_limit
        self.counts_bytes: bool = byte_limit is not None
        """Whether there is a byte limit. If not, callers need not measure their entries."""
        self._ledger = ledger
        self._reserved = 0
        self._bytes = 0
        self._refused = False
        """Whether a task was refused or waits since an entry last settled."""
        self._admitting = False
        """Whether more tasks are admitted in the next turn of the event loop."""
        self._waiters: OrderedDict[trio.lowlevel.Task, int] = OrderedDict()
        """The tasks that wait, longest wait first, and the bytes that each needs."""

    @property
    def _entries(self) -> int:
        return self._ledger.pending + self._reserved

    @property
    def exhausted(self) -> bool:
        """Whether there is no room for another entry, or was none for the last one tried.

        Entries whose room is reserved do not count: they come in this turn of the event loop or in
        the next one, and belong in the same batch. Bytes that are reserved do count.
        """
        if self._ledger.pending >= self.limit or self._bytes >= self.byte_limit:
            return True
        return self._refused and not self._admitting and not self._reserved

    @property
    def room(self) -> int:
        """How many entries of 0 bytes can be acquired now without waiting."""
        return 0 if self._waiters else max(0, self.limit - self._entries)

    @property
    def waiting(self) -> int:
        """How many tasks wait for room."""
        return len(self._waiters)

    def _has_room(self, entries: int, size: int) -> bool:
        # An entry that is larger than the byte limit is admitted if it is alone. It would wait
        # forever otherwise.
        return self._entries + entries <= self.limit and (
            self._bytes + size <= self.byte_limit or self._entries == 0
        )

    @trio.lowlevel.enable_ki_protection
    def acquire_nowait(self, entries: int = 1, size: int = 0) -> None:
        """Reserve room without waiting.

        Args:
            entries: the number of entries.
            size: their size in bytes.

        Raises:
            trio.WouldBlock: there is not enough room, or other tasks wait for it.
        """
        if self._waiters or not self._has_room(entries, size):
            self._refused = True
            raise trio.WouldBlock
        self._reserved += entries
        self._bytes += size

    @trio.lowlevel.enable_ki_protection
    async def acquire(self, size: int = 0) -> None:
        """Wait for room for one entry and reserve it, or return without it after `close`.

        If this is cancelled, nothing was reserved.

        Args:
            size: the entry's size in bytes.
        """
        task = trio.lowlevel.current_task()
        self._waiters[task] = size
        self._refused = True

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._waiters[task]
            if not self._admitting:
                self._admit_waiters()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def use(self, entries: int) -> None:
        """Note that entries for which room is reserved were accepted: now they are pending.

        Args:
            entries: the number of entries.
        """
        self._reserved -= entries

    @trio.lowlevel.enable_ki_protection
    def release(self, entries: int = 0, size: int = 0) -> None:
        """Release room, first to the tasks that wait. Call it after entries settled, too.

        Args:
            entries: the number of entries whose reserved room is not needed.
            size: the bytes of the entries that settled.
        """
        self._reserved -= entries
        self._bytes -= size
        if not self._admitting:
            self._admit_turn()

    def _admit_turn(self) -> None:
        """Admit the tasks of one turn, and note whether any still wait."""
        self._admitting = False
        self._admit_waiters()
        self._refused = bool(self._waiters)

    def _admit_waiters(self) -> None:
        """Reserve room for the tasks that have waited longest, and wake them.

        If they are many, the others get room in the next turns of the event loop. With a byte limit
        all get it at once. Otherwise the next task could be cancelled before its turn, the entry of
        the one behind it might not fit, and nothing would make a flush due.
        """
        limit = math.inf if self.counts_bytes else _ADMITTED_PER_TURN
        admitted = 0
        while self._waiters:
            task, size = next(iter(self._waiters.items()))
            if not self._has_room(1, size):
                return
            if admitted == limit:
                self._admitting = True
                token = trio.lowlevel.current_trio_token()
                token.run_sync_soon(self._admit_turn, idempotent=True)
                return
            del self._waiters[task]
            self._reserved += 1
            self._bytes += size
            trio.lowlevel.reschedule(task)
            admitted += 1

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Wake all tasks that wait, without room: no more entries are accepted."""
        while self._waiters:
            task, _ = self._waiters.popitem(last=False)
            trio.lowlevel.reschedule(task)
