"""The disk is full in the middle of a transaction: the rows wait until there is space."""

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
"""More than 0.5 MB, written by several statements."""


@pytest.mark.root
@pytest.mark.parametrize(
    ("cache", "kind"), [(-2000, FailureKind.IN_DOUBT), (5, FailureKind.TRANSIENT)]
)
async def test_rows_wait_until_a_full_disk_has_space(
    small_disk: Path, cache: int, kind: FailureKind
) -> None:
    """While the disk is full, no row of the batch is in the file. Afterwards all are.

    If the rows fit into SQLite's cache, COMMIT fails. Otherwise a statement before it fails; then
    SQLite rolls back by itself, and each further statement would be committed alone.
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


async def test_rows_wait_until_a_limit_of_pages_is_raised(tmp_path: Path) -> None:
    """A database that may not grow fails in the middle of a transaction, and keeps no row of it."""
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
