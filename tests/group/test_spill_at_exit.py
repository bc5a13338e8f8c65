"""`open_buffers(spill=…)`: what the error at exit names is in a file too."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from trio.testing import MockClock

from forebay import (
    BufferOptions,
    Delete,
    DrainError,
    FlushError,
    Table,
    Write,
    open_buffers,
    open_sqlite,
)
from forebay._database import Database
from forebay._spill import read_spill
from forebay.stores import FailureKind
from forebay.testing import MemoryStore


class Letter(NamedTuple):
    name: str
    size: int


LETTERS = Table(Letter, name="letters", key="name")
OTHERS = Table(Letter, name="others", key="name")
AT_ONCE = BufferOptions(drain_timeout=0.0)


async def test_a_drain_that_is_late_leaves_a_file(tmp_path: Path) -> None:
    """The entries that `DrainError` names are in the file, by table, in their order."""
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


async def test_a_spill_names_the_file_that_its_entries_were_for(tmp_path: Path) -> None:
    """By its path and an id that is in the file, found again by the next program."""
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


async def test_no_id_without_need(tmp_path: Path) -> None:
    """A program that names no file for a spill has no further table in its database."""
    path = tmp_path / "a.db"
    async with open_sqlite(path, create=[LETTERS]) as store, open_buffers(store, LETTERS):
        pass
    with closing(sqlite3.connect(path)) as raw:
        assert [("letters",)] == raw.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table'"
        ).fetchall()


async def test_a_buffer_that_fails_leaves_a_file(tmp_path: Path) -> None:
    """The entries that `FlushError` names are in the file; those of sound buffers are not."""
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


async def test_no_file_without_need(tmp_path: Path) -> None:
    """A drain that settles everything writes no file."""
    async with open_buffers(MemoryStore(), LETTERS, spill=tmp_path / "left.spill") as buffers:
        await buffers[LETTERS].enqueue(Letter("a", 1))
    assert [] == list(tmp_path.iterdir())


async def test_a_spill_that_fails_is_told(tmp_path: Path) -> None:
    """Where the file cannot be written the error says so, and has the entries still."""
    store = MemoryStore()
    store.stop()
    with pytest.raises(DrainError) as caught:
        async with open_buffers(
            store, LETTERS, options=AT_ONCE, spill=tmp_path / "no such folder" / "left.spill"
        ) as buffers:
            await buffers[LETTERS].enqueue(Letter("a", 1))
    assert (Write(("a", 1)),) == caught.value.unsettled["letters"].entries
    [note] = caught.value.__notes__
    assert "in no file: writing the spill failed with FileNotFoundError" in note


async def test_a_row_refused_for_its_size_makes_a_flush_due(autojump_clock: MockClock) -> None:
    """`enqueue_nowait` that finds too few bytes left has the buffer flush, timer or not."""
    del autojump_clock
    store = MemoryStore()
    options = BufferOptions(capacity_bytes=1_000, flush_interval=float("inf"))
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffer = buffers[LETTERS]
        await buffer.enqueue(Letter("a" * 600, 1))
        await buffer.enqueue(Letter("b" * 600, 1))
        assert 1 == len(store.batches)
