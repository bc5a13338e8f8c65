"""The statistics and the repr of a buffer while it is open, closed and failed."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import (
    Buffer,
    BufferOptions,
    BufferStatistics,
    DrainError,
    FlushError,
    Table,
    open_buffers,
)
from forebay.stores import FailureKind
from forebay.testing import MemoryStore


class Note(NamedTuple):
    name: str
    text: str = ""


NOTES = Table(Note, name="notes", key="name")
LOG = Table(Note, name="log")


def statistics(**changes: Any) -> BufferStatistics:
    """Return the statistics of a buffer of capacity 4 with these values and zeros otherwise."""
    return dataclasses.replace(
        BufferStatistics(
            accepted=0,
            committed=0,
            superseded=0,
            dead_lettered=0,
            pending=0,
            capacity=4,
            waiting=0,
            flushes=0,
            retries=0,
            oldest_age=0.0,
            flush_p50=0.0,
            flush_p99=0.0,
            last_error=None,
            suspended=False,
            spool_entries=0,
            spool_oldest_age=0.0,
        ),
        **changes,
    )


async def test_the_statistics_of_each_stage_of_a_buffer(autojump_clock: MockClock) -> None:
    """Each accepted entry is counted as pending, and later as committed or superseded."""
    store = MemoryStore()
    store.stop()
    options = BufferOptions(capacity=4, flush_interval=1)
    async with open_buffers(store, NOTES, options=options) as buffers:
        buffer = buffers[NOTES]
        assert statistics() == buffer.statistics()
        await buffer.enqueue_many([Note("a"), Note("a", "later"), Note("b")])
        assert statistics(accepted=3, pending=3) == buffer.statistics()
        await trio.sleep(0.5)
        await buffer.enqueue(Note("c"))
        assert statistics(accepted=4, pending=4, oldest_age=0.5) == buffer.statistics()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(buffer.enqueue, Note("d"))
            await wait_all_tasks_blocked()
            await trio.sleep(0.25)
            expected = statistics(accepted=4, pending=4, waiting=1, oldest_age=0.75)
            assert expected == buffer.statistics()
            store.resume()
        expected = statistics(accepted=5, committed=3, superseded=1, pending=1, flushes=1)
        expected = dataclasses.replace(expected, flush_p50=0.25, flush_p99=0.25)
        assert expected == buffer.statistics()
        await buffer.flush()
        expected = statistics(accepted=5, committed=4, superseded=1, flushes=2, flush_p99=0.25)
        assert expected == buffer.statistics()
    assert {"notes": expected} == buffers.statistics()


async def test_rows_that_the_table_refused_are_counted_separately(
    autojump_clock: MockClock,
) -> None:
    """An entry in the dead letters counts as settled but not as committed."""
    store = MemoryStore()
    store.refuse(lambda operation: "bad" in str(operation))
    async with open_buffers(store, LOG, options=BufferOptions(capacity=4)) as buffers:
        await buffers[LOG].enqueue_many([Note("a"), Note("bad"), Note("b")])
        await buffers.flush()
        expected = statistics(accepted=3, committed=2, dead_lettered=1, flushes=1)
        assert expected == buffers[LOG].statistics()


async def test_retries_and_the_age_of_the_oldest_entry_are_counted(
    autojump_clock: MockClock,
) -> None:
    """While a batch is retried, its entries are pending and their age grows."""
    store = MemoryStore()
    options = BufferOptions(capacity=4, flush_interval=1).override(
        {"retry": {"initial_delay": 2, "max_delay": 2, "jitter": 0}}
    )
    store.fail_next(FailureKind.TRANSIENT, times=2)
    async with open_buffers(store, LOG, options=options) as buffers:
        buffers[LOG].enqueue_nowait(Note("a"))
        await trio.sleep(4)
        buffers[LOG].enqueue_nowait(Note("b"))
        expected = statistics(
            accepted=2, pending=2, retries=1, oldest_age=4.0, last_error="scripted: transient"
        )
        assert expected == buffers[LOG].statistics()
        await trio.sleep(1.5)  # the first was committed at 5 s; the second waits since 4 s
        expected = statistics(accepted=2, committed=2, retries=2, flushes=2, flush_p99=4.0)
        assert expected == buffers[LOG].statistics()


async def test_a_retry_that_the_deadline_prevents_is_not_counted(autojump_clock: MockClock) -> None:
    """A retry counts when it begins, not when the attempt before it fails."""
    store = MemoryStore()
    options = BufferOptions(drain_timeout=1).override(
        {"retry": {"initial_delay": 2, "max_delay": 2, "jitter": 0}}
    )
    store.fail_next(FailureKind.TRANSIENT, times=9)
    with pytest.raises(DrainError):
        async with open_buffers(store, LOG, options=options) as buffers:
            buffers[LOG].enqueue_nowait(Note("a"))
    assert 0 == buffers[LOG].statistics().retries


async def test_the_age_is_that_of_the_oldest_pending_entry(autojump_clock: MockClock) -> None:
    """When a flush settles the oldest entries, `oldest_age` is the age of the next one."""
    store = MemoryStore(delay=3)
    options = BufferOptions(capacity=4, flush_interval=1)
    async with open_buffers(store, LOG, options=options) as buffers:
        buffers[LOG].enqueue_nowait(Note("a"))
        await trio.sleep(2)
        buffers[LOG].enqueue_nowait(Note("b"))
        assert 2.0 == buffers[LOG].statistics().oldest_age
        await trio.sleep(2.5)
        assert 2.5 == buffers[LOG].statistics().oldest_age
        assert 1 == buffers[LOG].statistics().pending


def test_statistics_are_frozen_and_documented() -> None:
    """The fields cannot be changed, and each has a docstring in the source."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics().accepted = 1  # type: ignore[misc]
    source = inspect.getsource(BufferStatistics)
    for field in dataclasses.fields(BufferStatistics):
        assert f'\n    {field.name}: {field.type}\n    """' in source


async def test_a_buffer_shows_its_state(autojump_clock: MockClock) -> None:
    """The repr has the table's name, the state, and the number of pending entries."""
    store = MemoryStore()
    options = BufferOptions(capacity=4)
    async with open_buffers(store, NOTES, LOG, options=options) as buffers:
        assert "<forebay.Buffers of 'notes', 'log'>" == repr(buffers)
        assert "<forebay.Buffer 'notes': open, 0 of 4 pending>" == repr(buffers[NOTES])
        buffers[NOTES].enqueue_nowait(Note("a"))
        assert "<forebay.Buffer 'notes': open, 1 of 4 pending>" == repr(buffers[NOTES])
        assert (NOTES, "notes") == (buffers[NOTES].table, buffers[NOTES].name)
    assert "<forebay.Buffer 'notes': closed, 0 of 4 pending>" == repr(buffers[NOTES])
    store.fail_next(FailureKind.FATAL)
    with pytest.raises(FlushError):
        async with open_buffers(store, LOG, options=options) as buffers:
            buffers[LOG].enqueue_nowait(Note("a"))
    assert "<forebay.Buffer 'log': failed, 1 of 4 pending>" == repr(buffers[LOG])


def test_the_statistics_can_be_read_after_the_end_of_trio() -> None:
    """The pending entries and their age are there, since Trio's clock needs no running loop."""
    kept: list[Buffer[Note]] = []

    async def main() -> None:
        store = MemoryStore()
        store.stop()
        options = BufferOptions(capacity=4, drain_timeout=0.01)
        async with open_buffers(store, NOTES, options=options) as buffers:
            kept.append(buffers[NOTES])
            await buffers[NOTES].enqueue(Note("a"))

    with pytest.raises(DrainError):
        trio.run(main)
    [buffer] = kept
    assert 1 == buffer.statistics().pending
    assert 0.01 <= buffer.statistics().oldest_age
