"""The account of one buffer's entries: how many were accepted, and what became of them.

Entries are numbered from 1 in the order of acceptance. They settle in the same order, since a batch
holds all entries accepted before its last one. So an entry is settled if its number is not greater
than the count of settled entries. At every moment
accepted = committed + superseded + dead-lettered + pending.

Accepted entries are not counted one by one: their count is what earlier bursts had, and the length
of the burst to which producers append now.

The ledger also has the queue of tasks that wait for a flush. Each task waits until one entry, which
it knows by its number, is settled.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import trio

from forebay._buffer.burst import Burst
from forebay.stores import Rejection

_DURATIONS = 256
"""The number of flushes in the quantiles. A buffer that flushes every 0.2 s makes 256 in 51 s."""


class _Waiter:
    """A task that waits for a flush: the number of its entry, and the result once it is known."""

    __slots__ = ("error", "number", "rejection")

    def __init__(self, number: int) -> None:
        self.number = number
        self.rejection: Rejection | None = None
        self.error: BaseException | None = None


class Ledger:
    """The counts of one buffer's entries, and the tasks that wait for a flush.

    Any thread may read any count at any time.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.burst: Burst = Burst(0)
        """The burst that gets the next entry. It is sent to the worker with its first entry."""
        self.settled: int = 0
        self.superseded: int = 0
        self.dead_lettered: int = 0
        self.requested: int = 0
        """The highest number of an entry that a task waits for."""
        self.flushes: int = 0
        self.retries: int = 0
        self.durations: deque[float] = deque(maxlen=_DURATIONS)
        """The durations of the last flushes that committed, with all their attempts, in seconds."""
        self.last_error: str | None = None
        """Why the last attempt to flush failed; None unless the worker retries that flush."""
        self.suspended: bool = False
        """Whether the worker waits until somebody removes the cause of that failure."""
        self.oldest: float | None = None
        """When the oldest pending entry was accepted, in seconds of Trio's clock."""
        self.failure: BaseException | None = None
        """Why no further entry settles; None while the worker runs."""
        self.on_rejections: Callable[[Sequence[Rejection]], None] | None = None
        """Called when entries have settled as dead letters. It must not raise."""
        self._waiters: OrderedDict[trio.lowlevel.Task, _Waiter] = OrderedDict()
        """The tasks that wait for a flush, in ascending order of their entries' numbers."""

    @property
    def accepted(self) -> int:
        """How many entries were accepted."""
        burst = self.burst  # read once: another thread may ask while a new burst replaces it
        return burst.base + len(burst.entries)

    @property
    def committed(self) -> int:
        """How many entries had an operation of their own committed."""
        return self.settled - self.superseded - self.dead_lettered

    @property
    def pending(self) -> int:
        """How many accepted entries are not settled; never negative, in any thread."""
        settled = self.settled  # read first: entries may be accepted and settled meanwhile
        return self.accepted - settled

    def flush_quantile(self, share: float) -> float:
        """Return a quantile of the durations of the last flushes, in seconds.

        Args:
            share: the share of the flushes that took no longer than the result, such as 0.99.

        Returns:
            The duration; 0.0 before the first flush.
        """
        durations = sorted(self.durations)
        return durations[math.ceil(share * len(durations)) - 1] if durations else 0.0

    def request(self, number: int) -> bool:
        """Note that a task waits for the entry with this number.

        Returns:
            Whether the entry is pending, so that a flush is needed.
        """
        self.requested = max(self.requested, number)
        return number > self.settled

    @trio.lowlevel.enable_ki_protection
    def settle(
        self,
        entries: int,
        *,
        operations: int,
        rejections: Sequence[Rejection],
        oldest: float | None,
    ) -> None:
        """Count the entries of a batch as settled, and wake the tasks that wait for them.

        Args:
            entries: the number of entries in the batch, superseded ones included.
            operations: the number of operations committed for them.
            rejections: the entries that went to the dead letters.
            oldest: when the oldest entry that is still pending was accepted; None if there is
                none.
        """
        self.flushes += 1
        self.settled += entries
        self.superseded += entries - operations - len(rejections)
        self.dead_lettered += len(rejections)
        self.oldest = oldest
        if rejections and self.on_rejections is not None:
            self.on_rejections(rejections)
        if not self._waiters:
            return
        rejected = {rejection.number: rejection for rejection in rejections}
        while self._waiters:
            task, waiter = next(iter(self._waiters.items()))
            if waiter.number > self.settled:
                return
            waiter.rejection = rejected.get(waiter.number)
            del self._waiters[task]
            trio.lowlevel.reschedule(task)

    @trio.lowlevel.enable_ki_protection
    def fail(self, failure: BaseException) -> None:
        """Raise `broken()` in all tasks that wait for a flush, now or later."""
        self.failure = failure
        for task, waiter in self._waiters.items():
            waiter.error = self.broken()
            trio.lowlevel.reschedule(task)
        self._waiters.clear()

    def broken(self) -> trio.BrokenResourceError:
        """Return the error for callers of a buffer that failed, with the failure as its cause."""
        error = trio.BrokenResourceError(f"buffer {self.name!r} stopped: {self.failure}")
        error.__cause__ = self.failure
        return error

    @trio.lowlevel.enable_ki_protection
    async def wait_settled(self, number: int) -> Rejection | None:
        """Wait until all entries up to this number are settled.

        If this is cancelled, it only stops waiting: the entries stay accepted.

        Args:
            number: the number of the last entry to wait for. It was passed to `request` before.

        Returns:
            The rejection of that entry if the table refused it while this waited, else None.

        Raises:
            trio.BrokenResourceError: the buffer failed before.
        """
        if number <= self.settled:
            await trio.lowlevel.checkpoint()
            return None
        if self.failure is not None:
            await trio.lowlevel.checkpoint()
            raise self.broken()
        task = trio.lowlevel.current_task()
        waiter = _Waiter(number)
        last = next(reversed(self._waiters.values()), waiter)
        self._waiters[task] = waiter
        if number < last.number:  # rare: most tasks wait right after they got their number
            in_order = sorted(self._waiters.items(), key=lambda item: item[1].number)
            self._waiters = OrderedDict(in_order)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._waiters[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if waiter.error is not None:
            raise waiter.error
        return waiter.rejection
