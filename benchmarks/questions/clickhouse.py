"""How many rows per second reach ClickHouse, against other clients, and what does the spool cost?

The server runs on the same machine, in a process of its own. Rows have five columns.

- `to the acknowledgement`: from the first call to the server's acknowledgement of the last row, in
  blocks of 20,000 rows. forebay commits each block to its spool first, and then sends it, with
  `insert_interval=0`. clickhouse-connect gets the same tuples by `insert`, asynch by `execute`.
- `commits`: `enqueue_many` and `flush` of 1,000 or 20,000 rows at a time, into the spool, while
  nothing is sent, and into a table of a SQLite file.
- `after an outage`: how fast a million rows leave a spool, and how much the memory of the program
  grows meanwhile.
"""

from __future__ import annotations

import asyncio
import atexit
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import clickhouse_connect
import trio
from asynch import Connection

import forebay
from benchmarks.harness import Case, Contestant, in_new_process, memory_of
from benchmarks.results import RATE, Measure
from forebay.stores import Store
from forebay.stores.clickhouse import ClickHouseStore, Compression, open_clickhouse
from forebay.stores.clickhouse._declared import CreateOptions, create_sql
from tests.stores.clickhouse.real_server import RealServer

BLOCK = 20_000
NEVER = 3600.0
"""An insert_interval after which nothing is sent any more but the first block."""

GROWTH = Measure("growth", "MiB", more_is_better=False)


class Hit(NamedTuple):
    url: str
    status: int
    seconds: float
    agent: str
    referrer: str | None


hits = forebay.Table(Hit, name="hits")


def rows_of(number: int) -> list[Hit]:
    return [
        Hit(f"https://example.org/{n % 5000}", 200 + n % 5, n * 0.001, f"agent {n % 40}", None)
        for n in range(number)
    ]


@cache
def server() -> RealServer:
    """Return a server, which is started once and killed at the end."""
    started = RealServer(Path(tempfile.mkdtemp(prefix="forebay-bench-clickhouse-")))
    started.start()
    atexit.register(started.kill)
    return started


def cases(full: bool) -> Iterator[Case]:
    rounds = 7 if full else 3
    rows = rows_of(400_000 if full else 200_000)
    yield Case(
        "clickhouse",
        "to the acknowledgement",
        [RATE],
        [
            contestant("forebay", partial(_forebay, rows), len(rows)),
            contestant("clickhouse-connect", partial(_clickhouse_connect, rows), len(rows)),
            contestant("asynch", partial(_asynch, rows), len(rows)),
        ],
        rounds=rounds,
    )
    for batch in (1_000, BLOCK):
        few = rows_of(50 * batch if batch < BLOCK else 10 * batch)
        yield Case(
            "clickhouse",
            f"commits of {batch:,} rows",
            [RATE],
            [
                contestant("spool", partial(_commit_to_spool, few, batch), None),
                contestant("SQLite", partial(_commit_to_sqlite, few, batch), None),
            ],
            reference="SQLite",
            rounds=rounds,
        )
    million = 1_000_000 if full else 400_000
    yield Case(
        "clickhouse",
        "after an outage",
        [RATE, GROWTH],
        [contestant("forebay", partial(_catch_up, million), million)],
        rounds=1,
        warm_ups=0,
    )


def contestant(
    name: str, run: Callable[[Path], Mapping[str, float]], expected: int | None
) -> Contestant:
    def prepare(_path: Path) -> None:
        server().execute("DROP TABLE IF EXISTS default.hits SYNC")
        server().execute(create_sql("default", hits, CreateOptions()))

    def check(_path: Path) -> None:
        [[found]] = server().query("SELECT count() FROM default.hits")
        if expected is not None and found != expected:
            raise AssertionError(f"{found} rows are in the table, {expected} are due")

    return Contestant(name, run, check=check, prepare=prepare)


@asynccontextmanager
async def open_store(
    path: Path, interval: float = 0.0, compression: Compression | None = None
) -> AsyncIterator[ClickHouseStore]:
    async with open_clickhouse(
        server().url,
        spool=path.with_suffix(".spool"),
        insert_interval=interval,
        compression=compression,
        delivery_timeout=0.0,
    ) as store:
        yield store


def _forebay(rows: list[Hit], path: Path) -> Mapping[str, float]:
    async def main() -> float:
        async with open_store(path) as store, forebay.open_buffers(store, hits) as buffers:
            started = perf_counter()
            await buffers[hits].enqueue_many(rows)
            await buffers.flush()
            await store.delivered()
            return perf_counter() - started

    return {"rate": len(rows) / trio.run(main)}


def _blocks(rows: list[Hit]) -> Iterator[list[Hit]]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


def _clickhouse_connect(rows: list[Hit], _path: Path) -> Mapping[str, float]:
    client = clickhouse_connect.get_client(host="127.0.0.1", port=server().port)
    started = perf_counter()
    for block in _blocks(rows):
        client.insert("hits", block, column_names=list(Hit._fields))
    took = perf_counter() - started
    client.close()
    return {"rate": len(rows) / took}


def _asynch(rows: list[Hit], _path: Path) -> Mapping[str, float]:
    async def main() -> float:
        async with (
            Connection(host="127.0.0.1", port=server().tcp_port) as connection,
            connection.cursor() as cursor,
        ):
            started = perf_counter()
            for block in _blocks(rows):
                await cursor.execute("INSERT INTO default.hits VALUES", block)
            return perf_counter() - started

    return {"rate": len(rows) / asyncio.run(main())}


async def _commit(store: Store, rows: list[Hit], batch: int) -> Mapping[str, float]:
    async with forebay.open_buffers(store, hits) as buffers:
        started = perf_counter()
        for start in range(0, len(rows), batch):
            await buffers[hits].enqueue_many(rows[start : start + batch])
            await buffers.flush()
        return {"rate": len(rows) / (perf_counter() - started)}


def _commit_to_spool(rows: list[Hit], batch: int, path: Path) -> Mapping[str, float]:
    async def main() -> Mapping[str, float]:
        async with open_store(path, NEVER) as store:
            return await _commit(store, rows, batch)

    return trio.run(main)


def _commit_to_sqlite(rows: list[Hit], batch: int, path: Path) -> Mapping[str, float]:
    async def main() -> Mapping[str, float]:
        async with forebay.open_sqlite(path, create=[hits]) as store:
            return await _commit(store, rows, batch)

    return trio.run(main)


def _catch_up(number: int, path: Path) -> Mapping[str, float]:
    async def fill() -> None:
        async with open_store(path, NEVER) as store, forebay.open_buffers(store, hits) as buffers:
            for start in range(0, number, BLOCK):
                await buffers[hits].enqueue_many(rows_of(min(BLOCK, number - start)))
                await buffers.flush()

    trio.run(fill)
    return in_new_process(_empty, server().url, path.with_suffix(".spool"))


def _empty(url: str, spool: Path) -> Mapping[str, float]:
    async def main() -> Mapping[str, float]:
        before = memory_of("self", "VmHWM")
        started = perf_counter()
        async with open_clickhouse(url, spool=spool, insert_interval=0.0) as store:
            await store.delivered()
            delivered = store.statistics().delivered
        took = perf_counter() - started
        growth = memory_of("self", "VmHWM") - before
        return {"rate": delivered / took, "growth": growth / (1 << 20)}

    return trio.run(main)
