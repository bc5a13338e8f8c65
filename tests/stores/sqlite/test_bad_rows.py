"""Rows that the table refuses: they, and no other rows, become dead letters."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import trio
import trio.testing

import forebay
from forebay import (
    BufferOptions,
    FlushError,
    FlushReason,
    RowError,
    Sum,
    Table,
    open_buffers,
    open_sqlite,
)
from forebay._batching.coalesce import Coalescer
from forebay.stores.sqlite._commit import BatchCommitter
from forebay.testing import MemoryStore


class Pair(NamedTuple):
    k: int
    v: int | None


PAIRS = Table(Pair, name="pairs", key="k")
COUNTS = Table(Pair, name="pairs", key="k", merge=Sum)
LOG = Table(Pair, name="pairs")

NOT_NULL = "CREATE TABLE pairs (k INTEGER PRIMARY KEY, v INTEGER NOT NULL)"
CHECK = "CREATE TABLE pairs (k INTEGER PRIMARY KEY, v INTEGER CHECK (v IS NOT NULL))"
UNIQUE = """
    CREATE TABLE pairs (k INTEGER PRIMARY KEY, v INTEGER, w AS (coalesce(v, -1)) UNIQUE);
    INSERT INTO pairs (k, v) VALUES (-1, NULL)
"""
FOREIGN = """
    CREATE TABLE parents (v INTEGER PRIMARY KEY);
    WITH RECURSIVE n(v) AS (SELECT 0 UNION ALL SELECT v + 1 FROM n WHERE v < 5000)
        INSERT INTO parents SELECT v FROM n;
    CREATE TABLE pairs (
        k INTEGER PRIMARY KEY, v INTEGER, w AS (coalesce(v, -1)) STORED REFERENCES parents (v)
    )
"""
DEFERRED = FOREIGN.replace(
    "REFERENCES parents (v)", "REFERENCES parents (v) DEFERRABLE INITIALLY DEFERRED"
)
TRIGGER = """
    CREATE TABLE pairs (k INTEGER PRIMARY KEY, v INTEGER);
    CREATE TRIGGER refuse BEFORE INSERT ON pairs WHEN NEW.v IS NULL
        BEGIN SELECT RAISE(ABORT, 'no value'); END
"""
ROLLING_BACK = "CREATE TABLE pairs (k INTEGER PRIMARY KEY, v INTEGER NOT NULL ON CONFLICT ROLLBACK)"
FAILING = """
    CREATE TABLE pairs (
        k INTEGER PRIMARY KEY, v INTEGER,
        w AS (json_extract(CASE WHEN v IS NULL THEN '{' ELSE '1' END, '$')) STORED
    )
"""


def create_database(folder: Path, ddl: str) -> Path:
    path = folder / "a.db"
    raw = sqlite3.connect(path)
    raw.executescript(ddl)
    raw.close()
    return path


async def dead_letters(store: forebay.SqliteStore) -> list[tuple[object, ...]]:
    return await store.fetch_all(
        "SELECT buffer, operation, entry, error_code FROM forebay_dead_letters ORDER BY id"
    )


@pytest.mark.parametrize("bad", [(0,), (500,), (999,), (0, 1, 2), (3, 400, 401, 998)])
@pytest.mark.parametrize(
    ("ddl", "code"),
    [
        pytest.param(NOT_NULL, "SQLITE_CONSTRAINT_NOTNULL", id="not null"),
        pytest.param(CHECK, "SQLITE_CONSTRAINT_CHECK", id="check"),
        pytest.param(UNIQUE, "SQLITE_CONSTRAINT_UNIQUE", id="unique"),
        pytest.param(FOREIGN, "SQLITE_CONSTRAINT_FOREIGNKEY", id="foreign key"),
        pytest.param(DEFERRED, "SQLITE_CONSTRAINT_FOREIGNKEY", id="deferred foreign key"),
        pytest.param(TRIGGER, "SQLITE_CONSTRAINT_TRIGGER", id="trigger"),
        pytest.param(ROLLING_BACK, "SQLITE_CONSTRAINT_NOTNULL", id="rolls back by itself"),
        pytest.param(FAILING, "SQLITE_ERROR", id="an expression that fails"),
    ],
)
async def test_only_the_bad_rows_are_refused(
    tmp_path: Path, ddl: str, code: str, bad: tuple[int, ...]
) -> None:
    """If k of n rows are bad, n - k rows are committed and k become dead letters."""
    path = create_database(tmp_path, ddl)
    async with (
        open_sqlite(path, pragmas={"foreign_keys": 1}) as store,
        open_buffers(store, PAIRS) as buffers,
    ):
        buffer = buffers[PAIRS]
        await buffer.enqueue_many(Pair(k, None if k in bad else k) for k in range(1000))
        await buffer.flush()
        good = await store.fetch_all("SELECT k FROM pairs WHERE k >= 0 ORDER BY k")
        letters = await dead_letters(store)
        statistics = buffer.statistics()
    assert [(k,) for k in range(1000) if k not in bad] == good
    assert [
        ("pairs", "write", f'{{"write": {{"k": {k}, "v": null}}}}', code) for k in bad
    ] == letters
    assert (1000, 1000 - len(bad), 0, len(bad), 0) == (
        statistics.accepted,
        statistics.committed,
        statistics.superseded,
        statistics.dead_lettered,
        statistics.pending,
    )


ANY = Table.from_columns({"k": int, "v": object}, name="pairs", key="k")


async def test_a_value_that_cannot_be_bound_is_a_bad_row(tmp_path: Path) -> None:
    """A value that Python's sqlite3 refuses to bind affects no other row."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[ANY]) as store,
        open_buffers(store, ANY) as buffers,
    ):
        await buffers[ANY].enqueue_many([(1, 1), (2, "\ud800"), (3, 3)])
        await buffers[ANY].flush()
        rows = await store.fetch_all("SELECT k FROM pairs ORDER BY k")
        letters = await dead_letters(store)
    assert [(1,), (3,)] == rows
    assert ["UnicodeEncodeError"] == [letter[3] for letter in letters]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
async def test_an_integer_beyond_64_bits_is_refused_at_the_call(tmp_path: Path, value: int) -> None:
    """The caller gets the error, whatever the column's type, and no row becomes a dead letter."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[ANY]) as store,
        open_buffers(store, ANY) as buffers,
    ):
        with pytest.raises(ValueError, match="64"):
            await buffers[ANY].enqueue_many([(1, 1), (2, value), (3, 3)])
        await buffers[ANY].flush()
        assert [(1,)] == await store.fetch_all("SELECT k FROM pairs ORDER BY k")
        assert 0 == buffers[ANY].statistics().dead_lettered


async def test_a_bad_row_does_not_supersede_a_good_one(
    tmp_path: Path,
) -> None:
    """Coalescing never turns a good entry into a dead letter because of a bad entry."""
    async with (
        open_sqlite(create_database(tmp_path, NOT_NULL)) as store,
        open_buffers(store, PAIRS) as buffers,
    ):
        await buffers[PAIRS].enqueue_many([Pair(1, 10), Pair(1, None)])
        await buffers[PAIRS].flush()
        rows = await store.fetch_all("SELECT k, v FROM pairs")
        statistics = buffers[PAIRS].statistics()
    assert [(1, 10)] == rows
    assert (1, 0, 1) == (
        statistics.committed,
        statistics.superseded,
        statistics.dead_lettered,
    )


async def test_sums_count_each_good_row_once(tmp_path: Path) -> None:
    """A bad row in a table with `Sum` does not cause another row to be added twice."""
    path = create_database(
        tmp_path, "CREATE TABLE pairs (k INTEGER PRIMARY KEY, v INTEGER CHECK (v < 100))"
    )
    async with open_sqlite(path) as store, open_buffers(store, COUNTS) as buffers:
        await buffers[COUNTS].enqueue_many([Pair(1, 1), Pair(1, 2), Pair(2, 500), Pair(1, 4)])
        await buffers[COUNTS].flush()
        rows = await store.fetch_all("SELECT k, v FROM pairs")
    assert [(1, 7)] == rows


async def test_write_raises_only_for_its_own_bad_row(tmp_path: Path) -> None:
    """If many tasks share a transaction, only the task with the bad row gets an error."""
    refused: list[RowError] = []
    written: list[int] = []

    async def write(buffer: forebay.Buffer[Pair], row: Pair) -> None:
        try:
            await buffer.write(row)
        except RowError as error:
            refused.append(error)
        else:
            written.append(row.k)

    async with (
        open_sqlite(create_database(tmp_path, NOT_NULL)) as store,
        open_buffers(store, PAIRS) as buffers,
        trio.open_nursery() as nursery,
    ):
        for k in range(20):
            nursery.start_soon(write, buffers[PAIRS], Pair(k, None if k == 13 else k))
    assert [k for k in range(20) if k != 13] == sorted(written)
    [error] = refused
    assert forebay.Write((13, None)) == error.operation
    assert ("pairs", "SQLITE_CONSTRAINT_NOTNULL", 1) == (
        error.buffer,
        error.code,
        error.dead_letter,
    )
    assert "table 'pairs' refused this row" in str(error)


async def test_bisection_takes_few_statements(tmp_path: Path) -> None:
    """To find k bad rows among n takes O(k log n) tries, not n."""
    statements: list[str] = []
    n, bad = 4096, {7, 3000}

    def trace(raw: sqlite3.Connection) -> None:
        raw.set_trace_callback(statements.append)

    async with (
        open_sqlite(create_database(tmp_path, NOT_NULL)) as store,
        open_buffers(store, PAIRS) as buffers,
    ):
        await store.run(trace)
        await buffers[PAIRS].enqueue_many(Pair(k, None if k in bad else k) for k in range(n))
        await buffers[PAIRS].flush()
    inserts = [sql for sql in statements if sql.startswith('INSERT INTO main."pairs"')]
    # A bad row is found after log2(n) = 12 halvings, of two halves each. Each half takes up to 12
    # statements, because a statement has one of few sizes.
    assert 0 < len(inserts) < len(bad) * 12 * 2 * 12


async def test_a_flood_of_bad_rows_stops_the_buffer(tmp_path: Path) -> None:
    """More dead letters per minute than the limit are fatal, and no entry is lost."""
    options = BufferOptions(dead_letters_per_minute=2)
    with pytest.raises(FlushError, match="table 'pairs' refused more rows") as caught:
        async with (
            open_sqlite(create_database(tmp_path, NOT_NULL)) as store,
            open_buffers(store, PAIRS, options=options) as buffers,
        ):
            await buffers[PAIRS].enqueue_many(Pair(k, None if k < 3 else k) for k in range(10))
            await buffers[PAIRS].flush()
    assert 10 == caught.value.unsettled.count
    assert 10 == len(caught.value.unsettled.entries)
    for part in (
        'write of {"k": 2}: NOT NULL constraint failed: pairs.v (SQLITE_CONSTRAINT_NOTNULL)',
        "BufferOptions.dead_letters_per_minute is 2.",
    ):
        assert part in str(caught.value)


async def test_the_limit_is_per_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Dead letters that are older than a minute do not count."""
    del autojump_clock
    store = MemoryStore()
    store.refuse(lambda operation: operation == forebay.Write((0, 0)))
    options = BufferOptions(dead_letters_per_minute=1)
    async with open_buffers(store, LOG, options=options) as buffers:
        for _ in range(3):
            await buffers[LOG].enqueue(Pair(0, 0))
            await buffers[LOG].flush()
            await trio.sleep(60)
    assert 3 == len(store.dead_letters)


@pytest.mark.parametrize(
    ("ddl", "break_it", "code"),
    [
        (NOT_NULL, "DROP TABLE pairs", "SQLITE_ERROR"),
        (NOT_NULL, "ALTER TABLE pairs RENAME COLUMN v TO w", "SQLITE_ERROR"),
    ],
)
async def test_a_missing_table_or_column_causes_no_dead_letters(
    tmp_path: Path, ddl: str, break_it: str, code: str
) -> None:
    """A statement that no longer compiles stops the buffer, and the error has the entries."""
    rows: Iterable[Pair] = [Pair(k, k) for k in range(5)]
    with pytest.raises(FlushError, match=code) as caught:
        async with (
            open_sqlite(create_database(tmp_path, ddl)) as store,
            open_buffers(store, PAIRS) as buffers,
        ):
            await store.run(lambda raw: raw.execute(break_it).close())
            await buffers[PAIRS].enqueue_many(rows)
    assert tuple(forebay.Write(tuple(row)) for row in rows) == caught.value.unsettled.entries


class Recording(sqlite3.Connection):
    """A connection that remembers the statements that it executes."""

    statements: ClassVar[list[str]] = []

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self.statements.append(sql)
        return super().execute(sql, parameters)


def test_a_statement_that_failed_because_of_a_value_is_not_explained() -> None:
    """Python's cache would keep the EXPLAIN of each statement with many rows."""
    texts = Table.from_columns({"k": int, "v": str}, name="pairs", key="k")
    coalescer = Coalescer(texts, stream="s")
    coalescer.add([(k, "bad" if k % 7 == 0 else "{}") for k in range(70)], only_rows=True)
    with closing(sqlite3.connect(":memory:", isolation_level=None, factory=Recording)) as raw:
        raw.execute(
            "CREATE TABLE pairs (k INTEGER PRIMARY KEY, v TEXT, "
            "a AS (json_extract(v, '$.a')) STORED)"
        )
        committer = BatchCommitter(coalescer.take(FlushReason.FULL), variables=999)
        assert 10 == len(committer.commit_remaining(raw, math.inf).rejections)
    assert [] == [sql for sql in Recording.statements if sql.startswith("EXPLAIN")]
