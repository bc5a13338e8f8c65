"""The account of one buffer: what was accepted, what became of it, and who waits to hear.

Entries are numbered from 1 in the order of acceptance, and settle in that order: a batch holds
all that was accepted before its last entry. So one number, the watermark, tells which entries
are settled, and accepted = committed + superseded + dead-lettered + pending at every moment.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence

import trio

from forebay.stores import Rejection

_DURATIONS = 256
"""So many flushes tell the quantiles: the last minute of a buffer that flushes each 0.2 s."""


class _Waiter:
    __slots__ = ("error", "number", "rejection")

    def __init__(self, number: int) -> None:
        self.number = number
        self.rejection: Rejection | None = None
        self.error: BaseException | None = None


class Ledger:
    """Counts of entries, each an int that any thread may read at any time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.accepted: int = 0
        self.settled: int = 0
        self.superseded: int = 0
        self.dead_lettered: int = 0
        self.requested: int = 0
        """The highest number that somebody waits for."""
        self.flushes: int = 0
        self.retries: int = 0
        self.durations: deque[float] = deque(maxlen=_DURATIONS)
        """How long the last flushes took that committed, all their attempts, in seconds."""
        self.last_error: str | None = None
        """Why the last attempt to flush failed, while that flush is made again."""
        self.oldest: float | None = None
        """When the oldest pending entry was accepted, in seconds of Trio's clock."""
        self.failure: BaseException | None = None
        """Why nothing more will settle."""
        self._waiters: OrderedDict[trio.lowlevel.Task, _Waiter] = OrderedDict()
        """By number, in ascending order."""

    @property
    def committed(self) -> int:
        """How many entries the table holds the effect of, each by an operation of its own."""
        return self.settled - self.superseded - self.dead_lettered

    @property
    def pending(self) -> int:
        """How many accepted entries are not settled."""
        return self.accepted - self.settled

    def flush_quantile(self, share: float) -> float:
        """Tell how long this share of the last flushes took at the most; 0.0 before the first."""
        durations = sorted(self.durations)
        return durations[math.ceil(share * len(durations)) - 1] if durations else 0.0

    def accept(self, entries: int, opened_at: float) -> None:
        """Count entries that were accepted, in a burst that was opened at this time."""
        self.accepted += entries
        if self.oldest is None:
            self.oldest = opened_at

    def request(self, number: int) -> bool:
        """Note that somebody waits for this entry; tell whether a flush is needed for it."""
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
        """Count the entries of a batch as settled, and wake who waits for them.

        Args:
            entries: how many the batch stood for.
            operations: how many operations the table took for them.
            rejections: those that went to the dead letters.
            oldest: when the oldest entry was accepted that is pending still.
        """
        self.flushes += 1
        self.last_error = None
        self.settled += entries
        self.superseded += entries - operations - len(rejections)
        self.dead_lettered += len(rejections)
        self.oldest = oldest
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
        """Tell all who wait, now or later, that nothing more will settle."""
        self.failure = failure
        for task, waiter in self._waiters.items():
            waiter.error = self.broken()
            trio.lowlevel.reschedule(task)
        self._waiters.clear()

    def broken(self) -> trio.BrokenResourceError:
        """Give the error for a caller of a buffer that failed, with its cause."""
        error = trio.BrokenResourceError(f"buffer {self.name!r} stopped: {self.failure}")
        error.__cause__ = self.failure
        return error

    @trio.lowlevel.enable_ki_protection
    async def wait_settled(self, number: int) -> Rejection | None:
        """Wait until the entries up to this number are settled.

        Cancelled, it only stops waiting: what was accepted stays accepted.

        Args:
            number: the number of the last entry to wait for, which was requested.

        Returns:
            The rejection of that entry, if the table refused it.

        Raises:
            trio.BrokenResourceError: the buffer failed first.
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
        if number < last.number:  # rare: a number is mostly waited for as soon as it is given out
            in_order = sorted(self._waiters.items(), key=lambda item: item[1].number)
            self._waiters = OrderedDict(in_order)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._waiters[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if waiter.error is not None:
            raise waiter.error
        return waiter.rejection
