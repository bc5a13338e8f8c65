"""Tables in ClickHouse, read with FINAL, equal those of `MemoryStore` after the same operations."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from forebay import BufferOptions, Keep, Max, Min, Replace, Sum, Table, open_buffers
from forebay.stores import Store
from forebay.testing import MemoryStore
from tests.stores.clickhouse.real_server import RealServer
from tests.stores.clickhouse.tools import open_store


class Row(NamedTuple):
    one: str
    two: int
    a: int | None
    b: float | None
    c: str | None
    d: int | None


KEY = ("one", "two")
TABLES: list[Table[Any]] = [
    Table(Row, name="replaced", key=KEY),
    Table(Row, name="in_order", key=KEY, coalesce=False),
    Table(Row, name="merged", key=KEY, merge={"a": Sum, "b": Min, "c": Max, "d": Keep}),
    Table(Row, name="mixed", key=KEY, merge={"a": Replace, "b": Sum, "c": Keep, "d": Max}),
]


async def execute(store: Store, table: Table[Any], seed: int, operations: int) -> None:
    draw = random.Random(seed)
    options = BufferOptions(batch_size=64)
    async with open_buffers(store, table, options=options) as buffers:
        buffer = buffers[table]
        for _ in range(operations):
            key = (draw.choice("xyz"), draw.randrange(6))
            if draw.random() < 0.2 and table.name in ("replaced", "in_order"):
                await buffer.enqueue_delete(key)
            else:
                row = Row(
                    *key,
                    a=draw.choice([None, draw.randrange(-9, 9)]),
                    b=draw.choice([None, float(draw.randrange(-9, 9))]),
                    c=draw.choice([None, draw.choice("abc")]),
                    d=draw.choice([None, draw.randrange(-9, 9)]),
                )
                await buffer.enqueue(row)
            if draw.random() < 0.02:
                await buffer.flush()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize("seed", range(3))
async def test_random_operations_have_the_same_result(
    server: RealServer, database: str, tmp_path: Path, table: Table[Any], seed: int
) -> None:
    """Whatever the batches are, each operation has its effect, in order."""
    memory = MemoryStore()
    await execute(memory, table, seed, 1_000)
    async with open_store(server, database, tmp_path, table) as store:
        await execute(store, table, seed, 1_000)
    found = server.query(
        f"SELECT one, two, a, b, c, d FROM {database}.{table.name} FINAL ORDER BY one, two"
    )
    assert [list(row) for row in memory.rows(table)] == found
