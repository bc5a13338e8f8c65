"""A file that is damaged or not a database: a clear error that names the entries, no repair."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio

from forebay import FlushError, StoreError, Write, dead_letters, open_buffers, open_sqlite
from forebay.doctor import Verdict, examine
from tests.faults.tables import ENTRIES, EVENTS, PATIENT, TABLES, Entry, Event

PAGE = 4096


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"key,grp,value\n" * 1000, id="text"),
        pytest.param(b"\x00" * 3 * PAGE, id="zeros"),
        pytest.param(b"SQLite format 3\x00" + b"\xff" * 3 * PAGE, id="a header and garbage"),
    ],
)
async def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """When it is opened. The error names the file, which is not changed."""
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.db"):
        async with open_sqlite(path, create=TABLES):
            raise AssertionError
    assert content == path.read_bytes()


async def test_a_schema_that_is_not_valid_utf_8_is_refused(tmp_path: Path) -> None:
    """SQLite's message quotes it, so Python cannot decode the message: also an error of forebay."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE entries (key TEXT PRIMARY KEY)")
    path.write_bytes(path.read_bytes().replace(b"TABLE", b"TA\xd7LE"))
    with pytest.raises(StoreError, match=r"a\.db' cannot be .*can't decode"):
        async with open_sqlite(path, create=TABLES):
            raise AssertionError
    with pytest.raises(StoreError, match=r"a\.db'.*can't decode"):
        async with dead_letters.open_reader(path) as reader:
            await dead_letters.fetch(reader)
    report = await examine(path)
    assert ["database"] == [f.check for f in report.findings if f.verdict is Verdict.PROBLEM]


async def test_a_column_type_that_is_not_valid_utf_8_is_refused_by_the_buffers(
    tmp_path: Path,
) -> None:
    """They read the schema when they open. The error is one of forebay's, and names the file."""
    path = tmp_path / "a.db"
    async with open_sqlite(path, create=TABLES) as store:
        await store.run(lambda raw: raw.execute("DROP TABLE entries").close())
        await store.run(
            lambda raw: raw.execute(
                "CREATE TABLE entries (key TEXTX PRIMARY KEY, grp, value)"
            ).close()
        )
    path.write_bytes(path.read_bytes().replace(b"TEXTX", b"TEXT\xd7"))
    with pytest.raises(StoreError, match=r"a\.db': Could not decode"):
        async with open_sqlite(path) as store, open_buffers(store, ENTRIES):
            raise AssertionError


def damage(path: Path) -> None:
    """Overwrite all pages but the first, while connections have the file open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        # After a commit of another connection, the writer reads all pages again.
        raw.execute("INSERT INTO events VALUES ('other', 0)")
        assert (0, 0, 0) == raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(PAGE)
        file.write(b"\xa5" * (size - PAGE))


async def test_damaged_pages_stop_the_buffer(tmp_path: Path) -> None:
    """The error names the entries of the buffer; nothing is acknowledged."""
    path = tmp_path / "a.db"
    rows = [Entry(f"k{i}", 0, i) for i in range(10)]
    with pytest.raises(FlushError, match="SQLITE_CORRUPT") as raised:
        async with (
            open_sqlite(path, create=TABLES) as store,
            open_buffers(store, ENTRIES, options=PATIENT) as buffers,
        ):
            await buffers[ENTRIES].write(Entry("before", 0, 0))
            damage(path)
            await buffers[ENTRIES].enqueue_many(rows)
            with pytest.raises(trio.BrokenResourceError):
                await buffers.flush()
    assert tuple(Write(tuple(row)) for row in rows) == raised.value.unsettled.entries
    assert isinstance(raised.value.__cause__, sqlite3.DatabaseError)


async def test_a_truncated_file_stops_the_buffer(tmp_path: Path) -> None:
    """The error names the entries of the buffer."""
    path = tmp_path / "a.db"
    with pytest.raises(FlushError) as raised:
        async with (
            open_sqlite(path, create=TABLES) as store,
            open_buffers(store, EVENTS, options=PATIENT) as buffers,
        ):
            damage(path)
            with path.open("r+b") as file:
                file.truncate(PAGE)
            await buffers[EVENTS].enqueue(Event("lost", 1))
    assert (Write(("lost", 1)),) == raised.value.unsettled.entries
