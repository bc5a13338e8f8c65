"""What a statement can do is found once, and again after the schema or the connection changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from forebay import Table, open_buffers, open_sqlite
from forebay.stores.sqlite import SqliteStore
from tests.stores.sqlite.another_connection import query

NODES = Table.from_columns({"id": int, "parent": int | None}, name="nodes")
"""A table without coalescing: each row must have the effect that it has alone."""

DDL = "CREATE TABLE nodes (n INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER UNIQUE, parent INTEGER)"
CHILD_FIRST = [(1, 2), (2, None), (3, None), (4, None), (5, None)]
"""As many rows as one INSERT may have."""


def create(path: Path, *ddl: str) -> None:
    with closing(sqlite3.connect(path)) as raw:
        for sql in ddl:
            raw.execute(sql)


async def write(store: SqliteStore, *batches: Sequence[tuple[Any, ...]]) -> int:
    """Write batches, one after another, and return the number of refused rows."""
    async with open_buffers(store, NODES) as buffers:
        for batch in batches:
            await buffers[NODES].enqueue_many(batch)
            await buffers[NODES].flush()
        return buffers[NODES].statistics().dead_lettered


async def test_a_statement_is_explained_once(tmp_path: Path) -> None:
    """Python's cache keeps each EXPLAIN: one for each batch would fill the memory."""
    path = tmp_path / "a.db"
    create(path, DDL)
    statements: list[str] = []
    async with open_sqlite(path) as store:
        await store.run(lambda raw: raw.set_trace_callback(statements.append))
        await write(store, *[[(2 * n, None), (2 * n + 1, None)] for n in range(20)])
    # SQLite does not trace EXPLAIN, but the query before it. The second batch explains again, since
    # the first one created the table of the positions.
    assert 2 == statements.count("SELECT 1 FROM main.sqlite_schema LIMIT 0")
    assert 20 <= statements.count("COMMIT")


async def test_another_connection_changes_the_schema(tmp_path: Path) -> None:
    """After it added a foreign key, a row is refused whose parent is a later row of the batch."""
    path = tmp_path / "a.db"
    create(path, DDL)
    async with open_sqlite(path, pragmas={"foreign_keys": 1}) as store:
        assert 0 == await write(store, CHILD_FIRST)
        create(
            path, "DROP TABLE nodes", DDL.replace("parent INTEGER", "parent REFERENCES nodes(id)")
        )
        assert 1 == await write(store, CHILD_FIRST)
    assert CHILD_FIRST[1:] == query(path, "SELECT id, parent FROM nodes")


async def test_the_program_creates_a_temporary_trigger(tmp_path: Path) -> None:
    """The trigger reads a value that SQLite updates once for each INSERT statement."""
    path = tmp_path / "a.db"
    create(path, DDL, "CREATE TABLE log (seq)")
    async with open_sqlite(path) as store:
        # The first batch creates the table of the positions, which changes the schema.
        await write(store, [(-1, None), (-2, None)], [(n, None) for n in range(5)])
        await store.run(
            lambda raw: raw.execute(
                "CREATE TEMP TRIGGER log_nodes AFTER INSERT ON main.nodes BEGIN "
                "INSERT INTO log SELECT seq FROM sqlite_sequence WHERE name = 'nodes'; END"
            ).close()
        )
        await write(store, [(n, None) for n in range(5, 10)])
    assert [(7,), (8,), (9,), (10,), (11,)] == query(path, "SELECT seq FROM log")
