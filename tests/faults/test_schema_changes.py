"""A table changes while its buffer is open: the buffer stops, without dead letters."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio

from forebay import FlushError, Write, open_buffers, open_sqlite
from tests.faults.harness import read
from tests.faults.tables import ENTRIES, EVENTS, PATIENT, TABLES, TOTALS, Entry, Event, Total

ROWS = [Entry(f"k{i}", 0, i) for i in range(1000)]


def change(path: Path, *statements: str) -> None:
    """Change the schema as another program, or a person with the SQLite shell."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        for sql in statements:
            raw.execute(sql)


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(["DROP TABLE entries"], id="table dropped"),
        pytest.param(["ALTER TABLE entries RENAME TO other"], id="table renamed"),
        pytest.param(["ALTER TABLE entries DROP COLUMN value"], id="column dropped"),
        pytest.param(["ALTER TABLE entries RENAME COLUMN value TO val"], id="column renamed"),
        pytest.param(
            [
                "DROP TABLE entries",
                "CREATE TABLE entries (key TEXT, grp INTEGER, value INTEGER)",
            ],
            id="key no longer unique",
        ),
        pytest.param(
            ["DROP TABLE entries", "CREATE VIEW entries AS SELECT 1 AS key, 2 AS grp, 3 AS value"],
            id="a view in its place",
        ),
    ],
)
async def test_a_changed_table_stops_only_its_own_buffer(
    tmp_path: Path, statements: list[str]
) -> None:
    """One error has all its entries. The other buffers drain and commit."""
    path = tmp_path / "a.db"
    with pytest.raises(FlushError, match="SQLITE_ERROR") as raised:
        async with (
            open_sqlite(path, create=TABLES) as store,
            open_buffers(store, *TABLES, options=PATIENT) as buffers,
        ):
            await buffers.flush()
            change(path, *statements)
            await buffers[ENTRIES].enqueue_many(ROWS)
            await buffers[EVENTS].enqueue(Event("kept", 1))
            await buffers[TOTALS].enqueue(Total("kept", 1))
            with pytest.raises(trio.BrokenResourceError):
                await buffers[ENTRIES].flush()
    assert "entries" == raised.value.buffer
    assert tuple(Write(tuple(row)) for row in ROWS) == raised.value.unsettled.entries
    assert [("kept", 1)] == read(path, "SELECT * FROM events")
    assert [("kept", 1)] == read(path, "SELECT * FROM totals")
    assert [] == read(path, "SELECT * FROM forebay_dead_letters")


async def test_a_change_that_the_buffer_does_not_need_is_ignored(tmp_path: Path) -> None:
    """A further column, or an index."""
    path = tmp_path / "a.db"
    async with (
        open_sqlite(path, create=TABLES) as store,
        open_buffers(store, ENTRIES, options=PATIENT) as buffers,
    ):
        await buffers[ENTRIES].write(ROWS[0])
        change(
            path, "ALTER TABLE entries ADD COLUMN note TEXT", "CREATE INDEX i ON entries (value)"
        )
        await buffers[ENTRIES].write(ROWS[1])
    assert [(*row, None) for row in ROWS[:2]] == read(path, "SELECT * FROM entries")
