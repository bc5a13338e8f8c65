"""When a call that enqueues lets other tasks run, and when it notices a cancellation."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock

from forebay import Buffer, BufferOptions, Table, Write, open_buffers
from forebay.stores import Attempt, Batch, Outcome
from forebay.testing import MemoryStore


class Note(NamedTuple):
    name: str
    text: str = ""


NOTES = Table(Note, name="notes", key="name", delete_by="text")
OPTIONS = BufferOptions(flush_interval=math.inf)

Enqueue = Callable[[Buffer[Note]], Awaitable[object]]

CALLS: dict[str, Enqueue] = {
    "enqueue": lambda buffer: buffer.enqueue(Note("a")),
    "enqueue_update": lambda buffer: buffer.enqueue_update("a", text="b"),
    "enqueue_delete": lambda buffer: buffer.enqueue_delete("a"),
    "enqueue_delete_by": lambda buffer: buffer.enqueue_delete_by("b"),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


class Steps(trio.abc.Instrument):
    """Counts the steps of each task: between two of them, other tasks may run."""

    def __init__(self) -> None:
        self.of = Counter[trio.lowlevel.Task]()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.of[task] += 1

    @property
    def mine(self) -> int:
        """The steps of the current task."""
        return self.of[trio.lowlevel.current_task()]


@contextmanager
def counted_steps() -> Iterator[Steps]:
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        yield steps
    finally:
        trio.lowlevel.remove_instrument(steps)


@each_call
async def test_one_call_in_64_lets_other_tasks_run(
    autojump_clock: MockClock, call: Enqueue
) -> None:
    """The first call of a buffer does, and then each 64th."""
    async with open_buffers(MemoryStore(), NOTES, options=OPTIONS) as buffers:
        with counted_steps() as steps:
            seen = []
            for _ in range(200):
                before = steps.mine
                await call(buffers[NOTES])
                seen.append(steps.mine - before)
    assert [0, 64, 128, 192] == [i for i, count in enumerate(seen) if count]


@each_call
async def test_a_call_after_a_millisecond_lets_other_tasks_run(
    mock_clock: MockClock, call: Enqueue
) -> None:
    """A producer that works for a millisecond per row does not keep other tasks from running."""
    async with open_buffers(MemoryStore(), NOTES, options=OPTIONS) as buffers:
        await call(buffers[NOTES])
        with counted_steps() as steps:
            seen = []
            for worked in (0.0, 0.0005, 0.0005, 0.0, 0.002, 0.0009):
                mock_clock.jump(worked)
                before = steps.mine
                await call(buffers[NOTES])
                seen.append(steps.mine - before)
    assert [0, 0, 1, 0, 1, 0] == seen


@each_call
async def test_a_real_millisecond_counts(call: Enqueue) -> None:
    """Without a `MockClock`, real time counts."""
    async with open_buffers(MemoryStore(), NOTES, options=OPTIONS) as buffers:
        with counted_steps() as steps:
            for _ in range(10):
                await call(buffers[NOTES])
                works_until = time.perf_counter() + 0.001
                while time.perf_counter() <= works_until:
                    pass
                before = steps.mine
                await call(buffers[NOTES])
                assert steps.mine > before


async def test_the_time_of_other_tasks_does_not_count(mock_clock: MockClock) -> None:
    """Otherwise each call would be a schedule point while other tasks are slow."""
    async with (
        open_buffers(MemoryStore(), NOTES, options=OPTIONS) as buffers,
        trio.open_nursery() as nursery,
    ):

        async def slow() -> None:
            while True:
                mock_clock.jump(0.5)
                await trio.lowlevel.checkpoint()

        nursery.start_soon(slow)
        with counted_steps() as steps:
            await trio.lowlevel.checkpoint()
            before = steps.mine
            for _ in range(640):
                await buffers[NOTES].enqueue(Note("a"))
            assert 10 == steps.mine - before
        nursery.cancel_scope.cancel()


async def test_a_call_that_waits_lets_other_tasks_run(autojump_clock: MockClock) -> None:
    """A call that waits for room does, whenever the last one did."""
    async with open_buffers(
        MemoryStore(), NOTES, options=OPTIONS.override({"capacity": 2})
    ) as buffers:
        with counted_steps() as steps:
            seen = []
            for _ in range(6):
                before = steps.mine
                await buffers[NOTES].enqueue(Note("a"))
                seen.append(steps.mine > before)
    assert [True, False, True, False, True, False] == seen


@each_call
async def test_a_cancelled_task_enqueues_nothing(autojump_clock: MockClock, call: Enqueue) -> None:
    """Each call is a cancellation point: the first one raises at once and accepts nothing."""
    async with open_buffers(MemoryStore(), NOTES, options=OPTIONS) as buffers:
        buffer = buffers[NOTES]
        for calls in range(70):
            with trio.CancelScope() as scope:
                for _ in range(calls):
                    await call(buffer)
                scope.cancel()
                before = buffer.statistics().accepted
                await call(buffer)
            assert scope.cancelled_caught
            assert before == buffer.statistics().accepted


async def test_a_deadline_is_noticed_at_the_next_schedule_point(mock_clock: MockClock) -> None:
    """Trio looks at deadlines when it schedules tasks: at the 64th call, or after 1 ms."""
    async with open_buffers(MemoryStore(), NOTES, options=OPTIONS) as buffers:
        buffer = buffers[NOTES]
        accepted = []
        for late in (0.0002, 0.002):
            await buffer.enqueue(Note("a"))
            await trio.lowlevel.checkpoint()
            before = buffer.statistics().accepted
            with trio.move_on_after(0.0001) as scope:
                await buffer.enqueue(Note("b"))
                mock_clock.jump(late)
                while True:
                    await buffer.enqueue(Note("b"))
            assert scope.cancelled_caught
            accepted.append(buffer.statistics().accepted - before)
    assert 10 < accepted[0] < 64
    assert 1 == accepted[1]


class InstantStore(MemoryStore):
    """A store that commits without letting other tasks run."""

    def begin(self, batch: Batch) -> Attempt:
        return _InstantAttempt(len(batch))


class _InstantAttempt:
    def __init__(self, rows: int) -> None:
        self._outcome = Outcome({"write": rows})

    async def commit(self, *, rejection_limit: float) -> Outcome:
        return self._outcome


async def test_other_tasks_run_between_flushes(autojump_clock: MockClock) -> None:
    """Also if each flush is due when the last one ends, and the store lets no other task run."""
    options = BufferOptions(batch_size=10, capacity=10_000, flush_interval=math.inf)
    async with open_buffers(InstantStore(), NOTES, options=options) as buffers:
        buffer = buffers[NOTES]
        await buffer.enqueue_many(Note(str(number)) for number in range(1_000))
        flushes = []
        while buffer.statistics().pending >= 10:
            flushes.append(buffer.statistics().flushes)
            await trio.lowlevel.checkpoint()
        assert len(flushes) > 50
        assert max(after - before for before, after in pairwise(flushes)) <= 2


async def produce(buffer: Buffer[Note], number: int, accepted: Counter[int]) -> None:
    """Do nothing but enqueue, and count the rows under the number of the producer."""
    while True:
        await buffer.enqueue(Note(f"{number} {accepted[number]}"))
        accepted[number] += 1


@pytest.mark.parametrize(("tasks", "calls"), [(25, 64), (100, 16), (200, 8), (4_000, 4)])
async def test_producers_take_turns(autojump_clock: MockClock, tasks: int, calls: int) -> None:
    """Tasks that do nothing but enqueue all make the same progress; many make shorter steps."""
    accepted = Counter[int]()
    async with (
        open_buffers(MemoryStore(), NOTES, options=BufferOptions(capacity=10**6)) as buffers,
        trio.open_nursery() as nursery,
    ):
        for number in range(tasks):
            nursery.start_soon(produce, buffers[NOTES], number, accepted)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        before = [accepted[number] for number in range(tasks)]
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        # This task looks before or after the step of another one.
        steps = {9 * calls, 10 * calls, 11 * calls}
        assert {accepted[i] - count for i, count in enumerate(before)} <= steps
        nursery.cancel_scope.cancel()


async def test_producers_take_turns_when_the_buffer_is_full(autojump_clock: MockClock) -> None:
    """They wait for room, first come, first served."""
    accepted = Counter[int]()
    async with (
        open_buffers(MemoryStore(delay=1), NOTES, options=BufferOptions(capacity=150)) as buffers,
        trio.open_nursery() as nursery,
    ):
        for number in range(100):
            nursery.start_soon(produce, buffers[NOTES], number, accepted)
        await trio.sleep(20.5)
        assert 100 == len(accepted)
        assert min(accepted.values()) >= 20
        nursery.cancel_scope.cancel()


async def test_no_time_passes_while_a_task_enqueues(autojump_clock: MockClock) -> None:
    """`autojump_clock` jumps when all tasks wait. A task that enqueues with room never waits."""
    store = MemoryStore()
    woke = []

    async def sleeper() -> None:
        await trio.sleep(1)
        woke.append(trio.current_time())

    async with open_buffers(store, NOTES) as buffers, trio.open_nursery() as nursery:
        nursery.start_soon(sleeper)
        for i in range(1_000):
            await buffers[NOTES].enqueue(Note(str(i)))
        assert 0.0 == trio.current_time()
        assert [] == woke
        await trio.sleep(0.5)
        assert 1_000 == buffers[NOTES].statistics().committed
    assert [1.0] == woke


async def test_the_worker_commits_while_a_task_only_enqueues() -> None:
    """A task that never waits does not keep the buffer from flushing."""
    store = MemoryStore()
    async with open_buffers(store, NOTES, options=BufferOptions(batch_size=100)) as buffers:
        with trio.fail_after(20):
            for number in itertools.count():
                await buffers[NOTES].enqueue(Note(str(number)))
                if buffers[NOTES].statistics().committed >= 1_000:
                    break


MANY: dict[str, Enqueue] = {
    "enqueue_many": lambda buffer: buffer.enqueue_many([Note("a")]),
    "enqueue_many of nothing": lambda buffer: buffer.enqueue_many([]),
    "enqueue_many from an iterator": lambda buffer: buffer.enqueue_many(iter([Note("a")])),
    "enqueue_again": lambda buffer: buffer.enqueue_again([Write(("a", ""))]),
    "enqueue_again of nothing": lambda buffer: buffer.enqueue_again([]),
}


@pytest.mark.parametrize("call", MANY.values(), ids=MANY.keys())
@pytest.mark.parametrize("capacity_bytes", [None, 10**6])
async def test_each_call_for_many_lets_other_tasks_run(
    autojump_clock: MockClock, call: Enqueue, capacity_bytes: int | None
) -> None:
    """At its end, however few entries it accepted."""
    options = BufferOptions(flush_interval=math.inf, capacity_bytes=capacity_bytes)
    async with open_buffers(MemoryStore(), NOTES, options=options) as buffers:
        await buffers[NOTES].enqueue(Note("a"))  # the next 63 calls need not let others run
        with counted_steps() as steps:
            before = steps.mine
            await call(buffers[NOTES])
            assert steps.mine > before
