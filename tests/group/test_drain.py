"""Leaving `open_buffers`: the drain, its deadline, and the tasks that wait meanwhile."""

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


# The rows and the exceptions of a block that ends


async def test_leaving_the_block_commits_all_accepted_entries(autojump_clock: MockClock) -> None:
    """When the block ends, all rows are in the store, even if they fill several batches."""
    store = MemoryStore(delay=0.125)
    async with open_buffers(store, OTHERS, options=BufferOptions(batch_size=10)) as buffers:
        await buffers[OTHERS].enqueue_many(Letter(str(i)) for i in range(95))
    assert [(str(i),) for i in range(95)] == store.rows(OTHERS)
    assert 10 == len(store.batches)
    assert 1.25 == trio.current_time()


async def test_an_empty_drain_does_not_use_the_store(autojump_clock: MockClock) -> None:
    """A block in which no entry was accepted ends at once, even if the store hangs."""
    store = MemoryStore()
    store.stop()
    async with open_buffers(store, LETTERS, OTHERS):
        pass
    assert (0.0, 0) == (trio.current_time(), store.attempts)


async def test_an_exception_of_the_body_is_raised_unchanged(autojump_clock: MockClock) -> None:
    """An exception of the body is neither wrapped nor replaced, and the rows are committed."""
    store, error = MemoryStore(), ValueError("the body's")
    with pytest.raises(ValueError, match="the body's") as caught:
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            raise error
    assert caught.value is error
    assert [("a",)] == store.rows(LETTERS)


async def test_an_exception_group_of_the_body_is_raised_unchanged(
    autojump_clock: MockClock,
) -> None:
    """A group from a nursery of the body is not taken apart."""
    group = ExceptionGroup("the body's", [ValueError("one"), trio.BrokenResourceError("two")])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_buffers(MemoryStore(), LETTERS):
            raise group
    assert caught.value is group


async def test_cancellation_does_not_cut_the_drain_short(autojump_clock: MockClock) -> None:
    """A cancelled body ends at once, and the accepted entries are still committed."""
    store = MemoryStore(delay=1)
    with trio.move_on_after(0.0625) as scope:
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert 1.0625 == trio.current_time()
    assert [("a",)] == store.rows(LETTERS)


async def test_cancellation_during_the_drain_does_not_cut_it_short(
    autojump_clock: MockClock,
) -> None:
    """If the body ends and its scope is then cancelled, the drain still finishes."""
    store = MemoryStore(delay=1)
    with trio.move_on_after(0.5) as scope:
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
    assert not scope.cancelled_caught
    assert [("a",)] == store.rows(LETTERS)


# The deadline


async def test_the_deadline_names_the_entries_that_are_not_settled(
    autojump_clock: MockClock,
) -> None:
    """`DrainError` has, for each late table, the entries, their number and the oldest age."""
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
        "BufferOptions.drain_timeout, then pass them to `enqueue_again` of a new buffer; "
        "`open_buffers(..., spill=FILE)` "
        "would keep them in a file."
    ) == str(caught.value)
    assert ["letters"] == list(caught.value.unsettled)
    left = caught.value.unsettled["letters"]
    assert (5, 7.5, None) == (left.count, left.oldest_age, left.last_error)
    assert tuple(Write((name,)) for name in "abc") == left.entries
    assert [("in time",)] == store.rows(OTHERS)


async def test_the_error_of_the_deadline_has_the_last_error(autojump_clock: MockClock) -> None:
    """If attempts failed, `DrainError` has the last error as text and as an object."""
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
    """Entries in flight, coalesced and in the channel are named, oldest first."""
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


async def test_the_deadline_waits_for_a_running_transaction(autojump_clock: MockClock) -> None:
    """A transaction that began before the deadline is finished, and its entries settle."""

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
async def test_a_drain_timeout_of_zero(autojump_clock: MockClock, accepted: int) -> None:
    """With `drain_timeout=0` pending entries are named at once; without any there is no error."""
    store = MemoryStore()
    options = BufferOptions(drain_timeout=0)
    with pytest.raises(DrainError) if accepted else nullcontext():
        async with open_buffers(store, LETTERS, options=options) as buffers:
            await buffers[LETTERS].enqueue_many([Letter("a")] * accepted)
    assert [] == store.batches


async def test_cancellation_is_replaced_by_the_error_of_the_drain(
    autojump_clock: MockClock,
) -> None:
    """If a cancelled block cannot drain, it raises a single `DrainError` without a group."""
    store = MemoryStore()
    store.stop()
    with pytest.raises(DrainError), trio.move_on_after(1):
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            await trio.sleep_forever()
    assert 31.0 == trio.current_time()


async def test_errors_of_the_body_and_of_the_drain_are_raised_together(
    autojump_clock: MockClock,
) -> None:
    """If the body raises and the drain fails, the block raises a group of both errors."""
    store = MemoryStore()
    store.stop()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            raise ValueError("the body's")
    assert [ValueError, DrainError] == [type(error) for error in caught.value.exceptions]


# Ending the drain early


async def test_give_up_ends_a_drain(autojump_clock: MockClock) -> None:
    """`give_up` ends a drain that hangs, and the entries left are named."""
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


async def test_give_up_before_the_drain_ends_it_when_it_begins(autojump_clock: MockClock) -> None:
    """Until the block is left, the buffers go on committing rows."""
    store = MemoryStore()
    with pytest.raises(DrainError) as caught:
        async with open_buffers(store, LETTERS) as buffers:
            buffers.give_up()
            await trio.sleep(1)
            await buffers[LETTERS].write(Letter("a"))
            buffers[LETTERS].enqueue_nowait(Letter("b"))
    assert (Write(("b",)),) == caught.value.unsettled["letters"].entries
    assert [("a",)] == store.rows(LETTERS)


async def test_give_up_raises_nothing_if_no_entry_is_pending(
    autojump_clock: MockClock,
) -> None:
    """`DrainError` is raised only for entries that are not settled."""
    async with open_buffers(MemoryStore(), LETTERS) as buffers:
        await buffers[LETTERS].write(Letter("a"))
        buffers.give_up()


# Tasks that wait during the drain, and calls after it


async def test_tasks_that_wait_for_room_raise_when_the_buffer_closes(
    autojump_clock: MockClock,
) -> None:
    """An `enqueue` that waits while the block is left raises, and its row is not accepted."""
    store = MemoryStore(delay=5)

    async def expect_closed(buffer: Buffer[Letter], name: str) -> None:
        with pytest.raises(trio.ClosedResourceError, match="buffer 'others' is closed"):
            await buffer.enqueue(Letter(name))
        assert 1.0 == trio.current_time()  # at once, not after the drain has released capacity

    async with trio.open_nursery() as nursery:
        options = BufferOptions(capacity=1)
        async with open_buffers(store, OTHERS, options=options) as buffers:
            buffers[OTHERS].enqueue_nowait(Letter("a"))
            nursery.start_soon(expect_closed, buffers[OTHERS], "b")
            nursery.start_soon(expect_closed, buffers[OTHERS], "c")
            await trio.sleep(1)
    assert [("a",)] == store.rows(OTHERS)


async def test_tasks_that_wait_for_a_commit_return_when_the_drain_commits(
    autojump_clock: MockClock,
) -> None:
    """`flush` and `write` return in tasks outside the block once the drain has committed."""
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


async def test_tasks_that_wait_for_a_commit_raise_when_the_deadline_passes(
    autojump_clock: MockClock,
) -> None:
    """`flush` and `write` raise in tasks outside the block once the drain has ended."""
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
    "enqueue_again": lambda b: b.enqueue_again([Write(("z", ""))]),
    "enqueue_update": lambda b: b.enqueue_update("z", text=""),
    "enqueue_delete": lambda b: b.enqueue_delete("z"),
    "enqueue_delete_by": lambda b: b.enqueue_delete_by(""),
    "write": lambda b: b.write(Note("z", "")),
}
"""All calls by which a buffer accepts an entry."""


async def call(name: str, buffer: Buffer[Note]) -> None:
    result = CALLS[name](buffer)
    if isinstance(result, Awaitable):
        await result


@pytest.mark.parametrize("name", CALLS)
async def test_a_closed_buffer_accepts_nothing(autojump_clock: MockClock, name: str) -> None:
    """Once the block is left, every call raises `trio.ClosedResourceError`."""
    store = MemoryStore()
    async with open_buffers(store, NOTES) as buffers:
        await buffers[NOTES].write(Note("a", ""))
    with pytest.raises(trio.ClosedResourceError, match="buffer 'notes' is closed"):
        await call(name, buffers[NOTES])
    await buffers.flush()
    assert (1, 0) == (buffers[NOTES].statistics().accepted, buffers[NOTES].statistics().pending)
    assert [("a", "")] == store.rows(NOTES)


@pytest.mark.parametrize("name", CALLS)
async def test_a_failed_buffer_accepts_nothing(autojump_clock: MockClock, name: str) -> None:
    """Once the worker has failed, every call raises an error whose cause is the failure."""
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
    """`nursery.start(run_buffers, …)` returns the buffers, and cancelling the task drains them."""
    store = MemoryStore(delay=1)
    async with trio.open_nursery() as nursery:
        buffers = await nursery.start(run_buffers, store, LETTERS)
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        nursery.cancel_scope.cancel()
    assert [("a",)] == store.rows(LETTERS)


async def test_inner_buffers_drain_into_outer_ones(autojump_clock: MockClock) -> None:
    """An inner block has drained before the outer block begins to drain."""
    store = MemoryStore(delay=1)
    async with open_buffers(store, LETTERS) as outer:
        async with open_buffers(store, OTHERS) as inner:
            inner[OTHERS].enqueue_nowait(Letter("a"))
            outer[LETTERS].enqueue_nowait(Letter("a"))
        assert [("a",)] == store.rows(OTHERS)
        outer[LETTERS].enqueue_nowait(Letter("b"))
    assert [("a",), ("b",)] == store.rows(LETTERS)


async def test_a_table_can_be_opened_again(autojump_clock: MockClock) -> None:
    """A table can be used in several blocks, one after another."""
    store = MemoryStore()
    for name in "abc":
        async with open_buffers(store, LETTERS) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter(name))
    assert [("a",), ("b",), ("c",)] == store.rows(LETTERS)


async def test_invalid_tables_and_overrides_are_refused() -> None:
    """`open_buffers` refuses no table, a duplicate name, and an override of an unknown table."""
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
    """The KeyError names the tables that were opened."""
    async with open_buffers(MemoryStore(), LETTERS) as buffers:
        assert ([buffers[LETTERS]], 1) == (list(buffers), len(buffers))
        with pytest.raises(KeyError, match=r"opened with the tables 'letters'; use one of these"):
            buffers[OTHERS]
