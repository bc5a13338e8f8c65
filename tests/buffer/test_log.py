"""The log records of a buffer, by level and logger. None has a value of a row."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock

from forebay import (
    BufferOptions,
    DrainError,
    FlushError,
    RetryPolicy,
    RowError,
    Table,
    open_buffers,
)
from forebay.stores import FailureKind
from forebay.testing import MemoryStore

VALUE = "a value of a row"


class Letter(NamedTuple):
    name: str


LETTERS = Table(Letter, name="letters", key="name")


@pytest.fixture(autouse=True)
def _all_records(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="forebay")


def levels(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Return the levels of the records of buffers; check that none has a value of a row."""
    records = [record for record in caplog.records if record.name == "forebay._buffer.log"]
    assert not [record for record in records if VALUE in record.getMessage()]
    return [record.levelno for record in records]


async def test_a_flush_that_succeeds_at_once_is_not_logged(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """A healthy buffer writes nothing to the log."""
    async with open_buffers(MemoryStore(), LETTERS) as buffers:
        await buffers[LETTERS].write(Letter(VALUE))
    assert [] == levels(caplog)


async def test_a_retried_flush_is_logged_when_it_begins_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """One WARNING for three failures, with the delay, then one INFO with the attempts."""
    store = MemoryStore()
    store.fail_next(FailureKind.TRANSIENT, times=3)
    async with open_buffers(store, LETTERS) as buffers:
        await buffers[LETTERS].write(Letter(VALUE))
    assert [logging.WARNING, logging.INFO] == levels(caplog)
    begun, over = caplog.messages
    assert "'letters'" in begun
    assert "attempt 1 " in begun
    assert "4 attempts" in over


async def test_a_flush_that_is_retried_for_minutes_is_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """A lock of five minutes writes about five lines, not one for each attempt."""
    store = MemoryStore()
    options = BufferOptions(retry=RetryPolicy(initial_delay=1, multiplier=1, max_delay=1, jitter=0))
    store.fail_next(FailureKind.TRANSIENT, times=300)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        await buffers[LETTERS].write(Letter(VALUE))
    assert [logging.WARNING] * 5 + [logging.INFO] == levels(caplog)


async def test_refused_rows_are_logged_with_the_first_dead_letter(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """At most one WARNING a second: those held back are logged together at the end."""
    store = MemoryStore()
    store.refuse(lambda _: True)
    async with open_buffers(store, LETTERS) as buffers:
        for _ in range(3):
            with pytest.raises(RowError):
                await buffers[LETTERS].write(Letter(VALUE))
    assert [logging.WARNING] * 2 == levels(caplog)
    first, rest = caplog.messages
    assert "1 entry (SCRIPTED: 1); the first dead letter has the id 1" in first
    assert "2 entries (SCRIPTED: 2); the first dead letter has the id 2" in rest


async def test_refusals_of_later_seconds_are_logged_each_second(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """The limit is for a second."""
    store = MemoryStore()
    store.refuse(lambda _: True)
    async with open_buffers(store, LETTERS) as buffers:
        for _ in range(3):
            with pytest.raises(RowError):
                await buffers[LETTERS].write(Letter(VALUE))
            await trio.sleep(1)
    assert [logging.WARNING] * 3 == levels(caplog)


async def test_a_buffer_that_stops_is_logged_as_an_error(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """The record counts what is not settled."""
    store = MemoryStore()
    store.fail_next(FailureKind.FATAL)
    with pytest.raises(FlushError):
        async with open_buffers(store, LETTERS) as buffers:
            await buffers[LETTERS].enqueue(Letter(VALUE))
            await buffers[LETTERS].flush()
    assert [logging.ERROR] == levels(caplog)
    assert "1 accepted entry is not settled" in caplog.messages[0]


async def test_a_suspended_buffer_is_logged_when_it_begins_and_ends(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """ERROR, then INFO when a flush succeeds."""
    store = MemoryStore()
    options = BufferOptions(on_failure="suspend", retry=RetryPolicy(max_attempts=1))
    store.fail_next(FailureKind.TRANSIENT, times=2)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        await buffers[LETTERS].write(Letter(VALUE))
    assert [logging.ERROR, logging.INFO] == levels(caplog)


async def test_a_drain_that_gives_up_and_its_spill_are_logged(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Two WARNINGs, the second of which names the file."""
    path = tmp_path / "left.spill"
    store = MemoryStore()
    store.stop()
    with pytest.raises(DrainError):
        async with open_buffers(
            store, LETTERS, options=BufferOptions(drain_timeout=0), spill=path
        ) as buffers:
            await buffers[LETTERS].enqueue(Letter(VALUE))
    assert [logging.WARNING] * 2 == levels(caplog)
    assert repr(str(path)) in caplog.messages[1]


async def test_a_handler_that_raises_stops_no_buffer(autojump_clock: MockClock) -> None:
    """The rows are committed, whatever the program's handlers do."""

    class Broken(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            raise RuntimeError

    store, broken = MemoryStore(), Broken()
    store.fail_next(FailureKind.TRANSIENT)
    logger = logging.getLogger("forebay")
    logger.addHandler(broken)
    try:
        async with open_buffers(store, LETTERS) as buffers:
            await buffers[LETTERS].write(Letter("a"))
    finally:
        logger.removeHandler(broken)
    assert [("a",)] == store.rows(LETTERS)
