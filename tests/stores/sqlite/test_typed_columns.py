"""Typed columns in a file: what SQLite stores, and what its own functions see."""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import pytest

import forebay
from forebay.testing import MemoryStore


class State(enum.Enum):
    NEW = "new"
    DONE = "done"


class Job(NamedTuple):
    id: UUID
    state: State
    payload: Annotated[dict[str, Any], forebay.Json]
    first: datetime
    last: Annotated[datetime, forebay.UnixMicroseconds] | None
    day: date
    at: time
    price: Decimal | None
    parent: Annotated[UUID, forebay.UuidBytes]
    done: bool
    note: int | str


JOBS = forebay.Table(
    Job,
    name="jobs",
    key="id",
    merge={"first": forebay.Min, "last": forebay.Max, "payload": forebay.Keep},
    delete_by="parent",
)
ID = UUID(int=1)
NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
JOB = Job(
    ID, State.NEW, {"a": [1]}, NOW, NOW, NOW.date(), NOW.time(), Decimal("1.50"), ID, True, "x"
)
STORED = (
    str(ID),
    "done",
    '{"a":[1]}',
    "2026-01-01 03:04:05.000006+00:00",
    1767323045000006,
    "2026-01-02",
    "03:04:05.000006",
    None,
    ID.bytes,
    1,
    2,
)


async def write_jobs(store: forebay.stores.Store) -> None:
    """Write two jobs in turn, which merge and are updated; then delete one."""
    async with forebay.open_buffers(store, JOBS) as buffers:
        buffer = buffers[JOBS]
        await buffer.write(JOB)
        early = NOW - timedelta(days=1)
        await buffer.write(JOB._replace(payload={}, first=early, last=early, note=2))
        await buffer.enqueue_update(ID, state=State.DONE, price=None)
        await buffer.enqueue(JOB._replace(id=UUID(int=2), parent=UUID(int=2)))
        await buffer.enqueue(JOB._replace(id=UUID(int=3)))
        await buffer.flush()
        await buffer.enqueue_delete_by(UUID(int=2))
        await buffer.enqueue_delete(UUID(int=3))


def execute(sql: str) -> Callable[[sqlite3.Connection], None]:
    """Return a function for `SqliteStore.run` that executes a statement."""

    def run(raw: sqlite3.Connection) -> None:
        raw.execute(sql)

    return run


@pytest.mark.parametrize("strict", [False, True])
async def test_keys_rules_and_deletes_of_typed_columns(tmp_path: Path, strict: bool) -> None:
    """The file has the stored values, in columns of the storage types."""
    async with forebay.open_sqlite(tmp_path / "a.db", create=[JOBS], strict_tables=strict) as store:
        await write_jobs(store)
        assert [STORED] == await store.fetch_all("SELECT * FROM jobs")
        [(sql,)] = await store.fetch_all("SELECT sql FROM sqlite_schema WHERE name = 'jobs'")
        assert strict == sql.endswith(" STRICT")
        assert [(1,)] == await store.fetch_all(
            "SELECT count(*) FROM jobs WHERE first < datetime('now') AND payload ->> '$.a[0]' = 1"
        )


async def test_a_strict_table_refuses_what_another_program_writes(tmp_path: Path) -> None:
    """SQLite itself checks the types."""
    async with forebay.open_sqlite(tmp_path / "a.db", create=[JOBS], strict_tables=True) as store:
        await write_jobs(store)
        with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT value in INTEGER"):
            await store.run(execute("UPDATE jobs SET done = 'no'"))


async def test_the_memory_store_holds_stored_values() -> None:
    """It has the same rows as the file."""
    store = MemoryStore()
    await write_jobs(store)
    assert [STORED] == store.rows(JOBS)


async def test_a_typed_column_of_a_numeric_type_is_refused(tmp_path: Path) -> None:
    """SQLite would change a decimal, or the text of a time, to a number."""
    prices = forebay.Table.from_columns({"price": Decimal}, name="prices")
    async with forebay.open_sqlite(tmp_path / "a.db") as store:
        await store.run(execute("CREATE TABLE prices (price NUMERIC)"))
        with pytest.raises(forebay.SchemaError, match="column 'price' has the declared type"):
            async with forebay.open_buffers(store, prices):
                pytest.fail("the block was entered")


async def test_dead_letters_hold_stored_values(tmp_path: Path) -> None:
    """A refused row is replayed as it was stored."""
    async with forebay.open_sqlite(tmp_path / "a.db", create=[JOBS]) as store:
        await store.run(
            execute("CREATE TRIGGER no BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'no'); END")
        )
        with pytest.raises(forebay.RowError) as caught:
            async with forebay.open_buffers(store, JOBS) as buffers:
                await buffers[JOBS].write(JOB)
        assert isinstance(caught.value.operation, forebay.Write)
        assert JOB.price is not None
        assert str(JOB.price) == caught.value.operation.row[7]
        await store.run(execute("DROP TRIGGER no"))
        await forebay.dead_letters.replay(store)
        assert [(str(ID), "1.50")] == await store.fetch_all("SELECT id, price FROM jobs")
