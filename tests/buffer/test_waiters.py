"""Tasks that wait for a flush: in the order of their entries, and at checkpoints."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import BufferOptions, DrainError, FlushError, RetryPolicy, Table, open_buffers
from forebay.stores import Batch, FailureKind, Outcome
from forebay.testing import MemoryStore
from tests.wrapped_attempts import Commit, WrappedMemoryStore


class Letter(NamedTuple):
    name: str


LETTERS = Table(Letter, name="letters")
OTHERS = Table(Letter, name="others")


class Gated(WrappedMemoryStore):
    """A store each of whose commits waits until the test lets it through, by table."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = {table.name: trio.open_memory_channel[None](10) for table in (LETTERS, OTHERS)}

    async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
        await self.gates[batch.table.name][1].receive()
        return await commit()

    def let_through(self, table: Table[Letter]) -> None:
        self.gates[table.name][0].send_nowait(None)


async def test_a_flush_requested_as_the_buffer_closes(autojump_clock: MockClock) -> None:
    """The drain is that flush."""
    options = BufferOptions(flush_interval=math.inf)
    for _ in range(20):  # tasks of one turn of the loop run in a random order
        async with trio.open_nursery() as nursery:
            async with open_buffers(MemoryStore(), LETTERS, options=options) as buffers:
                buffers[LETTERS].enqueue_nowait(Letter("a"))
                await wait_all_tasks_blocked()
                nursery.start_soon(buffers[LETTERS].flush)
            assert 1 == buffers[LETTERS].statistics().committed


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_task_is_woken_by_its_own_flush_although_it_waits_later(
    autojump_clock: MockClock, *, cancelled: bool
) -> None:
    """`Buffers.flush` waits for one buffer after another, and a `write` may come in between.

    Here it begins to wait for the second entry of a buffer after others wait for the first and for
    the third one. Each is woken in turn, also if the last one stops waiting.
    """
    store = Gated()
    ended: list[str] = []

    async def run(
        name: str, call: Callable[[], Awaitable[object]], scope: trio.CancelScope
    ) -> None:
        with scope:
            await call()
            ended.append(name)

    async def ended_after(table: Table[Letter]) -> list[str]:
        store.let_through(table)
        await wait_all_tasks_blocked()
        return list(ended)

    options = BufferOptions(batch_size=1)
    async with (
        open_buffers(store, LETTERS, OTHERS, options=options) as buffers,
        trio.open_nursery() as nursery,
    ):
        third = trio.CancelScope()

        async def start(name: str, call: Callable[[], Awaitable[object]]) -> None:
            nursery.start_soon(run, name, call, third if name == "third" else trio.CancelScope())
            await wait_all_tasks_blocked()

        await start("first", lambda: buffers[OTHERS].write(Letter("a")))
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        buffers[OTHERS].enqueue_nowait(Letter("b"))
        await start("flush", buffers.flush)
        await start("third", lambda: buffers[OTHERS].write(Letter("c")))
        assert [] == await ended_after(LETTERS)  # from now on `flush` waits for the second entry
        if cancelled:
            third.cancel()
            await wait_all_tasks_blocked()
        assert ["first"] == await ended_after(OTHERS)
        assert ["first", "flush"] == await ended_after(OTHERS)
        expected = ["first", "flush"] if cancelled else ["first", "flush", "third"]
        assert expected == await ended_after(OTHERS)


async def test_a_flush_is_a_checkpoint_if_nothing_is_pending(autojump_clock: MockClock) -> None:
    """For one buffer and for all."""
    async with open_buffers(MemoryStore(), LETTERS) as buffers:
        with trio.testing.assert_checkpoints():
            await buffers[LETTERS].flush()
        with trio.testing.assert_checkpoints():
            await buffers.flush()


async def test_a_flush_of_a_failed_buffer_is_a_checkpoint(autojump_clock: MockClock) -> None:
    """It raises after a checkpoint if entries are pending."""
    store = MemoryStore()
    store.fail_next(FailureKind.FATAL)
    with pytest.raises(FlushError):
        async with open_buffers(store, LETTERS) as buffers:
            with pytest.raises(trio.BrokenResourceError):
                await buffers[LETTERS].write(Letter("a"))
    with trio.testing.assert_checkpoints(), pytest.raises(trio.BrokenResourceError):
        await buffers[LETTERS].flush()
    with trio.testing.assert_checkpoints(), pytest.raises(trio.BrokenResourceError):
        await buffers.flush()


@pytest.mark.parametrize("flush", ["buffer", "buffers"])
async def test_a_flush_in_a_cancelled_scope_requests_nothing(
    autojump_clock: MockClock, flush: str
) -> None:
    """The entries wait for their interval."""
    store = MemoryStore()
    async with open_buffers(store, LETTERS, options=BufferOptions(flush_interval=60)) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        with trio.CancelScope() as scope:
            scope.cancel()
            await (buffers[LETTERS] if flush == "buffer" else buffers).flush()
        assert scope.cancelled_caught
        await trio.sleep(1)
        assert [] == store.batches


async def test_the_error_of_a_retry_is_forgotten_once_it_succeeds(
    autojump_clock: MockClock,
) -> None:
    """A later drain that is late has no last error, and names only what is not settled."""
    store = MemoryStore()
    store.fail_next(FailureKind.TRANSIENT)
    options = BufferOptions(drain_timeout=1, retry=RetryPolicy(jitter=0))
    with pytest.raises(DrainError) as caught:
        async with open_buffers(store, LETTERS, options=options) as buffers:
            await buffers[LETTERS].write(Letter("a"))
            assert None is buffers[LETTERS].statistics().last_error
            store.stop()
            buffers[LETTERS].enqueue_nowait(Letter("b"))
    left = caught.value.unsettled["letters"]
    assert (None, 1) == (left.last_error, left.count)
    now = buffers[LETTERS].statistics()
    assert (2, 1, 1) == (now.accepted, now.committed, now.pending)


async def test_dead_letters_of_several_flushes_add_up_to_the_limit(
    autojump_clock: MockClock,
) -> None:
    """Within a minute. Those that are older do not count."""
    store = MemoryStore()
    store.refuse(lambda _: True)
    options = BufferOptions(dead_letters_per_minute=3)

    async def refuse(number: int) -> None:
        for _ in range(number):
            buffers[LETTERS].enqueue_nowait(Letter("bad"))
        await buffers[LETTERS].flush()

    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, LETTERS, options=options) as buffers:
            await refuse(2)
            await trio.sleep(30)
            await refuse(1)
            await trio.sleep(30)
            await refuse(2)
            await trio.sleep(29)
            await refuse(1)
    assert 89.0 == trio.current_time()
    assert 1 == caught.value.unsettled.count
    assert 5 == buffers[LETTERS].statistics().dead_lettered
