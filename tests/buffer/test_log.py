"""The log records of a buffer: when, at which level, how often, and without values of rows."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock

from forebay import (
    BufferOptions,
    DrainError,
    FlushError,
    RetryPolicy,
    Table,
    Write,
    open_buffers,
    open_sqlite,
)
from forebay.stores import BatchError, FailureKind
from forebay.testing import MemoryStore
from tests.log_records import own_records

LOGGER = "forebay._buffer.log"
INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR


class Letter(NamedTuple):
    name: str


LETTERS = Table(Letter, name="letters")
OPTIONS = BufferOptions(retry=RetryPolicy(initial_delay=0.5, max_delay=2, jitter=0))
SUSPEND = OPTIONS.override({"on_failure": "suspend"})

BUSY = BatchError("SQLITE_BUSY: locked", kind=FailureKind.TRANSIENT, code="SQLITE_BUSY")
MISSING = BatchError("SQLITE_ERROR: no such table", kind=FailureKind.FATAL, code="SQLITE_ERROR")

Records = list[tuple[int, Any]]
"""The level and the values of each record of a buffer so far."""


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[Records]:
    shown: Records = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.append((record.levelno, record.args))

    handler, logger = Handler(), logging.getLogger(LOGGER)
    with caplog.at_level(logging.DEBUG, "forebay"):
        logger.addHandler(handler)
        yield shown
        logger.removeHandler(handler)


async def test_a_flush_that_succeeds_at_once_is_not_logged(
    autojump_clock: MockClock, records: Records
) -> None:
    """A healthy buffer writes nothing to the log."""
    async with open_buffers(MemoryStore(), LETTERS) as buffers:
        await buffers[LETTERS].write(Letter("a"))
    assert [] == records


# Retries


async def test_a_retry_is_logged_when_it_begins_and_when_it_is_over(
    autojump_clock: MockClock, records: Records
) -> None:
    """With the attempt, the next delay and the error; then with all attempts and the duration."""
    store = MemoryStore(delay=0.25)
    store.fail_next(BUSY, times=3)
    async with open_buffers(store, LETTERS, options=OPTIONS) as buffers:
        await buffers[LETTERS].write(Letter("a"))
        await buffers[LETTERS].write(Letter("b"))
    assert [
        (WARNING, ("letters", 1, 0.5, "SQLITE_BUSY: locked")),
        (INFO, ("letters", 4, 4.5)),
    ] == records


async def test_a_long_retry_is_logged_once_a_minute(
    autojump_clock: MockClock, records: Records
) -> None:
    """With the number of the attempt."""
    store = MemoryStore()
    store.fail_next(BUSY, times=200)
    async with open_buffers(store, LETTERS, options=OPTIONS) as buffers:
        await buffers[LETTERS].write(Letter("a"))
    assert 397.5 == trio.current_time()
    assert [
        *((WARNING, ("letters", n, 2.0, str(BUSY))) for n in (33, 63, 93, 123, 153, 183)),
        (INFO, ("letters", 201, 397.5)),
    ] == records[1:]


async def test_flushes_that_are_retried_one_after_another_log_once_a_second(
    autojump_clock: MockClock, records: Records
) -> None:
    """Under contention each of them may fail once."""
    store = MemoryStore()
    options = OPTIONS.override({"retry": {"initial_delay": 0.25}})
    async with open_buffers(store, LETTERS, options=options) as buffers:
        for _ in range(40):
            store.fail_next(BUSY)
            await buffers[LETTERS].write(Letter("a"))
    assert 10.0 == trio.current_time()
    assert [WARNING, INFO] * 10 == [level for level, _ in records]


# Refused rows


async def test_refused_rows_are_logged_with_their_codes_and_the_first_dead_letter(
    autojump_clock: MockClock, records: Records
) -> None:
    """One record for a batch."""
    store = MemoryStore()
    store.refuse(lambda asked: asked in {Write(("bad",)), Write(("worse",))})
    async with open_buffers(store, LETTERS) as buffers:
        await buffers[LETTERS].enqueue_many(map(Letter, ("a", "bad", "b", "worse")))
        await buffers.flush()
        assert [(WARNING, ("letters", "2 entries", "SCRIPTED: 2", 1))] == records


async def test_refused_rows_are_logged_once_a_second(
    autojump_clock: MockClock, records: Records
) -> None:
    """The next record counts those since the last one, and the last ones come at the end."""
    store = MemoryStore()
    store.refuse(lambda asked: asked == Write(("bad",)))
    async with open_buffers(store, LETTERS) as buffers:
        for _ in range(12):
            await buffers[LETTERS].enqueue(Letter("bad"))
            await buffers.flush()
            await trio.sleep(0.25)
        await trio.sleep(1)
        await buffers[LETTERS].write(Letter("good"))
        await buffers[LETTERS].enqueue(Letter("bad"))
        await buffers.flush()
    assert [
        (WARNING, ("letters", "1 entry", "SCRIPTED: 1", 1)),
        (WARNING, ("letters", "4 entries", "SCRIPTED: 4", 2)),
        (WARNING, ("letters", "4 entries", "SCRIPTED: 4", 6)),
        (WARNING, ("letters", "3 entries", "SCRIPTED: 3", 10)),
        (WARNING, ("letters", "1 entry", "SCRIPTED: 1", 13)),
    ] == records


# The end


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(MISSING, "SQLITE_ERROR: no such table"), (ZeroDivisionError("secret"), "ZeroDivisionError")],
)
async def test_a_buffer_that_stops_is_an_error(
    autojump_clock: MockClock, records: Records, failure: BaseException, reason: str
) -> None:
    """The text of an unknown exception may have values of rows, so its type stands for it."""
    store = MemoryStore()
    store.fail_next(failure)
    with pytest.raises(FlushError):
        async with open_buffers(store, LETTERS, options=OPTIONS) as buffers:
            await buffers[LETTERS].enqueue_many([Letter("a"), Letter("b")])
    assert [(ERROR, ("letters", "1 attempt", "2 accepted entries", "are", reason))] == records


async def test_a_buffer_that_stops_after_retries(
    autojump_clock: MockClock, records: Records
) -> None:
    """The error has the number of attempts."""
    store = MemoryStore()
    store.fail_next(BUSY, times=3)
    options = OPTIONS.override({"retry": {"max_attempts": 3}})
    with pytest.raises(FlushError):
        async with open_buffers(store, LETTERS, options=options) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
    assert [
        (ERROR, ("letters", "3 attempts", "1 accepted entry", "is", "SQLITE_BUSY: locked"))
    ] == records[1:]


async def test_a_drain_that_gives_up_is_a_warning(
    autojump_clock: MockClock, records: Records
) -> None:
    """It has the age of the oldest entry in seconds, and the last error if attempts failed."""
    store = MemoryStore()
    store.fail_next(BUSY, times=99)
    options = OPTIONS.override({"drain_timeout": 3})
    with pytest.raises(DrainError):
        async with open_buffers(store, LETTERS, options=options) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
    assert [
        (WARNING, ("letters", "1 accepted entry", "is", 3.0, "SQLITE_BUSY: locked"))
    ] == records[1:]
    records.clear()
    with pytest.raises(DrainError):
        async with open_buffers(store, LETTERS, options=options) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            buffers.give_up()
    assert [(WARNING, ("letters", "1 accepted entry", "is", 0.0, None))] == records


async def test_a_written_spill_is_a_warning(
    autojump_clock: MockClock, records: Records, tmp_path: Path
) -> None:
    """It has the path of the file and the number of operations."""
    store, spill = MemoryStore(), tmp_path / "left.spill"
    store.stop()
    options = OPTIONS.override({"drain_timeout": 0})
    with pytest.raises(DrainError):
        async with open_buffers(store, LETTERS, options=options, spill=spill) as buffers:
            await buffers[LETTERS].enqueue_many([Letter("a"), Letter("b")])
    assert (WARNING, (str(spill), "2 operations")) == records[-1]


async def test_a_spill_that_cannot_be_written_is_an_error(
    autojump_clock: MockClock, records: Records, tmp_path: Path
) -> None:
    """It has the path and the error of the system."""
    folder = tmp_path / "folder"
    folder.mkdir()
    store, spill = MemoryStore(), folder / "left.spill"
    store.stop()
    options = OPTIONS.override({"drain_timeout": 0})
    with pytest.raises(DrainError):
        async with open_buffers(store, LETTERS, options=options, spill=spill) as buffers:
            await buffers[LETTERS].enqueue_many([Letter("a"), Letter("b")])
            folder.rmdir()
    level, (path, error) = records[-1]
    assert (ERROR, str(spill), FileNotFoundError) == (level, path, type(error))


# Suspended buffers


async def test_a_suspension_is_logged_from_its_begin_to_its_end(
    autojump_clock: MockClock, records: Records
) -> None:
    """An error when it begins, a warning once a minute, and an information when it is over."""
    store = MemoryStore()
    store.fail_next(MISSING, times=70)
    async with open_buffers(store, LETTERS, options=SUSPEND) as buffers:
        await buffers[LETTERS].write(Letter("a"))
        assert 140.0 == trio.current_time()
        assert [
            (ERROR, ("letters", 1, "1 entry", 2.0, "SQLITE_ERROR: no such table")),
            (WARNING, ("letters", 31, "1 entry", "SQLITE_ERROR: no such table")),
            (WARNING, ("letters", 61, "1 entry", "SQLITE_ERROR: no such table")),
            (INFO, ("letters", 71, 140.0)),
        ] == records
        records.clear()
        store.fail_next(MISSING)
        await buffers[LETTERS].write(Letter("b"))
        assert [ERROR, INFO] == [level for level, _ in records]


# What no record may do


async def test_no_record_has_a_value_of_a_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither for refused rows, nor for a flood of them, although the error has the value."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE letters (name TEXT PRIMARY KEY CHECK (length(name) < 9))")
    text = "a secret text"
    options = OPTIONS.override({"dead_letters_per_minute": 1})
    caplog.set_level(logging.INFO, logger="forebay")
    with pytest.raises(FlushError, match=text):
        async with (
            open_sqlite(path) as store,
            open_buffers(store, LETTERS, options=options, spill=tmp_path / "spill") as buffers,
        ):
            await buffers[LETTERS].enqueue(Letter(text))
            await buffers.flush()
            await buffers[LETTERS].enqueue_many([Letter(text), Letter(text)])
    assert [WARNING, ERROR, WARNING] == [record.levelno for record in own_records(caplog)]
    assert "secret" not in caplog.text


async def test_a_handler_that_raises_stops_no_buffer(autojump_clock: MockClock) -> None:
    """Each row is committed, and the drain ends as it would without a log."""

    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(record.getMessage())

    handler = Raising()
    logging.getLogger(LOGGER).addHandler(handler)
    try:
        store = MemoryStore()
        store.fail_next(MISSING)
        store.fail_next(BUSY)
        store.refuse(lambda asked: asked == Write(("bad",)))
        async with open_buffers(store, LETTERS, options=SUSPEND) as buffers:
            await buffers[LETTERS].enqueue_many([Letter("a"), Letter("bad")])
            await buffers.flush()
            store.fail_next(BUSY)
            await buffers[LETTERS].write(Letter("b"))
    finally:
        logging.getLogger(LOGGER).removeHandler(handler)
    assert [("a",), ("b",)] == store.rows(LETTERS)
