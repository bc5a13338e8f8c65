"""A database that cannot be written: a clear error at opening, or one that names the entries."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from forebay import FlushError, StoreError, Write, open_buffers, open_sqlite
from tests.faults.harness import mounted, read
from tests.faults.tables import ENTRIES, PATIENT, TABLES, Entry


async def existing(path: Path) -> Path:
    path.parent.mkdir()
    async with open_sqlite(path, create=TABLES):
        pass
    return path


@pytest.mark.root
async def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    """When the store opens, before an entry is accepted."""
    path = await existing(tmp_path / "folder" / "a.db")
    with mounted(tmp_path / "view", "--bind", "-o", "ro", str(path.parent)) as view:
        with pytest.raises(StoreError, match=r"a\.db"):
            async with open_sqlite(view / path.name, create=TABLES):
                raise AssertionError
        with pytest.raises((OSError, StoreError), match=r"new\.db"):
            async with open_sqlite(view / "new.db", create=TABLES):
                raise AssertionError


async def test_a_connection_that_cannot_write_is_refused(tmp_path: Path) -> None:
    """BEGIN IMMEDIATE succeeds on it all the same, so the store tries to write when it opens."""
    path = await existing(tmp_path / "folder" / "a.db")
    with pytest.raises(StoreError, match="cannot be written"):
        async with open_sqlite(path, pragmas={"query_only": 1}):
            raise AssertionError


async def test_a_database_that_becomes_read_only_stops_the_buffer(tmp_path: Path) -> None:
    """Waiting does not help, so the error names the entries at once."""
    path = await existing(tmp_path / "folder" / "a.db")

    def forbid(raw: sqlite3.Connection) -> None:
        raw.execute("PRAGMA query_only = 1")

    with pytest.raises(FlushError, match="SQLITE_READONLY") as raised:
        async with (
            open_sqlite(path) as store,
            open_buffers(store, ENTRIES, options=PATIENT) as buffers,
        ):
            await store.run(forbid)
            await buffers[ENTRIES].enqueue(Entry("lost", 0, 0))
    assert (Write(("lost", 0, 0)),) == raised.value.unsettled.entries
    assert [] == read(path, "SELECT * FROM entries")
