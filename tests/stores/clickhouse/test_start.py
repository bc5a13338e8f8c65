"""What the start of a program does about a server that hangs, and about tables that are wrong."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock

from forebay import SchemaError, StoreError, Table, open_buffers
from forebay.stores.clickhouse import open_clickhouse
from forebay.stores.clickhouse._failures import NoAnswerError
from forebay.stores.clickhouse._start_limit import StartLimit
from tests.ports import free_port
from tests.stores.clickhouse.real_server import RealServer
from tests.stores.clickhouse.tools import Count, Line, Page, counts, lines, open_store, pages


class Mixed(NamedTuple):
    name: str
    value: int | str


mixed = Table(Mixed, name="mixed", key="name")


async def test_a_column_of_several_types_is_refused_before_a_table_is_created(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """The error has the column and the types that are possible; no table is created."""
    with pytest.raises(
        SchemaError, match=r"column 'value': .+ str or int, .+ one of str,"
    ) as refused:
        async with open_store(server, database, tmp_path, lines, mixed):
            pass
    assert ("mixed", None) == (refused.value.table, refused.value.sql)
    assert [] == server.query(f"SELECT name FROM system.tables WHERE database = '{database}'")
    with pytest.raises(SchemaError, match="column 'value'"):
        async with open_store(server, database, tmp_path) as store, open_buffers(store, mixed):
            pass


@pytest.mark.parametrize("kind", ["created", "checked"])
async def test_a_missing_database_is_refused_with_the_statement_that_creates_it(
    server: RealServer, database: str, tmp_path: Path, kind: str
) -> None:
    """After it was executed, the program starts."""
    name = f"{database}_missing"
    create = [lines] if kind == "created" else []

    async def start() -> None:
        async with (
            open_store(server, name, tmp_path, *create) as store,
            open_buffers(store, lines) as buffers,
        ):
            await buffers[lines].write(Line("x", 1))

    with pytest.raises(SchemaError) as refused:
        await start()
    assert refused.value.sql is not None
    try:
        for statement in filter(None, refused.value.sql.split(";")):
            server.execute(statement)
        await start()
        assert [["x", 1]] == server.query(f"SELECT * FROM {name}.lines")
    finally:
        server.execute(f"DROP DATABASE IF EXISTS {name} SYNC")


async def test_a_missing_database_of_a_cluster_is_created_on_the_cluster(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """As the tables are."""
    name = f"{database}_missing"
    with pytest.raises(SchemaError) as refused:
        async with (
            open_store(server, name, tmp_path, cluster="all") as store,
            open_buffers(store, lines),
        ):
            pass
    assert refused.value.sql is not None
    assert refused.value.sql.startswith(f"CREATE DATABASE `{name}` ON CLUSTER `all`;")


async def test_all_tables_that_are_wrong_are_in_one_error(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """A user corrects them in one go: the statements of the error correct all of them."""
    server.execute(f"CREATE TABLE {database}.lines (text String) ENGINE = MergeTree ORDER BY ()")

    async def start(*tables: Table[Any]) -> None:
        async with open_store(server, database, tmp_path) as store, open_buffers(store, *tables):
            pass

    with pytest.raises(SchemaError) as refused:
        await start(lines, pages, counts, mixed)
    for table in ("lines", "pages", "counts", "mixed"):
        assert table in str(refused.value)
    assert "lines" == refused.value.table
    assert refused.value.sql is not None
    for statement in filter(None, refused.value.sql.split(";")):
        server.execute(statement)
    await start(lines, pages, counts)


@dataclass
class Silence:
    """A server that accepts connections and never answers."""

    connections: int = 0

    @asynccontextmanager
    async def at(self, port: int) -> AsyncIterator[None]:
        async def wait(_stream: trio.SocketStream) -> None:
            self.connections += 1
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_tcp, wait, port, host="127.0.0.1"))
            yield
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("options", "requests"),
    [({"request_timeout": 0.2}, 2), ({"request_timeout": 3600.0, "start_timeout": 0.2}, 1)],
)
async def test_a_server_that_hangs_is_asked_once(
    server: RealServer,
    database: str,
    tmp_path: Path,
    options: dict[str, float],
    requests: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not once per table, and no longer than `start_timeout`: then the program goes on."""
    tables: list[Table[Any]] = [lines, pages, counts]
    async with (
        open_store(server, database, tmp_path, *tables) as store,
        open_buffers(store, *tables),
    ):
        pass
    silence = Silence()
    caplog.set_level(logging.WARNING)
    server.kill()
    try:
        async with (
            silence.at(server.port),
            open_store(
                server, database, tmp_path, *tables, delivery_timeout=0.0, **options
            ) as store,
            open_buffers(store, *tables) as buffers,
        ):
            connections = silence.connections
            await buffers[lines].write(Line("x", 1))
            await buffers[pages].write(Page("/", 1))
            await buffers[counts].write(Count("a", 1, None, 1, "", None))
            assert 3 == store.statistics().waiting
    finally:
        server.start()
    assert requests >= connections
    texts = [
        record.getMessage() for record in caplog.records if "wait in the" in record.getMessage()
    ]
    assert 3 == len(texts)
    async with open_store(server, database, tmp_path) as store:
        await store.delivered()
    assert [["x", 1]] == server.query(f"SELECT * FROM {database}.lines")


async def test_the_start_spends_its_time_once(autojump_clock: MockClock) -> None:
    """What one request took is not left for the next ones; an error takes its time too."""

    async def answer(text: str) -> int:
        await trio.sleep(4)
        return int(text)

    limit = StartLimit(10.0)
    assert 7 == await limit.call(partial(answer, "7"))
    with pytest.raises(ValueError, match="invalid literal"):
        await limit.call(partial(answer, "no number"))
    began = trio.current_time()
    for due in (2, 0):
        with pytest.raises(NoAnswerError):
            await limit.call(partial(answer, "7"))
        assert due == trio.current_time() - began
        began = trio.current_time()


async def test_a_table_that_was_never_checked_is_not_used_unchecked(tmp_path: Path) -> None:
    """The error says how long the start has waited."""
    port = free_port()
    async with Silence().at(port):
        with pytest.raises(StoreError, match="start_timeout"):
            async with (
                open_clickhouse(
                    f"http://127.0.0.1:{port}", spool=tmp_path / "s.db", start_timeout=0.1
                ) as store,
                open_buffers(store, lines),
            ):
                pass


LACKS = (
    b"Code: 36. DB::Exception: Unsupported aggregate function any_respect_nulls. (BAD_ARGUMENTS)"
)


async def answer_as_24_8(stream: trio.SocketStream) -> None:
    """Answer as ClickHouse 24.8 does, which has no such functions that keep NULL."""
    request = b""
    with contextlib.suppress(trio.BrokenResourceError):
        async for data in stream:
            request += data
            _, _, body = request.partition(b"\r\n\r\n")
            if b"FORMAT JSON" not in body:
                continue
            request = b""
            if b"_respect_nulls" in body:
                code, text = b"400 Bad Request\r\nX-ClickHouse-Exception-Code: 36", LACKS
            else:
                assert b"version()" in body
                code = b"200 OK\r\nX-ClickHouse-Format: JSON"
                text = b'{"data": [{"version": "24.8.4.13"}]}'
            length = str(len(text)).encode()
            await stream.send_all(
                b"HTTP/1.1 " + code + b"\r\nContent-Length: " + length + b"\r\n\r\n" + text
            )


@pytest.mark.parametrize("create", [[counts], []])
async def test_a_server_without_a_function_that_keeps_null_is_refused(
    tmp_path: Path, create: list[Table[Any]]
) -> None:
    """The error has the column and what to do; a real server of today has the functions."""
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(
            partial(trio.serve_tcp, answer_as_24_8, 0, host="127.0.0.1")
        )
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        with pytest.raises(SchemaError, match=r"column 'last': .+ without None") as refused:
            async with (
                open_clickhouse(url, spool=tmp_path / "s.db", create=create) as store,
                open_buffers(store, counts),
            ):
                pass
        nursery.cancel_scope.cancel()
    assert ("counts", None) == (refused.value.table, refused.value.sql)
