"""What happens when a table, or the spool, is changed while rows wait in the spool."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from forebay import Buffers, RowError, Table, open_buffers
from forebay.cli._command import command
from forebay.stores.clickhouse import ClickHouseStore, DeliveryStatistics
from tests.stores.clickhouse.proxy import Answer, Fault, Proxy, proxy_to
from tests.stores.clickhouse.real_server import RealServer
from tests.stores.clickhouse.tools import Line, Page, lines, open_store, pages, wait_until_blocked
from tests.waiting import wait_until_async


def alter(server: RealServer, database: str, sql: str, table: str = "lines") -> None:
    server.execute(f"ALTER TABLE {database}.{table} {sql}")


@asynccontextmanager
async def outage(
    proxy: Proxy, database: str, folder: Path, *tables: Table[Any], **options: Any
) -> AsyncIterator[Buffers]:
    """Yield buffers of a program whose server is down: all that it writes waits in the spool."""
    async with (
        open_store(proxy, database, folder, *tables, delivery_timeout=0.0, **options) as store,
        open_buffers(store, *tables) as buffers,
    ):
        proxy.is_down = True
        yield buffers
    with closing(sqlite3.connect(folder / "app.spool.db")) as raw:
        # Blocks may be changed: they were sent to nobody.
        raw.execute("UPDATE forebay_spool SET sent = 0, in_doubt = 0")
        raw.commit()


async def test_a_column_that_became_narrower_gets_no_other_value(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """The server would store 300 as 44. The block waits, and later rows are checked anew."""
    async with (
        open_store(server, database, tmp_path, lines) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].write(Line("before", 1))
        await store.delivered()
        alter(server, database, "MODIFY COLUMN size Nullable(Int8)")
        await buffers[lines].write(Line("fits", 5))
        await store.delivered()
        alter(server, database, "MODIFY COLUMN size Nullable(Int64)")
        await buffers[lines].write(Line("fits", 6))
        await store.delivered()
        alter(server, database, "MODIFY COLUMN size Nullable(Int8)")
        await buffers[lines].write(Line("large", 300))
        await wait_until_blocked(store)
        assert "300" in str(store.statistics().last_error)
        with pytest.raises(RowError, match="Int8"):
            await buffers[lines].write(Line("large", 301))
        assert [[1], [5], [6]] == server.query(f"SELECT size FROM {database}.lines ORDER BY size")
        alter(server, database, "MODIFY COLUMN size Nullable(Int128)")
        await store.delivered()
        await buffers[lines].write(Line("large", 301))
    assert [[1], [5], [6], [300], [301]] == server.query(
        f"SELECT toInt64(size) FROM {database}.lines ORDER BY size"
    )


async def test_rows_of_an_earlier_program_get_the_types_of_today(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """Its declaration is in the spool. Versions and tombstones stay what they were."""
    async with proxy_to(server) as proxy:
        async with (
            open_store(proxy, database, tmp_path, pages) as store,
            open_buffers(store, pages) as buffers,
        ):
            await buffers[pages].write(Page("/a", 1))
            await buffers[pages].write(Page("/b", 1))
        async with outage(proxy, database, tmp_path, pages) as buffers:
            await buffers[pages].write(Page("/a", 2))
            await buffers[pages].enqueue_delete("/b")
        alter(server, database, "MODIFY COLUMN status Nullable(Int128)", "pages")
        proxy.is_down = False
        async with open_store(proxy, database, tmp_path) as store:
            await store.delivered()
            assert 2 == store.statistics().delivered
    assert [["/a", 2]] == server.query(f"SELECT url, toInt64(status) FROM {database}.pages FINAL")


async def test_a_block_is_not_split_if_the_table_has_a_view_by_now(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """The view was created after the buffers were opened: a part would be there twice."""
    async with (
        proxy_to(server) as proxy,
        open_store(proxy, database, tmp_path, lines) as store,
        open_buffers(store, lines) as buffers,
    ):
        window = "SETTINGS non_replicated_deduplication_window = 10000"
        server.execute(
            f"CREATE TABLE {database}.small (size Nullable(Int64), CONSTRAINT small CHECK size < 9)"
            f" ENGINE = MergeTree ORDER BY () {window}"
        )
        server.execute(
            f"CREATE MATERIALIZED VIEW {database}.v TO {database}.small AS"
            f" SELECT size FROM {database}.lines"
        )
        await buffers[lines].enqueue_many([Line("x", 1), Line("x", 10), Line("x", 2)])
        await buffers.flush()
        await wait_until_blocked(store)
        assert 1 == len({insert.body for insert in proxy.inserts})
        server.execute(f"ALTER TABLE {database}.small DROP CONSTRAINT small")
        await store.delivered()
        assert 0 == store.statistics().refused
    for name in ("lines", "small"):
        assert [[3, 13]] == server.query(f"SELECT count(), sum(size) FROM {database}.{name}")


async def test_a_table_that_is_dropped_blocks_until_it_is_there_again(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """Nothing is lost, and the error of ClickHouse says which table is missing."""
    async with (
        open_store(server, database, tmp_path, lines) as store,
        open_buffers(store, lines) as buffers,
    ):
        created = server.execute(f"SHOW CREATE TABLE {database}.lines FORMAT TSVRaw")
        server.execute(f"DROP TABLE {database}.lines SYNC")
        await buffers[lines].write(Line("x", 1))
        await wait_until_blocked(store)
        assert {"60"} == set(store.statistics().retries)
        server.execute(created)
        await store.delivered()
    assert [["x", 1]] == server.query(f"SELECT * FROM {database}.lines")


CUT = "block = substr(block, 1, length(block) - 3)"
EMPTY = "block = zeroblob(0)"


@pytest.mark.parametrize(
    ("compression", "damage"),
    [
        pytest.param("zstd", EMPTY, id="found by its checksum"),
        # A block of an early version has no checksum.
        pytest.param("zstd", f"{CUT}, checksum = NULL", id="zstd is cut"),
        pytest.param("gzip", f"{CUT}, checksum = NULL", id="gzip is cut"),
        pytest.param("none", f"{CUT}, checksum = NULL", id="rows are cut"),
        pytest.param("none", f"{EMPTY}, checksum = NULL", id="no rows"),
    ],
)
async def test_a_damaged_block_stops_its_table_and_nothing_else(
    server: RealServer,
    database: str,
    tmp_path: Path,
    compression: str,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is not sent, or the server refuses it; it waits, and `forebay spool drop` removes it.

    This is logged once, and not at each retry.
    """
    other = Table(Line, name="other")
    async with proxy_to(server) as proxy:
        async with outage(
            proxy, database, tmp_path, lines, other, compression=compression
        ) as buffers:
            for number in range(3):
                await buffers[lines].write(Line("x", number))
                await buffers[other].write(Line("x", number))
        with closing(sqlite3.connect(tmp_path / "app.spool.db")) as raw:
            raw.execute(f"UPDATE forebay_spool SET {damage} WHERE buffer = 'lines'")
            raw.commit()
        proxy.is_down = False
        caplog.clear()
        options = {"compression": compression, "delivery_timeout": 0.0}
        async with open_store(proxy, database, tmp_path, **options) as store:

            def tables() -> Mapping[str, DeliveryStatistics]:
                return store.statistics().tables

            await wait_until_async(lambda: not tables()["other"].waiting, "one is sent", tables)
            await wait_until_async(lambda: tables()["lines"].last_error, "one fails", tables)
            assert 3 == store.statistics().waiting
            async with open_buffers(store, other) as buffers:
                for number in range(10):  # meanwhile the block is tried again
                    await buffers[other].write(Line("x", number))
                    await wait_until_async(
                        lambda: not tables()["other"].waiting, "one is sent", tables
                    )
    found = [record for record in caplog.records if record.name.startswith("forebay")]
    assert 1 == len([record for record in found if record.args and "lines" in record.args])
    assert [[13]] == server.query(f"SELECT count() FROM {database}.other")
    assert [[0]] == server.query(f"SELECT count() FROM {database}.lines")


async def wait_for_error(store: ClickHouseStore, text: str) -> None:
    await wait_until_async(
        lambda: text in str(store.statistics().last_error), f"{text} in the error", store.statistics
    )


async def test_a_column_of_a_type_that_cannot_be_sent_blocks_its_table(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """The block waits, and the error names the column, until the type is changed again."""
    async with (
        proxy_to(server) as proxy,
        open_store(proxy, database, tmp_path, lines) as store,
        open_buffers(store, lines) as buffers,
    ):
        proxy.is_down = True
        await buffers[lines].write(Line("x", 1))
        alter(server, database, "DROP COLUMN size")
        alter(server, database, "ADD COLUMN size Array(String)")
        proxy.decide = lambda _insert: Answer(53)  # TYPE_MISMATCH
        proxy.is_down = False
        await wait_until_blocked(store)
        await wait_for_error(store, "'size'")
        alter(server, database, "DROP COLUMN size")
        alter(server, database, "ADD COLUMN size Nullable(Int64)")
        proxy.decide = lambda _insert: Fault.NONE
        await store.delivered()
    assert [["x", 1]] == server.query(f"SELECT * FROM {database}.lines")


async def test_a_column_that_rows_of_an_earlier_program_need_is_gone(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """They wait until the column is there again. No row loses a value."""
    async with proxy_to(server) as proxy:
        async with outage(proxy, database, tmp_path, lines) as buffers:
            await buffers[lines].write(Line("x", 1))
        alter(server, database, "DROP COLUMN size")
        proxy.decide = lambda _insert: Answer(53)  # TYPE_MISMATCH
        proxy.is_down = False
        async with open_store(proxy, database, tmp_path) as store:
            await wait_for_error(store, "53")
            assert 1 == store.statistics().waiting
            alter(server, database, "ADD COLUMN size Nullable(Int64)")
            proxy.decide = lambda _insert: Fault.NONE
            await store.delivered()
    assert [["x", 1]] == server.query(f"SELECT * FROM {database}.lines")


async def test_a_retry_makes_dead_letters_of_refused_rows(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """`forebay spool retry` delivers the others, and says where the refused rows are."""
    async with proxy_to(server) as proxy:
        async with outage(proxy, database, tmp_path, pages) as buffers:
            await buffers[pages].enqueue_many(Page(f"/{n}", status=n) for n in range(5))
            await buffers[pages].enqueue_delete("/9")
            await buffers[pages].flush()
        alter(server, database, "ADD CONSTRAINT small CHECK ifNull(status, 0) < 4", "pages")
        proxy.is_down = False
        arguments = ["spool", "retry", str(tmp_path / "app.spool.db")]
        done = await trio.to_thread.run_sync(partial(CliRunner().invoke, command, arguments))
    assert 0 == done.exit_code, done.output
    assert "5 rows delivered, 1 refused, 0 wait." in done.stdout
    assert "dead-letters list" in done.stdout
    assert [["/0", 0], ["/1", 1], ["/2", 2], ["/3", 3]] == server.query(
        f"SELECT url, status FROM {database}.pages FINAL ORDER BY url"
    )
    with closing(sqlite3.connect(tmp_path / "app.spool.db")) as raw:
        [[entry]] = raw.execute("SELECT entry FROM forebay_dead_letters").fetchall()
    assert "/4" in entry
