"""TEMP tables, views and triggers that a program makes in `store.run` change no table of the file.

SQLite looks up a name without a schema among the TEMP objects first.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from forebay import (
    Buffer,
    BufferOptions,
    SchemaError,
    SqliteStore,
    Sum,
    Table,
    Write,
    dead_letters,
    open_buffers,
    open_sqlite,
)
from forebay._spill.writing import write_spill
from tests.log_records import own_records
from tests.stores.sqlite.another_connection import query

HITS = Table.from_columns(
    {"url": str, "count": int, "kind": int},
    name="hits",
    key="url",
    merge={"count": Sum},
    delete_by="kind",
)
HITS_DDL = """\
CREATE TABLE hits (url TEXT PRIMARY KEY, count INTEGER CHECK (count < 100), kind INTEGER)"""

TEMP_TABLE = "CREATE TEMP TABLE hits AS SELECT * FROM main.hits"
TEMP_VIEW = """\
CREATE TEMP VIEW hits AS SELECT * FROM main.hits;
CREATE TEMP TRIGGER hits_written INSTEAD OF INSERT ON temp.hits BEGIN SELECT 1; END;
CREATE TEMP TRIGGER hits_updated INSTEAD OF UPDATE ON temp.hits BEGIN SELECT 1; END;
CREATE TEMP TRIGGER hits_deleted INSTEAD OF DELETE ON temp.hits BEGIN SELECT 1; END"""
OWN_TABLES = ";".join(
    f"CREATE TEMP TABLE forebay_{name} (x)"
    for name in ("dead_letters", "progress", "spills", "database")
)


def execute_all(raw: sqlite3.Connection, script: str) -> None:
    """Execute the statements of a script in the open transaction, unlike `executescript`."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            raw.execute(statement)
            statement = ""


@asynccontextmanager
async def opened(
    path: Path, script: str
) -> AsyncGenerator[tuple[SqliteStore, Buffer[tuple[Any, ...]]], None]:
    """Open a buffer for the table `hits`, and then execute a script in `store.run`."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(HITS_DDL)
    async with (
        open_sqlite(path) as store,
        open_buffers(store, HITS, options=BufferOptions(dead_letters_per_minute=None)) as buffers,
    ):
        await buffers[HITS].write(("first", 1, 0))
        await store.run(execute_all, script)
        yield store, buffers[HITS]


@pytest.mark.parametrize("script", [TEMP_TABLE, TEMP_VIEW])
async def test_writes_go_to_the_table_of_the_file(tmp_path: Path, script: str) -> None:
    """Every operation is executed on the table of the file, not on a TEMP object of its name."""
    path = tmp_path / "a.db"
    async with opened(path, script) as (_, buffer):
        await buffer.write(("a", 1, 1))
        await buffer.write(("a", 2, 1))
        await buffer.write(("b", 1, 1))
        await buffer.write(("c", 1, 2))
        await buffer.write(("d", 1, 2))
        await buffer.enqueue_update("b", kind=2)
        await buffer.enqueue_delete("d")
        await buffer.flush()
        assert [("a", 3, 1), ("b", 1, 2), ("c", 1, 2), ("first", 1, 0)] == query(
            path, "SELECT * FROM hits ORDER BY url"
        )
        await buffer.enqueue_delete_by(2)
        await buffer.flush()
        assert [("a", 3, 1), ("first", 1, 0)] == query(path, "SELECT * FROM hits ORDER BY url")


async def test_a_table_is_checked_and_not_its_temp_namesake(tmp_path: Path) -> None:
    """The check reads the table of the file, also if a TEMP table has another schema."""
    script = "CREATE TEMP TABLE hits (x); CREATE TEMP TABLE other (k TEXT PRIMARY KEY)"
    async with opened(tmp_path / "a.db", script) as (store, _):
        await store.prepare([HITS])
        with pytest.raises(SchemaError, match="there is no table 'other'"):
            await store.prepare([Table.from_columns({"k": str}, name="other", key="k")])


def count_temporary(raw: sqlite3.Connection) -> list[tuple[int]]:
    """Return the numbers of rows in the TEMP tables that have names of forebay's tables."""
    names = ("dead_letters", "progress", "spills")
    queries = [f"SELECT count(*) FROM temp.forebay_{name}" for name in names]  # noqa: S608  # ours
    return [raw.execute(query).fetchone() for query in queries]


async def test_the_tables_of_forebay_are_those_of_the_file(tmp_path: Path) -> None:
    """Dead letters, positions, imported spills and the id of the database are in the file."""
    path = tmp_path / "a.db"
    spill = write_spill(tmp_path / "left.spill", {HITS: [Write(("s", 7, 1))]})
    async with opened(path, OWN_TABLES) as (store, buffer):
        await buffer.enqueue_many([("a", 1, 1), ("bad", 100, 1)])
        await buffer.flush()
        assert [(1,)] == query(path, "SELECT count(*) FROM forebay_dead_letters")
        assert [(3,)] == query(path, "SELECT position FROM forebay_progress")
        result = await dead_letters.replay(store)
        assert (1,) == result.refused
        [letter] = await dead_letters.fetch(store)
        assert (1, 1) == (letter.id, len(letter.history))
        database = await store.identify()
        assert [(database.id,)] == query(path, "SELECT id FROM forebay_database")
        assert range(3, 4) == await dead_letters.import_spill(store, spill)
        assert [(3,)] == query(path, "SELECT first_letter FROM forebay_spills")
        assert range(3, 4) == await dead_letters.import_spill(store, spill)
        assert 2 == await dead_letters.purge(store, all_letters=True)
        assert [(0,)] == query(path, "SELECT count(*) FROM forebay_dead_letters")
        assert [(0,), (0,), (0,)] == await store.run(count_temporary)


async def test_a_temp_trigger_that_drops_rows_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A TEMP trigger on a table of the file is one of its rules."""
    script = "CREATE TEMP TRIGGER drops BEFORE INSERT ON main.hits BEGIN SELECT RAISE(IGNORE); END"
    async with opened(tmp_path / "a.db", script) as (store, _):
        with caplog.at_level(logging.WARNING, "forebay"):
            await store.prepare([HITS])
    [record] = own_records(caplog)
    assert record.getMessage().startswith("table 'hits' has a trigger 'drops' with RAISE(IGNORE)")
