"""The spool as a file: how much waits in it, at every moment."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from forebay import FlushReason
from forebay._batching.coalesce import Coalescer
from forebay._table.json_format import encode_declaration
from forebay.stores.clickhouse._attempt import TableWriter
from forebay.stores.clickhouse._encoder import BlockEncoder
from forebay.stores.clickhouse._native import Block
from forebay.stores.clickhouse._spool import Spool
from forebay.stores.clickhouse._spool_opening import open_spool
from forebay.stores.clickhouse._spool_table import EMPTY, SpoolSize
from tests.stores.clickhouse.tools import lines

TYPES = {"text": "String", "size": "Nullable(Int64)"}
encoder = BlockEncoder(lines, "app", TYPES)

SERVER = "http://127.0.0.1:1"


@asynccontextmanager
async def opened(path: Path) -> AsyncGenerator[Spool, None]:
    async with open_spool(
        str(path),
        server=SERVER,
        database="app",
        compression="none",
        synchronous="NORMAL",
        limit=1 << 30,
    ) as spool:
        yield spool


async def write(spool: Spool, *texts: str) -> None:
    coalescer = Coalescer(lines)
    coalescer.add([(text, None) for text in texts], only_rows=True)
    writer = TableWriter(encoder, spool, version=0)
    await spool.run(writer.write, coalescer.take(FlushReason.FULL))


def counted(path: Path) -> SpoolSize:
    """Count what waits anew."""
    with closing(sqlite3.connect(path)) as raw:
        row = raw.execute(
            "SELECT count(*), coalesce(sum(entries), 0), coalesce(sum(length(block)), 0),"
            " min(spooled_at) FROM forebay_spool"
        ).fetchone()
    return SpoolSize(*row)


async def test_the_size_is_exact_after_each_step(tmp_path: Path) -> None:
    """Blocks are added, merged, split and delivered, and the counts agree with the blocks."""
    path = tmp_path / "app.spool.db"
    async with opened(path) as spool:
        await spool.save_table(
            "lines",
            declaration=encode_declaration(lines),
            types=json.dumps(TYPES),
            has_views=False,
        )
        assert {} == spool.sizes
        await write(spool, "a")
        await write(spool, "b", "c")
        outgoing = await spool.take("lines")
        assert outgoing is not None
        size = spool.sizes["lines"]
        assert (1, 3) == (size.blocks, size.entries)
        assert counted(path) == size

        block = Block.from_bytes(outgoing.block, outgoing.row.layout)
        await write(spool, "d")
        await spool.replace(outgoing.row, encoder.split(block))
        size = spool.sizes["lines"]
        assert (3, 4) == (size.blocks, size.entries)
        assert counted(path) == size

        for left in (3, 1, 0):
            outgoing = await spool.take("lines")
            assert outgoing is not None
            await spool.delivered(outgoing.row)
            assert left == spool.sizes["lines"].entries
            assert counted(path) == spool.sizes["lines"]
        assert await spool.take("lines") is None
        assert EMPTY == spool.sizes["lines"]


async def test_a_spool_of_an_earlier_version_can_be_used(tmp_path: Path) -> None:
    """Such a spool has no table with the counts, and no checksums."""
    path = tmp_path / "app.spool.db"
    async with opened(path) as spool:
        await write(spool, "a", "b")
    with closing(sqlite3.connect(path)) as raw:
        for name in ("insert", "update", "delete"):
            raw.execute(f"DROP TRIGGER forebay_spool_{name}")
        raw.execute("DROP TABLE forebay_spool_sizes")
        raw.execute("ALTER TABLE forebay_spool DROP COLUMN checksum")
    async with opened(path) as spool:
        assert {"lines": counted(path)} == spool.sizes
        assert 2 == spool.sizes["lines"].entries
        await write(spool, "c")
        outgoing = await spool.take("lines")
    assert outgoing is not None
    assert b"\1a\1b\1c" in outgoing.block
