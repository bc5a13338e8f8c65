"""The bound on what one buffer holds, and the queue of those who wait for room."""

from __future__ import annotations

import math
from collections import OrderedDict

import trio


class _Waiter:
    __slots__ = ("served", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.served = True


class Capacity:
    """Room for so many entries, and so many bytes of them, given out first come, first served.

    Room that comes free goes to the task that has waited longest before anyone else can take
    it, so no producer starves. It is the shape of `trio.CapacityLimiter`, for amounts.
    """

    def __init__(self, entries: int, size: int | None = None) -> None:
        self.limit = entries
        self.size_limit: float = math.inf if size is None else size
        self.measured: bool = size is not None
        """Whether sizes count, so that a caller need not measure where they do not."""
        self._entries = 0
        self._size = 0
        self._refused = False
        self._waiters: OrderedDict[trio.lowlevel.Task, _Waiter] = OrderedDict()

    @property
    def reached(self) -> bool:
        """Whether there is no room for one more entry, or was not enough for the last one."""
        return self._entries >= self.limit or self._size >= self.size_limit or self._refused

    @property
    def free(self) -> int:
        """How many entries could be taken now without waiting, were they without size."""
        return 0 if self._waiters else max(0, self.limit - self._entries)

    @property
    def waiting(self) -> int:
        """How many tasks wait for room."""
        return len(self._waiters)

    def _fits(self, entries: int, size: int) -> bool:
        # An entry larger than the whole bound is let in alone, or it would wait for ever.
        return self._entries + entries <= self.limit and (
            self._size + size <= self.size_limit or self._entries == 0
        )

    @trio.lowlevel.enable_ki_protection
    def take_nowait(self, entries: int = 1, size: int = 0) -> None:
        """Take room, in entries and bytes.

        Raises:
            trio.WouldBlock: there is not enough, or others wait for it already.
        """
        if self._waiters or not self._fits(entries, size):
            self._refused = True
            raise trio.WouldBlock
        self._entries += entries
        self._size += size

    @trio.lowlevel.enable_ki_protection
    async def take(self, size: int = 0) -> bool:
        """Wait for room for one entry of so many bytes, and take it.

        Cancelled, it has taken nothing.

        Returns:
            False where `turn_away` ended the wait: nothing is taken.
        """
        task = trio.lowlevel.current_task()
        waiter = self._waiters[task] = _Waiter(size)
        self._refused = True

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._waiters[task]
            self._hand_out()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        return waiter.served

    @trio.lowlevel.enable_ki_protection
    def give_back(self, entries: int, size: int = 0) -> None:
        """Give room back, to those who wait for it first."""
        self._entries -= entries
        self._size -= size
        self._hand_out()
        self._refused = bool(self._waiters)

    def _hand_out(self) -> None:
        while self._waiters:
            task, waiter = next(iter(self._waiters.items()))
            if not self._fits(1, waiter.size):
                return
            del self._waiters[task]
            self._entries += 1
            self._size += waiter.size
            trio.lowlevel.reschedule(task)

    @trio.lowlevel.enable_ki_protection
    def turn_away(self) -> None:
        """Wake all who wait, without room."""
        while self._waiters:
            task, waiter = self._waiters.popitem(last=False)
            waiter.served = False
            trio.lowlevel.reschedule(task)
