"""The disk is full in the middle of a transaction: rows wait until there is room."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio

from forebay import open_buffers, open_sqlite
from forebay.stores import FailureKind
from tests.faults.harness import read
from tests.faults.tables import EVENTS, PATIENT, TABLES, Event
from tests.faults.watched import Failures

BEFORE = [Event("before", i) for i in range(10)]
LARGE = [Event("x" * 1_000, i) for i in range(600)]
"""More than half a megabyte, in several statements."""


@pytest.mark.root
@pytest.mark.parametrize(
    ("cache", "kind"), [(-2000, FailureKind.IN_DOUBT), (5, FailureKind.TRANSIENT)]
)
async def test_a_full_disk_is_waited_out(small_disk: Path, cache: int, kind: FailureKind) -> None:
    """No row of the batch is in the file while the disk is full; all are once there is room.

    Where the rows fit into SQLite's cache it is COMMIT that finds no room, else a statement before
    it; then SQLite rolls back by itself, and a further statement would commit on its own.
    """
    path, ballast = small_disk / "a.db", small_disk / "ballast"
    async with (
        open_sqlite(path, create=TABLES, pragmas={"cache_size": cache}) as store,
        open_buffers(store, EVENTS, options=PATIENT) as buffers,
        trio.open_nursery() as nursery,
    ):
        failures = Failures(store)
        await buffers[EVENTS].enqueue_many(BEFORE)
        await buffers.flush()
        ballast.write_bytes(bytes(700 * 1024))
        await buffers[EVENTS].enqueue_many(LARGE)
        nursery.start_soon(buffers.flush)
        for _ in range(3):
            error = await failures.wait()
            assert (kind, "SQLITE_FULL") == (error.kind, error.code)
            assert BEFORE == read(path, "SELECT * FROM events")
        ballast.unlink()
    assert [*BEFORE, *LARGE] == read(path, "SELECT * FROM events")


async def test_a_limit_on_pages_is_waited_out(tmp_path: Path) -> None:
    """A database that may not grow refuses in mid-transaction, and leaves none of it behind."""
    path = tmp_path / "a.db"

    def limit(raw: sqlite3.Connection, pages: int) -> None:
        raw.execute(f"PRAGMA max_page_count = {pages}")

    async with (
        open_sqlite(path, create=TABLES, pragmas={"max_page_count": 40}) as store,
        open_buffers(store, EVENTS, options=PATIENT) as buffers,
        trio.open_nursery() as nursery,
    ):
        failures = Failures(store)
        await buffers[EVENTS].enqueue_many(BEFORE)
        await buffers.flush()
        await buffers[EVENTS].enqueue_many(LARGE)
        nursery.start_soon(buffers.flush)
        for _ in range(3):
            error = await failures.wait()
            assert (FailureKind.TRANSIENT, "SQLITE_FULL") == (error.kind, error.code)
            assert BEFORE == read(path, "SELECT * FROM events")
        await store.run(limit, 10_000)
    assert [*BEFORE, *LARGE] == read(path, "SELECT * FROM events")
