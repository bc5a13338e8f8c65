"""The ClickHouse store on a real server: what is committed, delivered, refused, and kept."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest
import trio

from forebay import Table, Update, Write, open_buffers
from tests.stores.clickhouse.real_server import RealServer
from tests.stores.clickhouse.tools import Count, Line, Page, counts, lines, open_store, pages


async def test_rows_are_delivered_to_all_kinds_of_tables(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """Appended rows, replaced rows, tombstones and merged rows are in the tables."""
    tables = (lines, pages, counts)
    async with (
        open_store(server, database, tmp_path, *tables) as store,
        open_buffers(store, *tables) as buffers,
    ):
        await buffers[lines].write(Line("a", None))
        await buffers[lines].write(Line("a", 2))
        for status in (404, 200):
            await buffers[pages].write(Page("x", status))
            await buffers[pages].write(Page("y", status))
            await buffers[pages].enqueue_delete("y")
            await buffers[pages].write(Page("z", status))
        await buffers[pages].enqueue_delete("z")
        await buffers[pages].enqueue(Page("z", None))
        await buffers[counts].write(Count("n", 1, None, 5, "first", "a"))
        await buffers[counts].write(Count("n", 2, 0.5, 4, "second", None))
        await buffers.flush()
        await store.delivered()
        statistics = store.statistics()
        assert 0 == statistics.waiting
        assert statistics.spooled == statistics.delivered
        assert {"lines", "pages", "counts"} == set(statistics.tables)
    assert [["a", None], ["a", 2]] == server.query(
        f"SELECT * FROM {database}.lines ORDER BY size NULLS FIRST"
    )
    assert [["x", 200], ["z", None]] == server.query(
        f"SELECT url, status FROM {database}.pages FINAL ORDER BY url"
    )
    assert [["n", 3, 0.5, 5, "first", None]] == server.query(
        f"SELECT * FROM {database}.counts FINAL"
    )


class Colour(enum.Enum):
    RED = "red"
    BLUE = "it's"


class Everything(NamedTuple):
    text: str
    number: int
    real: float
    raw: bytes
    flag: bool
    at: datetime
    day: date
    id: UUID
    price: Decimal
    colour: Colour
    nothing: int | None


async def test_each_type_comes_back(server: RealServer, database: str, tmp_path: Path) -> None:
    """The server reads the values as they were written: in created columns, and in others."""
    created = Table(Everything, name="created")
    other = Table(Everything, name="other")
    server.execute(
        f"CREATE TABLE {database}.other (text LowCardinality(String), number Int128, real Float32,"
        " raw FixedString(3), flag UInt8, at DateTime64(9, 'Europe/Berlin'), day Date, id UUID,"
        " price Decimal(20, 4), colour Enum8('red' = 1, 'it\\'s' = -2),"
        " nothing LowCardinality(Nullable(Int16))) ENGINE = MergeTree ORDER BY ()"
        " SETTINGS non_replicated_deduplication_window = 10000,"
        " allow_suspicious_low_cardinality_types = 1",
        allow_suspicious_low_cardinality_types="1",
    )
    row = Everything(
        "é\0",
        -5,
        1.5,
        b"\0\xff!",
        True,
        datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
        date(2026, 1, 2),
        UUID("00112233-4455-6677-8899-aabbccddeeff"),
        Decimal("12.5"),
        Colour.BLUE,
        None,
    )
    async with (
        open_store(server, database, tmp_path, created) as store,
        open_buffers(store, created, other) as buffers,
    ):
        await buffers[created].write(row)
        await buffers[other].write(row)
    for name in ("created", "other"):
        assert [
            [
                *("é\0", "-5", 1.5, "00FF21", 1, "2026-01-02 03:04:05.678901", "2026-01-02"),
                *("00112233-4455-6677-8899-aabbccddeeff", "12.5", "it's", None),
            ]
        ] == server.query(
            "SELECT text, toString(number), real, hex(raw), toUInt8(flag),"
            " toString(toDateTime64(at, 6, 'UTC')), toString(day), toString(id), toString(price),"
            f" toString(colour), nothing FROM {database}.{name}"
        )


async def test_what_is_spooled_during_an_outage_is_sent_by_the_next_start(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """A program whose table was checked once also starts while the server does not answer."""
    async with (
        open_store(server, database, tmp_path, lines) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].write(Line("before", 1))
    server.kill()
    try:
        for number in (2, 3):
            async with (
                open_store(server, database, tmp_path, lines, delivery_timeout=0.0) as store,
                open_buffers(store, lines) as buffers,
            ):
                await buffers[lines].write(Line("during", number))
                assert number - 1 == store.statistics().waiting
                assert number - 1 == buffers[lines].statistics().spool_entries
    finally:
        server.start()
    async with open_store(server, database, tmp_path) as store:
        await store.delivered()
        assert 2 == store.statistics().delivered
    assert [["before", 1], ["during", 2], ["during", 3]] == server.query(
        f"SELECT * FROM {database}.lines ORDER BY size"
    )


async def test_small_batches_become_one_insert(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """Blocks that were never sent are merged, so many flushes make few parts."""
    async with (
        open_store(server, database, tmp_path, lines, insert_interval=1.0) as store,
        open_buffers(store, lines) as buffers,
    ):
        started = trio.current_time()
        for number in range(50):
            await buffers[lines].write(Line("x", number))
        await store.delivered()
        took = trio.current_time() - started
        assert store.statistics().requests <= took + 1
    [[rows, parts]] = server.query(
        f"SELECT sum(rows), count() FROM system.parts WHERE database = '{database}' AND active"
    )
    assert 50 == rows
    assert parts <= took + 1


async def test_updates_and_some_deletes_are_refused_at_the_call(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """The caller learns why, and nothing was accepted. An entry that came otherwise is no loss."""
    async with (
        open_store(server, database, tmp_path, pages, counts) as store,
        open_buffers(store, pages, counts) as buffers,
    ):
        with pytest.raises(TypeError, match="enqueue_update"):
            await buffers[pages].enqueue_update("x", status=1)
        with pytest.raises(TypeError, match="enqueue_update"):
            await buffers[pages].enqueue_update_many([("x", {"status": 1})])
        with pytest.raises(TypeError, match="enqueue_delete"):
            buffers[counts].enqueue_delete_nowait("n")
        with pytest.raises(TypeError, match="FINAL"):
            await buffers[pages].get("x")
        assert 0 == buffers[pages].statistics().accepted
        await buffers[pages].enqueue_again([Update("x", {"status": 1}), Write(("y", 2))])
        await buffers.flush()
        statistics = buffers[pages].statistics()
        assert (1, 1) == (statistics.dead_lettered, statistics.committed)
