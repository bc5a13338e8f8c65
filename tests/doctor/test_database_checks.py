"""Checks of a file from inside: damage, schema, foreign keys, dead letters."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from forebay import Table, dead_letters, open_buffers, open_sqlite
from forebay.doctor import Verdict, examine
from tests.doctor.site import HITS, execute, found, problem


@pytest.mark.parametrize("contents", [b"no database" * 1000, b"SQLite format 3\0" + b"x" * 5000])
async def test_a_file_that_is_not_a_database_is_a_problem(path: Path, contents: bytes) -> None:
    """No further check of it is made."""
    path.write_bytes(contents)
    finding = await problem(path, "database")
    assert "SQLITE_NOTADB" == finding.values["error_code"]
    assert [] == await found(path, "integrity")


async def test_an_empty_database_is_a_problem(tmp_path: Path) -> None:
    """For SQLite a file without bytes is one. The path may be wrong."""
    path = tmp_path / "empty.db"
    path.touch()
    assert "the database is empty" in (await problem(path, "tables")).message
    execute(path, "PRAGMA journal_mode = wal; PRAGMA user_version = 1")
    assert 0 < path.stat().st_size
    assert "the database is empty" in (await problem(path, "tables")).message


async def test_rules_that_drop_rows_without_an_error_are_advice(path: Path) -> None:
    """In any table."""
    execute(path, "CREATE TABLE a (x INTEGER UNIQUE ON CONFLICT IGNORE)")
    [finding] = await found(path, "conflicts")
    assert Verdict.ADVICE is finding.verdict
    assert "table 'a' has a constraint with ON CONFLICT IGNORE" in finding.message


def overwrite(path: Path, page: int, contents: bytes) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(contents)


@pytest.mark.parametrize("contents", [b"\0", b"\xff"])
async def test_a_corrupt_page_is_a_problem(path: Path, contents: bytes) -> None:
    """Whether SQLite lists the faults or raises an error. The finding says what to do."""
    overwrite(path, 5, contents * 4096)
    finding = await problem(path, "integrity")
    assert {"faults"} == set(finding.values) or "SQLITE_CORRUPT" == finding.values["error_code"]
    assert "recovery.html" in finding.message
    assert [] == await found(path, "integrity", integrity="none")


async def test_a_corrupt_schema_is_a_problem(path: Path) -> None:
    """The tree of the first page cannot be read, so no further check is made."""
    overwrite(path, 1, path.read_bytes()[:100] + b"\xff" * 3996)
    finding = await problem(path, "database")
    assert "SQLITE_CORRUPT" == finding.values["error_code"]


async def test_a_truncated_file_is_a_problem(path: Path) -> None:
    """It may be a copy that was interrupted."""
    os.truncate(path, path.stat().st_size // 2)
    assert not (await examine(path)).healthy


async def test_an_index_that_lacks_entries_is_found_by_the_full_check(path: Path) -> None:
    """`quick` does not compare an index with its table."""
    execute(path, "CREATE INDEX by_count ON hits (count)")
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(
            """
            PRAGMA writable_schema = ON;
            UPDATE sqlite_schema SET sql = 'CREATE INDEX by_count ON hits (count) WHERE count < 9'
                WHERE name = 'by_count';
            """
        )
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("INSERT INTO hits VALUES ('/missing', 50)")
        raw.commit()
        raw.executescript(
            """
            PRAGMA writable_schema = ON;
            UPDATE sqlite_schema SET sql = 'CREATE INDEX by_count ON hits (count)'
                WHERE name = 'by_count';
            """
        )
    assert (await examine(path)).healthy
    assert "by_count" in (await problem(path, "integrity", integrity="full")).message


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist"])
async def test_another_journal_mode_is_advice(path: Path, mode: str) -> None:
    """A store will change it. Of these modes, the file has only that it is not WAL."""
    execute(path, f"PRAGMA journal_mode = {mode}")
    [finding] = await found(path, "journal")
    assert Verdict.ADVICE is finding.verdict
    assert {"journal_mode": "delete"} == finding.values


@pytest.mark.parametrize(
    ("size", "expected"), [(5_000_000, Verdict.ADVICE), (500_000, Verdict.OK), (0, Verdict.OK)]
)
async def test_unused_pages_are_advice(path: Path, size: int, expected: Verdict) -> None:
    """If they are most of the pages, and the file is not small."""
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("CREATE TABLE big AS SELECT zeroblob(?) AS x", (size,))
    execute(path, "DROP TABLE big")
    [finding] = await found(path, "pages")
    assert expected is finding.verdict
    assert 4096 == finding.values["page_size"]


async def test_rows_without_their_parents_are_a_problem(path: Path) -> None:
    """Counted by table and parent."""
    execute(
        path,
        """
        CREATE TABLE "vi""sits" (url TEXT REFERENCES hits (url));
        INSERT INTO "vi""sits" VALUES ('/nowhere'), ('/nowhere else'), (NULL);
        """,
    )
    finding = await problem(path, "foreign_keys")
    assert {"table": 'vi"sits', "parent": "hits", "rows": 2} == finding.values
    assert 'PRAGMA foreign_key_check("vi""sits")' in finding.message


async def test_a_table_that_differs_from_its_declaration_is_a_problem(path: Path) -> None:
    """The finding has the SQL that fixes it."""
    other = Table.from_columns({"url": str, "seen": float}, name="hits", key="url")
    finding = await problem(path, "tables", tables=[HITS, other])
    assert "has no column 'seen'" in finding.message
    assert 'ADD COLUMN "seen"' in str(finding.values["sql"])


async def make_dead_letters(path: Path) -> None:
    """Add two dead letters of one table."""
    strict = Table.from_columns({"url": str, "at": int | None}, name="visits")
    execute(path, "CREATE TABLE visits (url TEXT, at INTEGER NOT NULL)")
    async with open_sqlite(path) as store, open_buffers(store, strict) as buffers:
        await buffers[strict].enqueue_many([("/", None), ("/a", None)])


async def test_dead_letters_are_a_problem(path: Path) -> None:
    """Counted by buffer and error."""
    await make_dead_letters(path)
    finding = await problem(path, "dead_letters")
    assert ("visits", "SQLITE_CONSTRAINT_NOTNULL", 2) == tuple(
        finding.values[name] for name in ("buffer", "error_code", "count")
    )


async def test_dead_letters_without_a_table_are_a_second_problem(path: Path) -> None:
    """A replay cannot write them."""
    await make_dead_letters(path)
    execute(path, "DROP TABLE visits")
    messages = [finding.message for finding in await found(path, "dead_letters")]
    assert 2 == len(messages)
    assert messages[1].startswith("some cannot be replayed: there is no table 'visits'")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("entry = 'junk'", "1: Expecting value"),
        ("declaration = 'junk'", "1: Expecting value"),
        ("history = 'junk'", "1: the history of dead letter 1 was changed"),
    ],
)
async def test_damaged_dead_letters_are_a_second_problem(
    path: Path, change: str, expected: str
) -> None:
    """A replay skips them. One finding has all their ids, with the reasons."""
    await make_dead_letters(path)
    execute(path, f"UPDATE forebay_dead_letters SET {change} WHERE id = 1")  # noqa: S608  # ours
    counted, damaged = await found(path, "dead_letters")
    assert 2 == counted.values["count"]
    assert Verdict.PROBLEM is damaged.verdict
    assert {"unreadable": [1]} == damaged.values
    assert expected in damaged.message


async def test_a_table_without_dead_letters_is_not_a_problem(path: Path) -> None:
    """It stays when the letters are purged."""
    await make_dead_letters(path)
    async with open_sqlite(path) as store:
        await dead_letters.purge(store, buffer="visits")
    assert (await examine(path)).healthy
