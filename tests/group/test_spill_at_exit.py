"""`open_buffers(spill=…)`: the entries that the error at exit names are also in a file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock

from forebay import (
    BufferOptions,
    Delete,
    DrainError,
    FlushError,
    OptionsError,
    Table,
    Write,
    open_buffers,
    open_sqlite,
)
from forebay._database import Database
from forebay._spill.reading import read_spill
from forebay.stores import FailureKind
from forebay.testing import MemoryStore


class Letter(NamedTuple):
    name: str
    size: int


LETTERS = Table(Letter, name="letters", key="name")
OTHERS = Table(Letter, name="others", key="name")
AT_ONCE = BufferOptions(drain_timeout=0.0)


async def test_a_drain_that_is_late_writes_a_spill(tmp_path: Path) -> None:
    """The entries that `DrainError` names are in the spill, by table, in order."""
    path = tmp_path / "left.spill"
    store = MemoryStore()
    store.stop()
    with pytest.raises(DrainError) as caught:
        async with open_buffers(store, LETTERS, OTHERS, options=AT_ONCE, spill=path) as buffers:
            await buffers[LETTERS].enqueue(Letter("a", 1))
            await buffers[LETTERS].enqueue_delete("b")
            await buffers[OTHERS].enqueue(Letter("c", 3))
    spill = read_spill(path)
    assert {"letters": [Delete("b"), Write(("a", 1))], "others": [Write(("c", 3))]} == {
        table.name: list(operations) for table, operations in spill.unsettled.items()
    }
    assert str(path) == caught.value.spill
    assert (
        f"They are kept in the file {str(path)!r} and in this error's `unsettled`. Find out what "
        f"blocks the database, or raise BufferOptions.drain_timeout, then replay them with "
        f"`forebay dead-letters replay DB --spill FILE`."
    ) == str(caught.value).splitlines()[-1]


async def test_a_cancelled_program_that_drains_late_writes_a_spill(tmp_path: Path) -> None:
    """Cancellation from outside the block cuts the spill no shorter than the drain."""
    path = tmp_path / "left.spill"
    store = MemoryStore()
    store.stop()
    late: DrainError | None = None
    with trio.CancelScope() as program:
        try:
            async with open_buffers(store, LETTERS, options=AT_ONCE, spill=path) as buffers:
                await buffers[LETTERS].enqueue(Letter("a", 1))
                program.cancel()
                await trio.lowlevel.checkpoint()
        except DrainError as error:
            late = error
    assert late is not None
    assert str(path) == late.spill
    assert [[Write(("a", 1))]] == [list(each) for each in read_spill(path).unsettled.values()]


async def test_a_spill_names_its_database(tmp_path: Path) -> None:
    """It has the path of the database and its id, which stays the same in the next program."""
    path = tmp_path / "a.db"
    link = tmp_path / "link.db"
    path.touch()
    link.symlink_to(path)
    named: list[Database | None] = []
    for spill in (tmp_path / "first.spill", tmp_path / "second.spill"):
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            with pytest.raises(DrainError):
                async with (
                    open_sqlite(link, create=[LETTERS], busy_timeout=0.001) as store,
                    open_buffers(store, LETTERS, options=AT_ONCE, spill=spill) as buffers,
                ):
                    other.execute("BEGIN IMMEDIATE")
                    await buffers[LETTERS].enqueue(Letter("a", 1))
            [(known,)] = other.execute("SELECT id FROM forebay_database")
        named.append(read_spill(spill).database)
        assert Database(str(path.resolve()), known) == named[-1]
    assert named[0] == named[1]


async def test_without_a_spill_the_database_gets_no_id(tmp_path: Path) -> None:
    """Without `spill`, `open_buffers` creates no table in the database."""
    path = tmp_path / "a.db"
    async with open_sqlite(path, create=[LETTERS]) as store, open_buffers(store, LETTERS):
        pass
    with closing(sqlite3.connect(path)) as raw:
        assert [("letters",)] == raw.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table'"
        ).fetchall()


async def test_a_buffer_that_fails_writes_a_spill(tmp_path: Path) -> None:
    """The spill has the entries that `FlushError` names, and none of other buffers."""
    path = tmp_path / "left.spill"
    store = MemoryStore()
    store.fail_next(FailureKind.FATAL)
    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, LETTERS, OTHERS, spill=path) as buffers:
            await buffers[LETTERS].enqueue(Letter("a", 1))
            await buffers[LETTERS].flush()
    spill = read_spill(path)
    assert {"letters": [Write(("a", 1))]} == {
        table.name: list(operations) for table, operations in spill.unsettled.items()
    }
    assert "scripted: fatal" == spill.reason
    assert f"They are kept in the file {str(path)!r} and in this error's" in str(caught.value)


async def test_a_drain_that_succeeds_writes_no_spill(tmp_path: Path) -> None:
    """If all entries are settled, there is no file."""
    async with open_buffers(MemoryStore(), LETTERS, spill=tmp_path / "left.spill") as buffers:
        await buffers[LETTERS].enqueue(Letter("a", 1))
    assert [] == list(tmp_path.iterdir())


async def test_a_spill_that_cannot_be_written_is_noted(tmp_path: Path) -> None:
    """A note on the error and its advice say so. The error has the entries."""
    store = MemoryStore()
    store.stop()
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(DrainError) as caught:
        async with open_buffers(
            store, LETTERS, options=AT_ONCE, spill=folder / "left.spill"
        ) as buffers:
            await buffers[LETTERS].enqueue(Letter("a", 1))
            folder.rmdir()
    assert (Write(("a", 1)),) == caught.value.unsettled["letters"].entries
    [note] = caught.value.__notes__
    assert "in no file: writing the spill failed with FileNotFoundError" in note
    assert caught.value.spill is None
    assert caught.value.spill_failed
    assert "spill=" not in str(caught.value)  # one was asked for: the advice must be another


@pytest.mark.parametrize("path", ["", ".", "a\0b", "\ud800", "no such folder/left.spill"])
async def test_a_path_to_which_no_spill_can_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """At the opening, before anything is accepted or the database gets an id."""
    monkeypatch.chdir(tmp_path)
    async with open_sqlite("a.db", create=[LETTERS]) as store:
        with pytest.raises(OptionsError, match=r"^spill = ") as caught:
            async with open_buffers(store, LETTERS, spill=path):
                raise AssertionError
        assert repr(path) in str(caught.value)
        sql = "SELECT name FROM sqlite_schema WHERE type = 'table'"
        assert [("letters",)] == await store.fetch_all(sql)


async def test_a_path_is_relative_to_the_folder_of_the_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the program, such as a daemon, changes its current folder later."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = MemoryStore()
    store.stop()
    with pytest.raises(DrainError) as caught:
        async with open_buffers(store, LETTERS, options=AT_ONCE, spill="left.spill") as buffers:
            await buffers[LETTERS].enqueue(Letter("a", 1))
            os.chdir(tmp_path / "elsewhere")
    assert str(tmp_path / "left.spill") == caught.value.spill
    assert 1 == read_spill(caught.value.spill).entries


async def test_a_cancelled_program_leaves_a_spill(tmp_path: Path) -> None:
    """The cancellation that ends the block does not cut the writing short."""
    path = tmp_path / "left.spill"
    store = MemoryStore()
    store.stop()
    with trio.CancelScope() as scope:
        with pytest.raises(DrainError) as caught:
            async with open_buffers(store, LETTERS, options=AT_ONCE, spill=path) as buffers:
                await buffers[LETTERS].enqueue(Letter("a", 1))
                scope.cancel()
                await trio.sleep_forever()
        assert str(path) == caught.value.spill
    assert 1 == read_spill(path).entries


async def test_threads_of_the_program_do_not_delay_a_spill(tmp_path: Path) -> None:
    """The spill is written while all threads of Trio's limiter are in use."""
    path = tmp_path / "left.spill"
    store = MemoryStore()
    store.stop()
    limiter = trio.to_thread.current_default_thread_limiter()
    for borrower in range(int(limiter.total_tokens)):
        limiter.acquire_on_behalf_of_nowait(borrower)
    try:
        with pytest.raises(DrainError) as caught:
            async with open_buffers(store, LETTERS, options=AT_ONCE, spill=path) as buffers:
                await buffers[LETTERS].enqueue(Letter("a", 1))
    finally:
        for borrower in range(int(limiter.total_tokens)):
            limiter.release_on_behalf_of(borrower)
    assert str(path) == caught.value.spill


async def test_a_row_refused_for_its_size_makes_a_flush_due(autojump_clock: MockClock) -> None:
    """An `enqueue` without room for its bytes makes the buffer flush before the interval."""
    del autojump_clock
    store = MemoryStore()
    options = BufferOptions(capacity_bytes=1_000, flush_interval=float("inf"))
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffer = buffers[LETTERS]
        await buffer.enqueue(Letter("a" * 600, 1))
        await buffer.enqueue(Letter("b" * 600, 1))
        assert 1 == len(store.batches)
