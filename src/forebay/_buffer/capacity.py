"""The bound on what one buffer holds, and the queue of those who wait for room."""

from __future__ import annotations

import math
from collections import OrderedDict

import trio


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
        self._waiters: OrderedDict[trio.lowlevel.Task, int] = OrderedDict()
        """Those who wait, first come first, and the size that each needs."""

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
    async def take(self, size: int = 0) -> None:
        """Wait for room for one entry of so many bytes, and take it; or until `turn_away`.

        Cancelled, it has taken nothing.
        """
        task = trio.lowlevel.current_task()
        self._waiters[task] = size
        self._refused = True

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._waiters[task]
            self._hand_out()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    @trio.lowlevel.enable_ki_protection
    def give_back(self, entries: int, size: int = 0) -> None:
        """Give room back, to those who wait for it first."""
        self._entries -= entries
        self._size -= size
        self._hand_out()
        self._refused = bool(self._waiters)

    def _hand_out(self) -> None:
        while self._waiters:
            task, size = next(iter(self._waiters.items()))
            if not self._fits(1, size):
                return
            del self._waiters[task]
            self._entries += 1
            self._size += size
            trio.lowlevel.reschedule(task)

    @trio.lowlevel.enable_ki_protection
    def turn_away(self) -> None:
        """Wake all who wait, without room: nothing is accepted any more."""
        while self._waiters:
            task, _ = self._waiters.popitem(last=False)
            trio.lowlevel.reschedule(task)
