"""Leaving `open_buffers`: the drain, its deadline, and who waits meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock

from forebay import (
    Buffer,
    BufferOptions,
    Buffers,
    DrainError,
    FlushError,
    OptionsError,
    RetryPolicy,
    Table,
    Write,
    open_buffers,
    run_buffers,
)
from forebay.stores import Batch, FailureKind, Outcome
from forebay.testing import MemoryStore
from tests.wrapped_attempts import Commit, WrappedMemoryStore


class Letter(NamedTuple):
    name: str


class Note(NamedTuple):
    name: str
    text: str


LETTERS = Table(Letter, name="letters", key="name")
NOTES = Table(Note, name="notes", key="name", delete_by="text")
OTHERS = Table(Letter, name="others")


# What leaves the block


async def test_leaving_the_block_commits_all_that_was_accepted(autojump_clock: MockClock) -> None:
    """However many batches it takes, all is in the store when the block ends."""
    store = MemoryStore(delay=0.125)
    async with open_buffers(store, OTHERS, options=BufferOptions(batch_size=10)) as buffers:
        await buffers[OTHERS].enqueue_many(Letter(str(i)) for i in range(95))
    assert [(str(i),) for i in range(95)] == store.rows(OTHERS)
    assert 10 == len(store.batches)
    assert 1.25 == trio.current_time()


async def test_an_empty_drain_asks_the_store_for_nothing(autojump_clock: MockClock) -> None:
    """A block in which nothing was accepted ends at once, whatever the store does."""
    store = MemoryStore()
    store.stop()
    async with open_buffers(store, LETTERS, OTHERS):
        pass
    assert (0.0, 0) == (trio.current_time(), store.attempts)


async def test_an_exception_of_the_body_leaves_as_it_is(autojump_clock: MockClock) -> None:
    """The body's own exception is neither wrapped nor replaced, and the rows are committed."""
    store, error = MemoryStore(), ValueError("the body's")
    with pytest.raises(ValueError, match="the body's") as caught:
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            raise error
    assert caught.value is error
    assert [("a",)] == store.rows(LETTERS)


async def test_a_group_of_the_body_leaves_as_it_is(autojump_clock: MockClock) -> None:
    """A group from a nursery of the body is not touched."""
    group = ExceptionGroup("the body's", [ValueError("one"), trio.BrokenResourceError("two")])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_buffers(MemoryStore(), LETTERS):
            raise group
    assert caught.value is group


async def test_cancellation_does_not_cut_the_drain_short(autojump_clock: MockClock) -> None:
    """A cancelled body ends at once; what was accepted is committed all the same."""
    store = MemoryStore(delay=1)
    with trio.move_on_after(0.0625) as scope:
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert 1.0625 == trio.current_time()
    assert [("a",)] == store.rows(LETTERS)


async def test_a_normal_exit_in_a_cancelled_scope_drains(autojump_clock: MockClock) -> None:
    """Cancellation that comes during the drain does not cut it short either."""
    store = MemoryStore(delay=1)
    with trio.move_on_after(0.5) as scope:
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
    assert not scope.cancelled_caught
    assert [("a",)] == store.rows(LETTERS)


# The deadline


async def test_the_deadline_names_what_is_not_settled(autojump_clock: MockClock) -> None:
    """`DrainError` has the counts, the entries and the age of the oldest, for each late table."""
    store = MemoryStore()
    options = BufferOptions(flush_interval=60, drain_timeout=5)
    with pytest.raises(DrainError) as caught:
        async with open_buffers(store, LETTERS, OTHERS, options=options) as buffers:
            await buffers[OTHERS].write(Letter("in time"))
            for name in "abcab":
                buffers[LETTERS].enqueue_nowait(Letter(name))
            await trio.sleep(2.5)
            store.stop()
    assert 7.5 == trio.current_time()
    assert (
        "the drain did not finish before its deadline. Not in the database:\n"
        "- 'letters': 5 accepted entries, the oldest pending for 7.5 s\n"
        "They are kept in this error's `unsettled`. Find out what blocks the database, or raise "
        "BufferOptions.drain_timeout, then enqueue them again; `open_buffers(..., spill=FILE)` "
        "would keep them in a file."
    ) == str(caught.value)
    assert ["letters"] == list(caught.value.unsettled)
    left = caught.value.unsettled["letters"]
    assert (5, 7.5, None) == (left.count, left.oldest_age, left.last_error)
    assert tuple(Write((name,)) for name in "abc") == left.entries
    assert [("in time",)] == store.rows(OTHERS)


async def test_the_deadline_tells_the_last_error(autojump_clock: MockClock) -> None:
    """Where attempts failed, the message says why, and that failure is there."""
    store = MemoryStore()
    store.fail_next(FailureKind.TRANSIENT, times=9)
    options = BufferOptions(drain_timeout=1, retry=RetryPolicy(initial_delay=0.5, jitter=0))
    with pytest.raises(DrainError) as caught:
        async with open_buffers(store, LETTERS, OTHERS, options=options) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            buffers[OTHERS].enqueue_nowait(Letter("a"))
    assert [
        "- 'letters': 1 accepted entry, pending for 1.0 s; last error: scripted: transient",
        "- 'others': 1 accepted entry, pending for 1.0 s; last error: scripted: transient",
    ] == str(caught.value).splitlines()[1:3]
    errors = [str(left.last_error) for left in caught.value.unsettled.values()]
    assert ["scripted: transient"] * 2 == errors


async def test_entries_of_every_stage_are_named_in_order(autojump_clock: MockClock) -> None:
    """In flight, coalesced or in the channel: what is not settled is named, oldest first."""
    store = MemoryStore()
    store.stop()
    options = BufferOptions(batch_size=3, drain_timeout=1)
    with pytest.raises(DrainError) as caught:
        async with open_buffers(store, OTHERS, options=options) as buffers:
            for i in range(11):
                buffers[OTHERS].enqueue_nowait(Letter(str(i)))
                await trio.sleep(0.125)
    left = caught.value.unsettled["others"]
    assert tuple(Write((str(i),)) for i in range(11)) == left.entries
    assert 11 == left.count


async def test_the_deadline_waits_for_a_call_that_runs(autojump_clock: MockClock) -> None:
    """A transaction that has begun is finished, and counts, though the deadline passed."""

    class Uninterruptible(WrappedMemoryStore):
        async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
            with trio.CancelScope(shield=True):
                outcome = await commit()
            return outcome  # noqa: RET504  # to mypy a scope might swallow an exception

    store = Uninterruptible(delay=3)
    options = BufferOptions(batch_size=2, drain_timeout=1)
    with pytest.raises(DrainError) as caught:
        async with open_buffers(store, OTHERS, options=options) as buffers:
            await buffers[OTHERS].enqueue_many([Letter("a"), Letter("b"), Letter("c")])
    assert 3.0 == trio.current_time()
    assert [("a",), ("b",)] == store.rows(OTHERS)
    assert (Write(("c",)),) == caught.value.unsettled["others"].entries
    assert 1 == caught.value.unsettled["others"].count


@pytest.mark.parametrize("accepted", [0, 1])
async def test_a_drain_without_time(autojump_clock: MockClock, accepted: int) -> None:
    """With `drain_timeout=0` what is pending is named at once; nothing pending is no error."""
    store = MemoryStore()
    options = BufferOptions(drain_timeout=0)
    with pytest.raises(DrainError) if accepted else nullcontext():
        async with open_buffers(store, LETTERS, options=options) as buffers:
            await buffers[LETTERS].enqueue_many([Letter("a")] * accepted)
    assert [] == store.batches


async def test_cancellation_is_dropped_for_what_it_cost(autojump_clock: MockClock) -> None:
    """A program that was cancelled gets the bare `DrainError`, as one that was not."""
    store = MemoryStore()
    store.stop()
    with pytest.raises(DrainError), trio.move_on_after(1):
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            await trio.sleep_forever()
    assert 31.0 == trio.current_time()


async def test_the_error_of_the_body_stays_beside_that_of_the_drain(
    autojump_clock: MockClock,
) -> None:
    """Two things went wrong: both leave, in a group."""
    store = MemoryStore()
    store.stop()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            raise ValueError("the body's")
    assert [ValueError, DrainError] == [type(error) for error in caught.value.exceptions]


# Giving up


async def test_giving_up_lets_the_deadline_pass(autojump_clock: MockClock) -> None:
    """`give_up` ends a drain that hangs, and what is left is named."""
    store = MemoryStore()
    store.stop()

    async def give_up_at(time: float, buffers: Buffers) -> None:
        await trio.sleep_until(time)
        buffers.give_up()

    async with trio.open_nursery() as nursery:
        with pytest.raises(DrainError) as caught:
            async with open_buffers(store, LETTERS, OTHERS) as buffers:
                buffers[LETTERS].enqueue_nowait(Letter("a"))
                nursery.start_soon(give_up_at, 4, buffers)
    assert 4.0 == trio.current_time()
    assert ["letters"] == list(caught.value.unsettled)


async def test_giving_up_before_the_drain_is_for_the_drain(autojump_clock: MockClock) -> None:
    """Until the block is left the buffers go on, and their rows are committed."""
    store = MemoryStore()
    with pytest.raises(DrainError) as caught:
        async with open_buffers(store, LETTERS) as buffers:
            buffers.give_up()
            await trio.sleep(1)
            await buffers[LETTERS].write(Letter("a"))
            buffers[LETTERS].enqueue_nowait(Letter("b"))
    assert (Write(("b",)),) == caught.value.unsettled["letters"].entries
    assert [("a",)] == store.rows(LETTERS)


async def test_giving_up_costs_nothing_where_nothing_is_pending(
    autojump_clock: MockClock,
) -> None:
    """`DrainError` is raised for entries, not for a deadline."""
    async with open_buffers(MemoryStore(), LETTERS) as buffers:
        await buffers[LETTERS].write(Letter("a"))
        buffers.give_up()


# Who waits, and who comes later


async def test_who_waits_for_room_is_turned_away_at_the_close(autojump_clock: MockClock) -> None:
    """An `enqueue` that waits while the block is left was not accepted."""
    store = MemoryStore(delay=5)

    async def expect_closed(buffer: Buffer[Letter], name: str) -> None:
        with pytest.raises(trio.ClosedResourceError, match="buffer 'others' is closed"):
            await buffer.enqueue(Letter(name))
        assert 1.0 == trio.current_time()  # at once, not when the drain has made room

    async with trio.open_nursery() as nursery:
        options = BufferOptions(capacity=1)
        async with open_buffers(store, OTHERS, options=options) as buffers:
            buffers[OTHERS].enqueue_nowait(Letter("a"))
            nursery.start_soon(expect_closed, buffers[OTHERS], "b")
            nursery.start_soon(expect_closed, buffers[OTHERS], "c")
            await trio.sleep(1)
    assert [("a",)] == store.rows(OTHERS)


async def test_who_waits_for_a_commit_hears_of_it_in_the_drain(autojump_clock: MockClock) -> None:
    """`flush` and `write` of tasks outside the block return when the drain has committed."""
    store = MemoryStore()
    store.stop()
    returned = []

    async def wait_for(name: str, call: Callable[[], Awaitable[object]]) -> None:
        await call()
        returned.append(name)

    async with trio.open_nursery() as nursery, open_buffers(store, LETTERS) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        nursery.start_soon(wait_for, "flush", buffers[LETTERS].flush)
        nursery.start_soon(wait_for, "flush all", buffers.flush)
        nursery.start_soon(wait_for, "write", lambda: buffers[LETTERS].write(Letter("b")))
        await trio.sleep(1)
        assert [] == returned
        store.resume()
    assert ["flush", "flush all", "write"] == sorted(returned)
    assert [("a",), ("b",)] == store.rows(LETTERS)


async def test_who_waits_for_a_commit_hears_that_the_deadline_passed(
    autojump_clock: MockClock,
) -> None:
    """`flush` and `write` of tasks outside the block do not hang when the drain gave up."""
    store = MemoryStore()
    store.stop()
    causes = []

    async def expect_broken(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await call()
        causes.append(type(caught.value.__cause__))

    async with trio.open_nursery() as nursery:
        with pytest.raises(DrainError):
            async with open_buffers(store, LETTERS) as buffers:
                buffers[LETTERS].enqueue_nowait(Letter("a"))
                nursery.start_soon(expect_broken, buffers[LETTERS].flush)
                nursery.start_soon(expect_broken, buffers.flush)
                nursery.start_soon(expect_broken, lambda: buffers[LETTERS].write(Letter("b")))
                await trio.sleep(1)
    assert [DrainError] * 3 == causes


CALLS: dict[str, Callable[[Buffer[Note]], object]] = {
    "enqueue_nowait": lambda b: b.enqueue_nowait(Note("z", "")),
    "enqueue_update_nowait": lambda b: b.enqueue_update_nowait("z", text=""),
    "enqueue_delete_nowait": lambda b: b.enqueue_delete_nowait("z"),
    "enqueue_delete_by_nowait": lambda b: b.enqueue_delete_by_nowait(""),
    "enqueue": lambda b: b.enqueue(Note("z", "")),
    "enqueue_many": lambda b: b.enqueue_many([Note("z", "")]),
    "enqueue_update": lambda b: b.enqueue_update("z", text=""),
    "enqueue_delete": lambda b: b.enqueue_delete("z"),
    "enqueue_delete_by": lambda b: b.enqueue_delete_by(""),
    "write": lambda b: b.write(Note("z", "")),
}
"""Every way to have a buffer of notes accept an entry."""


async def call(name: str, buffer: Buffer[Note]) -> None:
    result = CALLS[name](buffer)
    if isinstance(result, Awaitable):
        await result


@pytest.mark.parametrize("name", CALLS)
async def test_a_closed_buffer_accepts_nothing(autojump_clock: MockClock, name: str) -> None:
    """Once the block is left, every call says that the buffer was closed."""
    store = MemoryStore()
    async with open_buffers(store, NOTES) as buffers:
        await buffers[NOTES].write(Note("a", ""))
    with pytest.raises(trio.ClosedResourceError, match="buffer 'notes' is closed"):
        await call(name, buffers[NOTES])
    await buffers.flush()
    assert (1, 0) == (buffers[NOTES].statistics().accepted, buffers[NOTES].statistics().pending)
    assert [("a", "")] == store.rows(NOTES)


@pytest.mark.parametrize("name", CALLS)
async def test_a_buffer_that_failed_says_why(autojump_clock: MockClock, name: str) -> None:
    """Once its worker has failed, every call raises that failure's consequence."""
    store = MemoryStore()
    store.fail_next(FailureKind.FATAL)
    with pytest.raises(FlushError) as failure:
        async with open_buffers(store, NOTES) as buffers:
            buffers[NOTES].enqueue_nowait(Note("a", ""))
    with pytest.raises(trio.BrokenResourceError, match="buffer 'notes' stopped: ") as caught:
        await call(name, buffers[NOTES])
    assert caught.value.__cause__ is failure.value
    with pytest.raises(trio.BrokenResourceError):
        await buffers.flush()
    assert (1, 1) == (buffers[NOTES].statistics().accepted, buffers[NOTES].statistics().pending)


# Other ways to open


async def test_buffers_run_as_a_task(autojump_clock: MockClock) -> None:
    """`nursery.start(run_buffers, …)` gives the buffers; cancelling the task drains them."""
    store = MemoryStore(delay=1)
    async with trio.open_nursery() as nursery:
        buffers = await nursery.start(run_buffers, store, LETTERS)
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        nursery.cancel_scope.cancel()
    assert [("a",)] == store.rows(LETTERS)


async def test_inner_buffers_drain_into_outer_ones(autojump_clock: MockClock) -> None:
    """Blocks nest: the inner one has drained before the outer one begins to."""
    store = MemoryStore(delay=1)
    async with open_buffers(store, LETTERS) as outer:
        async with open_buffers(store, OTHERS) as inner:
            inner[OTHERS].enqueue_nowait(Letter("a"))
            outer[LETTERS].enqueue_nowait(Letter("a"))
        assert [("a",)] == store.rows(OTHERS)
        outer[LETTERS].enqueue_nowait(Letter("b"))
    assert [("a",), ("b",)] == store.rows(LETTERS)


async def test_tables_are_opened_again(autojump_clock: MockClock) -> None:
    """A table may be used in one block after another."""
    store = MemoryStore()
    for name in "abc":
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter(name))
    assert [("a",), ("b",), ("c",)] == store.rows(LETTERS)


async def test_what_cannot_be_opened_is_refused() -> None:
    """No table, two tables of one name, and overrides of no table are mistakes."""
    store = MemoryStore()
    with pytest.raises(ValueError, match="without a table"):
        async with open_buffers(store):
            pass
    with pytest.raises(ValueError, match=r"duplicate table name in \['letters', 'LETTERS'\]"):
        async with open_buffers(store, LETTERS, Table(Letter, name="LETTERS")):
            pass
    with pytest.raises(OptionsError, match=r"overrides has options for \['lettres'\]"):
        async with open_buffers(store, LETTERS, overrides={"lettres": BufferOptions()}):
            pass


async def test_a_table_that_was_not_opened_has_no_buffer(autojump_clock: MockClock) -> None:
    """Asking for it tells which tables there are."""
    async with open_buffers(MemoryStore(), LETTERS) as buffers:
        assert ([buffers[LETTERS]], 1) == (list(buffers), len(buffers))
        with pytest.raises(KeyError, match=r"opened with the tables 'letters'; use one of these"):
            buffers[OTHERS]
