"""Columns of all types in a file and in `MemoryStore`: the same rows, and a check of the schema."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from forebay import SchemaError, open_buffers, open_sqlite
from forebay._table.columns import Column
from forebay.stores import Store
from forebay.stores.sqlite._ddl import column_sql, create_sql
from forebay.stores.sqlite._schema import check_table
from forebay.testing import MemoryStore
from tests.all_types import EVERYTHING, ROW, STORED, UPDATED


async def write(store: Store) -> None:
    """Write, merge, update and delete rows."""
    async with open_buffers(store, EVERYTHING) as buffers:
        buffer = buffers[EVERYTHING]
        await buffer.enqueue(ROW._replace(number=0, payload={"b": [1, None, "é"], "a": True}))
        await buffer.enqueue(ROW._replace(payload={}))  # the earlier payload is kept
        await buffer.enqueue(ROW._replace(id=ROW.id16, id16=ROW.id))
        await buffer.flush()
        await buffer.enqueue_update(ROW.id, **UPDATED)
        await buffer.enqueue_delete_by(ROW.id)


@pytest.mark.parametrize("strict", [False, True])
async def test_a_file_and_the_memory_store_have_the_same_rows(tmp_path: Path, strict: bool) -> None:
    """Each value is stored as the documentation says."""
    memory = MemoryStore()
    await write(memory)
    assert [STORED] == memory.rows(EVERYTHING)
    async with open_sqlite(tmp_path / "a.db", create=[EVERYTHING], strict_tables=strict) as store:
        await write(store)
        [row] = await store.fetch_all("SELECT * FROM everything")
        assert (STORED, list(map(type, STORED))) == (row, list(map(type, row)))


async def test_a_row_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Pending, and from the file."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[EVERYTHING]) as store,
        open_buffers(store, EVERYTHING) as buffers,
    ):
        await buffers[EVERYTHING].enqueue(ROW)
        assert ROW == await buffers[EVERYTHING].get(ROW.id)
        await buffers[EVERYTHING].flush()
        assert ROW == await buffers[EVERYTHING].get(ROW.id)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "column", [c for c in EVERYTHING.columns if c.name not in ("id", "any")], ids=lambda c: c.name
)
def test_a_missing_column_of_any_type_is_named(
    tmp_path: Path, column: Column, strict: bool
) -> None:
    """The SQL of the error adds it, and then the table is accepted."""
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as raw:
        declaration = column_sql(column, strict=strict)
        raw.execute(create_sql(EVERYTHING, strict=strict).replace(f"    {declaration},\n", "", 1))
        for _ in range(2):  # the column, then the indexes
            with pytest.raises(SchemaError) as caught:
                check_table(raw, EVERYTHING)
            raw.executescript(str(caught.value.sql))
        check_table(raw, EVERYTHING)


STRICT_TYPES = {str: "BLOB", int: "TEXT", float: "TEXT", bytes: "TEXT"}


@pytest.mark.parametrize(
    "column",
    [c for c in EVERYTHING.columns if c.type.codec is not None],
    ids=lambda column: column.name,
)
def test_a_column_that_stores_another_type_is_refused(tmp_path: Path, column: Column) -> None:
    """What it stores could not be decoded."""
    assert column.storage is not None
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as raw:
        declaration = column_sql(column, strict=True)
        right = declaration.split()[1]
        wrong = declaration.replace(right, STRICT_TYPES[column.storage])
        raw.execute(create_sql(EVERYTHING, strict=True).replace(declaration, wrong, 1))
        with pytest.raises(SchemaError, match=rf"column '{column.name}'.* has the declared type"):
            check_table(raw, EVERYTHING)
