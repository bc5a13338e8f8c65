"""A buffer whose store fails permanently: which calls raise, and what the block raises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import Buffer, BufferOptions, DrainError, FlushError, Table, Write, open_buffers
from forebay.stores import Batch, BatchError, FailureKind, Outcome
from forebay.testing import MemoryStore
from tests.wrapped_attempts import Commit, WrappedMemoryStore


class Letter(NamedTuple):
    name: str


BAD, GOOD, LATE = (Table(Letter, name=name) for name in ("bad", "good", "late"))


class PartlyFailing(WrappedMemoryStore):
    """A memory store in which the commits of some tables raise an exception."""

    def __init__(self, **failures: BaseException) -> None:
        super().__init__()
        self.failures = failures

    async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
        if error := self.failures.get(batch.table.name):
            await trio.lowlevel.checkpoint()
            raise error
        return await commit()


def fatal(message: str = "no such table") -> BatchError:
    return BatchError(message, kind=FailureKind.FATAL, code="SQLITE_ERROR")


async def test_the_others_drain_before_the_failure_is_raised(autojump_clock: MockClock) -> None:
    """If one of three buffers fails, the body is cancelled and the others commit."""
    store = PartlyFailing(bad=fatal())
    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, GOOD, BAD, LATE) as buffers:
            for buffer in buffers:
                await buffer.enqueue_many([Letter("a"), Letter("b")])
            await trio.sleep_forever()
    assert (
        "buffer 'bad' stopped: no such table. Not in the table: 2 accepted entries, the oldest "
        "pending for 0.2 s. They are kept in this error's `unsettled.entries`. Fix the cause, then "
        "pass them to `enqueue_again` of a new buffer; "
        "`open_buffers(..., spill=FILE)` would keep them in a file."
    ) == str(caught.value)
    assert "bad" == caught.value.buffer
    assert (Write(("a",)), Write(("b",))) == caught.value.unsettled.entries
    assert 2 == caught.value.unsettled.count
    assert [("a",), ("b",)] == store.rows(GOOD) == store.rows(LATE)


async def test_the_cause_of_the_failure_is_the_databases_own_error(
    autojump_clock: MockClock,
) -> None:
    """`FlushError.__cause__` is the cause of the store's error."""
    error = fatal()
    error.__cause__ = OSError("the disk's")
    with pytest.raises(FlushError) as caught:
        async with open_buffers(PartlyFailing(bad=error), BAD) as buffers:
            buffers[BAD].enqueue_nowait(Letter("a"))
    assert error.__cause__ is caught.value.__cause__


async def test_entries_behind_the_failed_batch_are_named_too(
    autojump_clock: MockClock,
) -> None:
    """The error has all accepted entries that are not in the table, in order."""
    store = PartlyFailing(bad=fatal())
    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, BAD, options=BufferOptions(batch_size=2)) as buffers:
            await buffers[BAD].enqueue_many(Letter(str(i)) for i in range(7))
    assert tuple(Write((str(i),)) for i in range(7)) == caught.value.unsettled.entries
    assert 7 == caught.value.unsettled.count


@pytest.mark.parametrize("error", [ValueError("strange"), SystemExit(3), trio.EndOfChannel()])
async def test_an_unexpected_exception_of_a_store_fails_its_buffer(
    autojump_clock: MockClock, error: BaseException
) -> None:
    """Whatever a store raises, the entries are named, and the other buffers drain."""
    store = PartlyFailing(bad=error)
    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, GOOD, BAD) as buffers:
            buffers[GOOD].enqueue_nowait(Letter("a"))
            buffers[BAD].enqueue_nowait(Letter("b"))
            await trio.sleep_forever()
    assert repr(error) == caught.value.reason
    assert f"buffer 'bad' stopped: {error!r}. " in str(caught.value)
    assert error is caught.value.__cause__
    assert (Write(("b",)),) == caught.value.unsettled.entries
    assert [("a",)] == store.rows(GOOD)


WAITS: dict[str, Callable[[Buffer[Letter]], Awaitable[object]]] = {
    "enqueue": lambda b: b.enqueue(Letter("z")),
    "enqueue_many": lambda b: b.enqueue_many([Letter("z")]),
    "enqueue_again": lambda b: b.enqueue_again([Write(("z",))]),
    "write": lambda b: b.write(Letter("z")),
    "flush": lambda b: b.flush(),
}


@pytest.mark.parametrize("wait", WAITS)
async def test_tasks_that_wait_raise_when_the_buffer_fails(
    autojump_clock: MockClock, wait: str
) -> None:
    """A call that waits for room or for a commit raises with the failure as its cause."""
    store = MemoryStore()
    store.stop()
    store.fail_next(FailureKind.FATAL)
    heard: list[trio.BrokenResourceError] = []

    async def listen(buffer: Buffer[Letter]) -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await WAITS[wait](buffer)
        heard.append(caught.value)

    async with trio.open_nursery() as nursery:
        with pytest.raises(FlushError) as failure:
            async with open_buffers(store, BAD, options=BufferOptions(capacity=1)) as buffers:
                buffers[BAD].enqueue_nowait(Letter("a"))
                nursery.start_soon(listen, buffers[BAD])
                nursery.start_soon(listen, buffers[BAD])
                await wait_all_tasks_blocked()
                store.resume()
                await trio.sleep_forever()
    assert [failure.value] * 2 == [error.__cause__ for error in heard]
    assert (Write(("a",)),) == failure.value.unsettled.entries


async def test_consequences_in_the_body_are_dropped(autojump_clock: MockClock) -> None:
    """Errors of the body that only report the broken buffer do not hide its failure."""
    store = PartlyFailing(bad=fatal())
    with pytest.raises(FlushError):
        async with open_buffers(store, BAD) as buffers, trio.open_nursery() as nursery:
            nursery.start_soon(buffers[BAD].write, Letter("a"))
            nursery.start_soon(buffers[BAD].write, Letter("b"))
            nursery.start_soon(trio.sleep_forever)


async def test_a_consequence_without_a_nursery_is_dropped(
    autojump_clock: MockClock,
) -> None:
    """The same holds if the body itself raises, without a nursery."""
    with pytest.raises(FlushError):
        async with open_buffers(PartlyFailing(bad=fatal()), BAD) as buffers:
            await buffers[BAD].write(Letter("a"))


async def test_other_errors_of_the_body_are_kept(autojump_clock: MockClock) -> None:
    """Other errors of the body are raised together with the failure."""
    store = PartlyFailing(bad=fatal())

    async def fail_too() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("the body's")

    with pytest.raises(ExceptionGroup) as caught:
        async with open_buffers(store, BAD) as buffers, trio.open_nursery() as nursery:
            nursery.start_soon(buffers[BAD].write, Letter("a"))
            nursery.start_soon(fail_too)
    body, failure = caught.value.exceptions
    assert isinstance(failure, FlushError)
    assert isinstance(body, ExceptionGroup)
    assert ["the body's"] == [error.args[0] for error in body.exceptions]


async def test_a_broken_resource_error_of_another_resource_is_kept(
    autojump_clock: MockClock,
) -> None:
    """A `trio.BrokenResourceError` is dropped only if a buffer of the block caused it."""
    with pytest.raises(ExceptionGroup) as caught:
        async with open_buffers(PartlyFailing(bad=fatal()), BAD) as buffers:
            buffers[BAD].enqueue_nowait(Letter("a"))
            raise trio.BrokenResourceError("a socket's")
    assert [trio.BrokenResourceError, FlushError] == [type(e) for e in caught.value.exceptions]


async def test_two_failures_are_raised_in_a_group(autojump_clock: MockClock) -> None:
    """Each buffer that failed has its own error in the group."""
    store = PartlyFailing(bad=fatal("one"), late=fatal("two"))
    with pytest.raises(ExceptionGroup) as caught:
        async with open_buffers(store, BAD, GOOD, LATE) as buffers:
            for buffer in buffers:
                buffer.enqueue_nowait(Letter("a"))
    names = [error.buffer for error in caught.value.exceptions if isinstance(error, FlushError)]
    assert ["bad", "late"] == names
    assert [("a",)] == store.rows(GOOD)


async def test_a_failure_and_a_deadline_are_raised_in_a_group(autojump_clock: MockClock) -> None:
    """If one buffer fails and another cannot drain in time, both are named."""

    class Hanging(PartlyFailing):
        async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
            if batch.table is LATE:
                await trio.sleep_forever()
            return await super().around_commit(batch, commit)

    with pytest.raises(ExceptionGroup) as caught:
        async with open_buffers(Hanging(bad=fatal()), BAD, LATE) as buffers:
            for buffer in buffers:
                buffer.enqueue_nowait(Letter("a"))
    assert [FlushError, DrainError] == [type(error) for error in caught.value.exceptions]
    assert 30.0 == trio.current_time()


async def test_cancellation_is_replaced_by_the_failure(autojump_clock: MockClock) -> None:
    """If a cancelled block has a buffer that fails, it raises a single `FlushError`."""
    with pytest.raises(FlushError), trio.move_on_after(0.125):
        async with open_buffers(PartlyFailing(bad=fatal()), BAD) as buffers:
            buffers[BAD].enqueue_nowait(Letter("a"))
            await trio.sleep_forever()


@pytest.mark.parametrize("wrong", [{"options": {"capacity": 5}}, {"overrides": {"notes": {}}}])
async def test_a_mapping_of_options_is_refused(wrong: dict[str, Any]) -> None:
    """A mapping instead of `BufferOptions` is a TypeError that shows how to convert it."""
    with pytest.raises(TypeError, match=r"must be a forebay\.BufferOptions, not \{"):
        async with open_buffers(MemoryStore(), BAD, **wrong):
            raise AssertionError("it opened")


@pytest.mark.parametrize("arguments", [{"options": {}}, {"overrides": []}, {"overrides": ""}])
async def test_an_empty_value_instead_of_options_is_refused(arguments: Any) -> None:
    """Only None means the defaults."""
    with pytest.raises(TypeError, match=f"{next(iter(arguments))} must"):
        async with open_buffers(MemoryStore(), BAD, **arguments):
            raise AssertionError
