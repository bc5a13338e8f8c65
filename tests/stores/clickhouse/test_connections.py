"""HTTPS through a proxy, a Distributed table over two servers, and the limits of the window."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from forebay import SchemaError, StoreError, open_buffers
from forebay.stores.clickhouse import open_clickhouse
from forebay.stores.clickhouse._declared import CreateOptions, create_sql
from tests.stores.clickhouse.proxy import Fault, proxy_to
from tests.stores.clickhouse.real_server import RealServer, running
from tests.stores.clickhouse.tools import Line, Page, lines, open_store, pages


async def test_https_verifies_the_certificate(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """Rows are delivered to a server whose authority is trusted, and to no other one."""
    import trustme  # noqa: PLC0415  # comes with httpx, without which the test is skipped

    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    async with proxy_to(server, tls=context) as proxy:
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            async with (
                open_store(proxy, database, tmp_path, lines) as store,
                open_buffers(store, lines),
            ):
                pass
        async with (
            open_store(proxy, database, tmp_path, lines, verify=trusted) as store,
            open_buffers(store, lines) as buffers,
        ):
            await buffers[lines].write(Line("x", 1))
    assert proxy.url.startswith("https:")
    assert [["x", 1]] == server.query(f"SELECT * FROM {database}.lines")


CLUSTER = """
<clickhouse>
  <remote_servers><two>
    <shard><replica><host>127.0.0.1</host><port>{first}</port></replica></shard>
    <shard><replica><host>127.0.0.1</host><port>{second}</port></replica></shard>
  </two></remote_servers>
</clickhouse>
"""


@pytest.fixture(scope="module")
def shards(
    tmp_path_factory: pytest.TempPathFactory, running_server: RealServer
) -> Iterator[tuple[RealServer, RealServer]]:
    """Return two servers, of which the first knows the cluster of both."""
    folder = tmp_path_factory.mktemp("shards")
    config = folder / "config.xml"
    first = RealServer(folder / "first", f"--config-file={config}")
    with running(folder / "second") as second:
        config.write_text(CLUSTER.format(first=first.tcp_port, second=second.tcp_port))
        try:
            first.start()
            yield first, second
        finally:
            first.kill()


def distribute(shards: tuple[RealServer, RealServer], database: str, sharding: str) -> None:
    for shard in shards:
        shard.execute(f"CREATE DATABASE {database}")
        sql = create_sql(database, pages, CreateOptions(), name="pages_here")
        shard.execute(sql)
    shards[0].execute(
        f"CREATE TABLE {database}.pages AS {database}.pages_here"
        f" ENGINE = Distributed('two', '{database}', 'pages_here', {sharding})"
    )


async def test_a_distributed_table_gets_each_row_once(
    shards: tuple[RealServer, RealServer], tmp_path: Path
) -> None:
    """Each shard recognises the part of a block that it has already."""
    distribute(shards, "good", "cityHash64(url)")
    faults = [Fault.CUT_BEFORE_ANSWER, Fault.CUT_ANSWER] * 3
    async with (
        proxy_to(shards[0], *faults) as proxy,
        open_store(proxy, "good", tmp_path) as store,
        open_buffers(store, pages) as buffers,
    ):
        for status in range(3):
            await buffers[pages].enqueue_many(Page(f"/{n}", status) for n in range(100))
            await buffers.flush()
    found = "SELECT count(), sum(status) FROM good.pages FINAL"
    assert [[100, 200]] == shards[0].query(found)
    here = [shard.query("SELECT count() FROM good.pages_here") for shard in shards]
    assert all(0 < rows < 300 for [[rows]] in here)
    assert len(proxy.inserts) > 3


async def test_a_block_of_a_distributed_table_is_not_split(
    shards: tuple[RealServer, RealServer], tmp_path: Path
) -> None:
    """One shard may have its part of a block that another one refused."""
    distribute(shards, "strict", "cityHash64(url)")
    for shard in shards:
        shard.execute("ALTER TABLE strict.pages_here ADD CONSTRAINT small CHECK status < 10")
    async with (
        proxy_to(shards[0]) as proxy,
        open_store(proxy, "strict", tmp_path) as store,
        open_buffers(store, pages) as buffers,
    ):
        await buffers[pages].enqueue_many(Page(f"/{n}", 10 * (n == 50)) for n in range(100))
        await buffers.flush()
        await proxy.wait_for_inserts(3)
        assert 0 == store.statistics().refused
        assert 1 == len({insert.body for insert in proxy.inserts})
        for shard in shards:
            shard.execute("ALTER TABLE strict.pages_here DROP CONSTRAINT small")
        await store.delivered()
    assert [[100, 10]] == shards[0].query("SELECT count(), sum(status) FROM strict.pages")


@pytest.mark.parametrize(
    ("name", "sharding"), [("by_chance", "rand()"), ("by_value", "toUInt64(ifNull(status, 0))")]
)
async def test_a_sharding_that_splits_keys_is_refused(
    shards: tuple[RealServer, RealServer], tmp_path: Path, name: str, sharding: str
) -> None:
    """Two rows of a key would be on two shards, and a block would be split in another way."""
    distribute(shards, name, sharding)
    with pytest.raises(SchemaError, match="sharding"):
        async with open_store(shards[0], name, tmp_path) as store, open_buffers(store, pages):
            pass


@pytest.mark.parametrize("place", ["second", "distributed"])
async def test_a_view_of_a_distributed_table_needs_a_window(
    shards: tuple[RealServer, RealServer], tmp_path: Path, place: str
) -> None:
    """The view may be on one shard only, or read what is inserted before it is distributed."""
    distribute(shards, place, "cityHash64(url)")
    server = shards[1] if place == "second" else shards[0]
    source = "pages_here" if place == "second" else "pages"
    server.execute(
        f"CREATE MATERIALIZED VIEW {place}.by_url ENGINE = SummingMergeTree ORDER BY url"
        f" AS SELECT url, 1 AS rows FROM {place}.{source}"
    )
    with pytest.raises(SchemaError, match="remembers no tokens") as refused:
        async with open_store(shards[0], place, tmp_path) as store, open_buffers(store, pages):
            pass
    assert refused.value.sql is not None
    server.execute(refused.value.sql.rstrip(";"))
    async with open_store(shards[0], place, tmp_path) as store, open_buffers(store, pages):
        assert store.statistics().last_error is None


async def test_a_partition_that_splits_keys_is_refused_on_each_shard(
    shards: tuple[RealServer, RealServer], tmp_path: Path
) -> None:
    """The table that holds the rows may be on one shard only."""
    distribute(shards, "parted", "cityHash64(url)")
    shards[1].execute("DROP TABLE parted.pages_here SYNC")
    sql = create_sql("parted", pages, CreateOptions(), name="pages_here")
    shards[1].execute(sql.replace("ORDER BY", "PARTITION BY ifNull(status, 0) % 2 ORDER BY"))
    with pytest.raises(SchemaError, match="partition"):
        async with open_store(shards[0], "parted", tmp_path) as store, open_buffers(store, pages):
            pass


async def test_a_token_outside_the_window_is_forgotten(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """Why the window must be long enough: this is what the check of the table prevents."""
    server.execute(
        f"CREATE TABLE {database}.lines (text String, size Nullable(Int64)) ENGINE = MergeTree"
        " ORDER BY () SETTINGS non_replicated_deduplication_window = 2"
    )
    insert = f"INSERT INTO {database}.lines VALUES ('x', 1)"
    for token in ("a", "a", "b", "c", "d", "a"):
        server.execute(insert, async_insert="0", insert_deduplication_token=token)
    assert [[5]] == server.query(f"SELECT count() FROM {database}.lines")
    with pytest.raises(SchemaError, match="longest_outage"):
        async with open_store(server, database, tmp_path) as store, open_buffers(store, lines):
            pass


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        ("200 OK", "hello", "hello"),
        ("502 Bad Gateway", "the proxy knows no server", "the proxy knows no server"),
        (
            "200 OK\r\nX-ClickHouse-Format: JSON",
            '{"data": [{"version": "24.7.9.1"}]}',
            "24.7.9.1 is older than 24.8",
        ),
        *(
            ("200 OK\r\nX-ClickHouse-Format: JSON", body, "does not answer")
            for body in ("5", "{}", '{"data": []}', '{"data": [1]}', '{"data": [{"version": "x"}]}')
        ),
    ],
)
async def test_an_answer_that_is_not_of_a_usable_clickhouse_is_an_error(
    status: str, body: str, message: str, tmp_path: Path
) -> None:
    """Such as that of another web server at the URL: the error says what came."""

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        text = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        await stream.send_all(text.encode())

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        with pytest.raises(StoreError, match=message):
            async with (
                open_clickhouse(url, spool=tmp_path / "s.db") as store,
                open_buffers(store, lines),
            ):
                pass
        nursery.cancel_scope.cancel()
