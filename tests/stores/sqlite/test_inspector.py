"""The inspector reads without locks, and reads again if a program wrote meanwhile."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from forebay.stores.sqlite import _inspector
from forebay.stores.sqlite._inspector import open_inspector

BUSY_TIMEOUT = 5.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database in WAL mode that no program has open."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = wal")
        raw.execute("CREATE TABLE numbers (n INTEGER)")
    return path


def insert(path: Path, number: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("INSERT INTO numbers VALUES (?)", (number,))


def count(raw: sqlite3.Connection) -> int:
    [(rows,)] = raw.execute("SELECT count(*) FROM numbers").fetchall()
    return int(rows)


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


async def test_no_file_is_created_beside_a_database(path: Path) -> None:
    """As long as it is open, and afterwards."""
    async with open_inspector(path, busy_timeout=BUSY_TIMEOUT) as inspector:
        assert [(0,)] == await inspector.fetch_all("SELECT count(*) FROM numbers")
        assert inspector.immutable
        assert ["a.db"] == names(path)
    assert ["a.db"] == names(path)


async def test_a_call_is_repeated_if_the_file_was_written_meanwhile(path: Path) -> None:
    """Whether the other program has closed the file again or not."""
    seen: list[int] = []

    def count_and_insert(raw: sqlite3.Connection) -> int:
        seen.append(count(raw))
        if len(seen) < 3:
            insert(path, len(seen))
        return seen[-1]

    async with open_inspector(path, busy_timeout=BUSY_TIMEOUT) as inspector:
        assert 2 == await inspector.run(count_and_insert)
        assert [0, 1, 2] == seen
        insert(path, 3)
        assert 3 == await inspector.run(count)
    assert ["a.db"] == names(path)


async def test_a_program_that_has_the_file_open_is_read_with_locks(path: Path) -> None:
    """It opens the file during a call: the WAL has its rows."""
    opened: list[sqlite3.Connection] = []

    def open_and_count(raw: sqlite3.Connection) -> int:
        rows = count(raw)
        if not opened:
            opened.append(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
            opened[0].execute("INSERT INTO numbers VALUES (1)")
        return rows

    async with open_inspector(path, busy_timeout=BUSY_TIMEOUT) as inspector:
        assert 1 == await inspector.run(open_and_count)
        assert not inspector.immutable
    opened[0].close()
    assert ["a.db"] == names(path)


async def test_an_error_of_a_stale_call_is_not_raised(path: Path) -> None:
    """Pages of two transactions may look corrupt together."""
    calls = 0

    def fail_once(raw: sqlite3.Connection) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            insert(path, 1)
            raise sqlite3.DatabaseError("database disk image is malformed")
        return count(raw)

    async with open_inspector(path, busy_timeout=BUSY_TIMEOUT) as inspector:
        assert 1 == await inspector.run(fail_once)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await inspector.fetch_all("SELECT * FROM missing")


async def test_a_file_that_is_written_all_the_time_is_read_with_locks(path: Path) -> None:
    """After some calls without locks."""
    calls = 0

    def insert_and_count(raw: sqlite3.Connection) -> int:
        nonlocal calls
        calls += 1
        insert(path, calls)
        return count(raw)

    async with open_inspector(path, busy_timeout=BUSY_TIMEOUT) as inspector:
        assert _inspector._UNLOCKED_CALLS + 1 == await inspector.run(insert_and_count)
        assert not inspector.immutable


async def test_a_file_that_this_process_has_open_is_not_opened_apart_from_sqlite(
    path: Path,
) -> None:
    """To close it would end the locks of this process: another one could then write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = delete")
        raw.execute("BEGIN IMMEDIATE")
        async with open_inspector(path, busy_timeout=BUSY_TIMEOUT) as inspector:
            assert 0 == await inspector.run(count)
        program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], 0).execute('BEGIN IMMEDIATE')"
        other = subprocess.run(
            [sys.executable, "-c", program, path], check=False, capture_output=True, text=True
        )
        assert "database is locked" in other.stderr


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
async def test_the_real_file_of_a_link_decides(path: Path, journal_mode: str) -> None:
    """SQLite keeps the WAL beside the real file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute(f"PRAGMA journal_mode = {journal_mode}")
        link = path.with_name("link.db")
        link.symlink_to(path)
        raw.execute("INSERT INTO numbers VALUES (1)")
        async with open_inspector(link, busy_timeout=BUSY_TIMEOUT) as inspector:
            assert 1 == await inspector.run(count)
            assert not inspector.immutable
    async with open_inspector(link, busy_timeout=BUSY_TIMEOUT) as inspector:
        assert 1 == await inspector.run(count)
        assert (journal_mode == "wal") == inspector.immutable
