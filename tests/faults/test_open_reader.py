"""While a reader stays open, commits continue, and the WAL grows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from forebay import open_buffers, open_sqlite
from tests.faults.tables import EVENTS, PATIENT, TABLES, Event
from tests.log_records import own_records


async def test_commits_continue_while_a_reader_is_open(tmp_path: Path) -> None:
    """Many times the usual size of a WAL is committed. The reader still sees its snapshot."""
    path, wal = tmp_path / "a.db", tmp_path / "a.db-wal"
    checkpoint = 20
    bound = 3 * checkpoint * 4096
    async with (
        open_sqlite(path, create=TABLES, pragmas={"wal_autocheckpoint": checkpoint}) as store,
        open_buffers(store, EVENTS, options=PATIENT) as buffers,
    ):
        events = buffers[EVENTS]
        await events.write(Event("before", 0))
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert [(1,)] == reader.execute("SELECT count(*) FROM events").fetchall()
            for i in range(200):
                await events.write(Event("x" * 3000, i))
            assert [(1,)] == reader.execute("SELECT count(*) FROM events").fetchall()
            assert [(201,)] == await store.fetch_all("SELECT count(*) FROM events")
            grown = wal.stat().st_size
            assert grown == store.wal_size()
        assert grown > bound
        # SQLite now reuses the WAL from its start, so that it stops growing.
        for i in range(200):
            await events.write(Event("y" * 3000, i))
        assert wal.stat().st_size <= grown + bound
        now = events.statistics()
    assert (401, 0, 0) == (now.committed, now.pending, now.retries)


async def test_a_wal_above_its_limit_logs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning has the file and the likely cause. It is repeated when the size has doubled."""
    path = tmp_path / "a.db"
    async with (
        open_sqlite(path, create=TABLES, wal_warning=100_000) as store,
        open_buffers(store, EVENTS, options=PATIENT) as buffers,
    ):
        events = buffers[EVENTS]
        await events.write(Event("before", 0))
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchall()
            while (store.wal_size() or 0) < 150_000:
                await events.write(Event("x" * 3000, 1))
            assert 1 == len(own_records(caplog))
            while (store.wal_size() or 0) < 250_000:
                await events.write(Event("x" * 3000, 1))
    assert [("forebay.stores.sqlite._files", "WARNING")] * 2 == [
        (record.name, record.levelname) for record in own_records(caplog)
    ]
    first, second = [record.getMessage() for record in own_records(caplog)]
    assert first.startswith(f"the WAL of {str(path)!r} has grown to 0 MiB: a reader")
    assert first == second


async def test_a_wal_that_grows_again_after_a_truncation_is_warned_of_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The second warning comes at the limit, although the log was larger the first time."""
    path, limit = tmp_path / "a.db", 100_000
    async with (
        open_sqlite(path, create=TABLES, wal_warning=limit) as store,
        open_buffers(store, EVENTS, options=PATIENT) as buffers,
    ):
        sizes = []
        for _ in range(3):
            caplog.clear()
            with closing(sqlite3.connect(path, isolation_level=None)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM events").fetchall()
                while not own_records(caplog) and (store.wal_size() or 0) < 4 * limit:
                    await buffers[EVENTS].write(Event("x" * 3000, 1))
                sizes.append(store.wal_size() or 0)
                reader.execute("ROLLBACK")
                reader.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            assert 0 == store.wal_size()
    assert all(limit < size < 2 * limit for size in sizes), sizes
