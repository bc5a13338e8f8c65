"""How blocks are delivered when the connection, the server or the table fails."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from forebay import RetryPolicy, Sum, Table, dead_letters, open_buffers
from forebay.stores.clickhouse import Compression
from forebay.stores.clickhouse._client import INSERT_SETTINGS
from forebay.stores.clickhouse._compression import decompress
from tests.stores.clickhouse.proxy import Answer, Fault, Insert, planned, proxy_to
from tests.stores.clickhouse.real_server import RealServer
from tests.stores.clickhouse.tools import Line, lines, open_store, wait_until_blocked
from tests.waiting import wait_until_async


class Total(NamedTuple):
    name: str
    total: int


totals = Table(Total, name="totals", key="name", merge=Sum)


CUTS: list[Fault | Answer] = [
    Fault.REFUSE,
    Fault.CUT_REQUEST,
    Fault.CUT_BEFORE_ANSWER,
    Fault.CUT_ANSWER,
    Answer(319),
    Answer(202),
    Answer(241),
    Answer(252),
    Answer(516),
    Answer(60),
]


async def test_every_row_is_there_once_whatever_fails(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """The same bytes are sent again with the same token, until the server acknowledges them."""
    async with (
        proxy_to(server) as proxy,
        open_store(proxy, database, tmp_path, lines, totals) as store,
        open_buffers(store, lines, totals) as buffers,
    ):
        proxy.decide = planned(*CUTS, *CUTS)
        for number in range(20):
            await buffers[lines].write(Line("x", number))
            await buffers[totals].write(Total("t", 1))
        await store.delivered()
        statistics = store.statistics()
        sent = {(insert.token, insert.body) for insert in proxy.inserts}
        assert len({token for token, _ in sent}) == len(sent)
        assert len(sent) + 20 == len(proxy.inserts) == statistics.requests
        assert Counter(str(f.code) for f in CUTS if isinstance(f, Answer)) <= Counter(
            statistics.retries
        )
        assert 40 == statistics.delivered == statistics.spooled
    assert [[20, 20, 190]] == server.query(
        f"SELECT count(), uniqExact(size), sum(size) FROM {database}.lines"
    )
    assert [["t", 20]] == server.query(f"SELECT * FROM {database}.totals FINAL")


async def test_a_request_has_a_bound_in_time(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """A server that never answers does not stop the relay."""
    async with (
        proxy_to(server, Fault.STALL) as proxy,
        open_store(proxy, database, tmp_path, lines, request_timeout=1.0) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].write(Line("x", 1))
        await store.delivered()
        assert {"Timeout": 1} == store.statistics().retries
    assert [["x", 1]] == server.query(f"SELECT * FROM {database}.lines")


async def test_the_order_of_a_table_is_kept_and_other_tables_go_on(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """A table that the server refuses waits alone, and its rows are delivered in order later."""
    refused = True

    def decide(insert: Insert) -> Fault | Answer:
        return Answer(60) if refused and "`lines`" in insert.statement else Fault.NONE

    async with (
        proxy_to(server) as proxy,
        open_store(proxy, database, tmp_path, lines, totals) as store,
        open_buffers(store, lines, totals) as buffers,
    ):
        proxy.decide = decide
        await buffers[lines].write(Line("first", 1))
        await proxy.wait_for_inserts(2)
        await buffers[totals].write(Total("t", 1))
        while store.statistics().tables["totals"].waiting:
            await proxy.wait_for_inserts(len(proxy.inserts) + 1)
        await buffers[lines].write(Line("second", 2))
        assert "blocked" == store.statistics().state
        assert "60" in str(store.statistics().last_error)
        assert 2 == store.statistics().tables["lines"].waiting
        refused = False
        await store.delivered()
        assert "blocked" != store.statistics().state
        tokens = [insert.token for insert in proxy.inserts if "`lines`" in insert.statement]
        assert 2 == len(set(tokens))
        assert tokens == sorted(tokens, key=tokens.index)


CHECKED = (
    "(text String, size Nullable(Int64), CONSTRAINT small CHECK size < 10) ENGINE = MergeTree"
    " ORDER BY () SETTINGS non_replicated_deduplication_window = 10000"
)


async def test_a_row_that_the_server_refuses_becomes_a_dead_letter(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """The block is split until the row is alone; the other rows are delivered."""
    server.execute(f"CREATE TABLE {database}.lines {CHECKED}")
    async with (
        open_store(server, database, tmp_path) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].enqueue_many(Line("x", number) for number in range(8))
        await buffers[lines].enqueue(Line("bad", 10))
        await buffers[lines].enqueue_many(Line("x", number) for number in range(8))
        await buffers.flush()
        await store.delivered()
        statistics = store.statistics()
        assert (16, 1, 0) == (statistics.delivered, statistics.refused, statistics.waiting)
    assert [[16, 56]] == server.query(f"SELECT count(), sum(size) FROM {database}.lines")
    async with dead_letters.open_reader(tmp_path / "app.spool.db") as reader:
        [letter] = await dead_letters.fetch(reader)
    assert {"write": {"text": "bad", "size": 10}} == json.loads(letter.entry)
    assert "CLICKHOUSE_469" == letter.failure.error_code


async def test_a_block_that_was_in_doubt_is_not_split(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """A part of it may be in the table; so the table is blocked, until somebody looks."""
    async with (
        proxy_to(server, Fault.CUT_BEFORE_ANSWER, Answer(469), Answer(469)) as proxy,
        open_store(proxy, database, tmp_path, lines) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].write(Line("x", 1))
        await store.delivered()
        assert 0 == store.statistics().refused
        assert 1 == len({insert.body for insert in proxy.inserts})
    assert [[1]] == server.query(f"SELECT count() FROM {database}.lines")


async def test_a_block_of_a_table_with_a_view_is_not_split(
    server: RealServer, database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of the view leaves the rows in the table, and a part would be there twice."""
    window = "SETTINGS non_replicated_deduplication_window = 10000"
    server.execute(
        f"CREATE TABLE {database}.lines (text String, size Nullable(Int64))"
        f" ENGINE = MergeTree ORDER BY () {window}"
    )
    server.execute(
        f"CREATE TABLE {database}.small (size Nullable(Int64), CONSTRAINT small CHECK size < 10)"
        f" ENGINE = MergeTree ORDER BY () {window}"
    )
    server.execute(
        f"CREATE MATERIALIZED VIEW {database}.v TO {database}.small AS"
        f" SELECT size FROM {database}.lines"
    )
    async with proxy_to(server) as proxy:
        with caplog.at_level(logging.ERROR, "forebay"):
            async with (
                open_store(proxy, database, tmp_path, delivery_timeout=0.0) as store,
                open_buffers(store, lines) as buffers,
            ):
                await buffers[lines].enqueue_many([Line("x", 1), Line("x", 10), Line("x", 2)])
                await buffers.flush()
                await proxy.wait_for_inserts(3)
                assert "blocked" == store.statistics().state
        [message] = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
        assert "VIOLATED_CONSTRAINT" in message
        assert "size = 10" not in message
        server.execute(f"ALTER TABLE {database}.small DROP CONSTRAINT small")
        async with open_store(proxy, database, tmp_path) as store:
            await store.delivered()
    for name in ("lines", "small"):
        assert [[3, 13]] == server.query(f"SELECT count(), sum(size) FROM {database}.{name}")


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
async def test_each_insert_has_its_settings_and_its_compression(
    server: RealServer, database: str, tmp_path: Path, compression: Compression
) -> None:
    """The server gets the settings without which a block could be lost or doubled."""
    async with (
        proxy_to(server) as proxy,
        open_store(proxy, database, tmp_path, lines, compression=compression) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].write(Line("x", 1))
        await store.delivered()
    [insert] = proxy.inserts
    assert {**INSERT_SETTINGS, "deduplicate_insert": "enable"} == {
        name: value
        for name, value in insert.parameters.items()
        if name != "insert_deduplication_token"
    }
    assert 32 == len(insert.token)
    body = decompress(insert.body, compression)
    assert body.startswith(b"\2\1\4text\6String\1x")
    assert ("" if compression == "none" else compression) == insert.headers.get(
        "content-encoding", ""
    )
    assert [["x", 1]] == server.query(f"SELECT * FROM {database}.lines")


async def test_a_table_is_checked_again_after_an_outage(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """Somebody may have changed it: nothing is sent to a table that would double rows."""
    async with proxy_to(server) as proxy:
        async with (
            open_store(proxy, database, tmp_path, lines) as store,
            open_buffers(store, lines) as buffers,
        ):
            await buffers[lines].write(Line("x", 1))
        setting = f"ALTER TABLE {database}.lines MODIFY SETTING non_replicated_deduplication_window"
        server.execute(f"{setting} = 0")
        proxy.is_down = True
        async with (
            open_store(proxy, database, tmp_path) as store,
            open_buffers(store, lines) as buffers,
        ):
            await buffers[lines].write(Line("x", 2))
            proxy.is_down = False
            await wait_until_blocked(store)
            assert "remembers no tokens" in str(store.statistics().last_error)
            assert [[1]] == server.query(f"SELECT count() FROM {database}.lines")
            server.execute(f"{setting} = 10000")
            await store.delivered()
    assert [[2]] == server.query(f"SELECT count() FROM {database}.lines")


async def test_delivered_makes_a_retry_that_is_due_later(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """So the end of a program, which waits for seconds, does not miss a server that is back."""
    hour = RetryPolicy(initial_delay=3600.0, max_delay=3600.0)
    async with (
        proxy_to(server, Answer(241)) as proxy,
        open_store(proxy, database, tmp_path, lines, retry=hour) as store,
        open_buffers(store, lines) as buffers,
    ):
        await buffers[lines].write(Line("x", 1))
        await wait_until_async(lambda: store.statistics().state == "retrying", "a retry is due")
        with trio.fail_after(30):
            await store.delivered()
    assert [["x", 1]] == server.query(f"SELECT * FROM {database}.lines")


class Watcher:
    """Notes whether Ctrl-C could be raised in the task that delivers."""

    def __init__(self) -> None:
        self.protected: list[bool] = []

    def requested(self, table: str, *, duration: float, code: str | None, answered: bool) -> None:
        self.protected.append(trio.lowlevel.currently_ki_protected())

    def delivered(self, table: str, *, age: float) -> None:
        self.protected.append(trio.lowlevel.currently_ki_protected())


async def test_ctrl_c_is_raised_in_the_program_and_not_in_a_relay(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """Otherwise it would end the relay, and the end of the block would wait for it in vain."""
    watcher = Watcher()
    async with (
        open_store(server, database, tmp_path, lines) as store,
        open_buffers(store, lines) as buffers,
    ):
        store.observe_deliveries(watcher)
        await buffers[lines].write(Line("x", 1))
        await store.delivered()
    assert [True, True] == watcher.protected
