"""What must be planned for ClickHouse: how many writers, how many parts, and how much disk?

- `parts per second and table`: 100 tasks that each wait for `write` of a row at a time for some
  seconds, with the `insert_interval` of one second. Each INSERT makes a part.
- `writers per server`: how many INSERTs of 1,000 rows a second the server takes, and how many
  parts the fullest table has at the end: a server that merges too slowly has hundreds. Each writer
  sends one INSERT at a time, as a relay does, but without a pause. With a pause of one second, a
  server carries as many writers times tables as it takes INSERTs a second.
- `an hour of outage`: the size of the spool after flushes of 2,000 rows, which are those of 10,000
  rows/s at a `flush_interval` of 0.2 s, while nothing is sent. It is given per row, and for an hour
  at that rate. Rows have five columns with random values, and 52 bytes without compression.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from time import perf_counter

import trio

import forebay
from benchmarks.harness import Case, Contestant
from benchmarks.questions.clickhouse import Hit, contestant, hits, open_store, rows_of, server
from benchmarks.results import RATE, Measure
from forebay._batching.batch import FlushReason
from forebay._batching.coalesce import Coalescer
from forebay.stores.clickhouse import Compression
from forebay.stores.clickhouse._client import Client
from forebay.stores.clickhouse._declared import CreateOptions, create_sql
from forebay.stores.clickhouse._encoder import BlockEncoder
from forebay.stores.clickhouse._failures import Meaning, ServerError
from forebay.stores.clickhouse._spool_table import new_token

INSERTS = Measure("inserts", "INSERTs/s", more_is_better=False)
CARRIED = Measure("carried", "INSERTs/s", more_is_better=True)
PARTS = Measure("most parts", "parts of a table", more_is_better=False)
PER_ROW = Measure("per row", "bytes", more_is_better=False)
PER_HOUR = Measure("per hour at 10,000 rows/s", "MB", more_is_better=False)

FLUSH = 2_000
NEVER = 3600.0
"""An insert_interval after which nothing is sent any more but the first block."""


def cases(full: bool) -> Iterator[Case]:
    yield Case(
        "clickhouse_sizing",
        "parts per second and table",
        [RATE, INSERTS],
        [contestant("forebay, 100 tasks", partial(_small_flushes, 5.0), None)],
        rounds=1,
        warm_ups=0,
    )
    seconds = 60.0 if full else 10.0
    yield Case(
        "clickhouse_sizing",
        "writers per server",
        [CARRIED, PARTS],
        [
            _writers("50 writers, one table", 50, 1, seconds),
            _writers("50 writers, a table each", 50, 50, seconds),
        ],
        rounds=1,
        warm_ups=0,
    )
    compressions: tuple[Compression, ...] = ("zstd", "gzip", "none")
    yield Case(
        "clickhouse_sizing",
        "an hour of outage",
        [PER_ROW, PER_HOUR],
        [contestant(name, partial(_fill_spool, name), None) for name in compressions],
        rounds=1,
        warm_ups=0,
    )


def _small_flushes(seconds: float, path: Path) -> Mapping[str, float]:
    async def main() -> Mapping[str, float]:
        numbers = count()

        async def write(buffer: forebay.Buffer[Hit]) -> None:
            while True:
                await buffer.write(Hit("/", next(numbers), 0.1, "agent", None))

        async with open_store(path, 1.0) as store, forebay.open_buffers(store, hits) as buffers:
            started = perf_counter()
            with trio.move_on_after(seconds):
                async with trio.open_nursery() as nursery:
                    for _ in range(100):
                        nursery.start_soon(write, buffers[hits])
            took = perf_counter() - started
            return {"rate": next(numbers) / took, "inserts": store.statistics().requests / took}

    return trio.run(main)


def _writers(name: str, writers: int, tables: int, seconds: float) -> Contestant:
    names = [f"hits_{number}" for number in range(tables)]

    def prepare(_path: Path) -> None:
        for table in names:
            server().execute(f"DROP TABLE IF EXISTS default.{table} SYNC")
            server().execute(create_sql("default", hits, CreateOptions(), name=table))

    def check(_path: Path) -> None:
        for table in names:
            server().execute(f"DROP TABLE default.{table} SYNC")

    return Contestant(
        name, partial(_insert_all_the_time, names, writers, seconds), check=check, prepare=prepare
    )


def _insert_all_the_time(
    tables: list[str], writers: int, seconds: float, _path: Path
) -> Mapping[str, float]:
    """Send INSERTs without a pause, and count those that the server took, and its parts."""
    types = {"url": "String", "status": "Int64", "seconds": "Float64", "agent": "String"}
    types["referrer"] = "Nullable(String)"
    taken = 0

    async def write(client: Client, sql: str, body: bytes) -> None:
        nonlocal taken
        while True:
            try:
                await client.insert(sql, body, compression="", token=new_token(), timeout=60.0)
            except ServerError as error:
                if error.meaning is not Meaning.OVERLOADED:
                    raise
                await trio.sleep(1)
            else:
                taken += 1

    async def main() -> Mapping[str, float]:
        body = _block(rows_of(1_000), types)
        async with Client(
            server().url, user="default", password="", verify=True, connect_timeout=10
        ) as client:
            started = perf_counter()
            with trio.move_on_after(seconds):
                async with trio.open_nursery() as nursery:
                    for number in range(writers):
                        table = forebay.Table(Hit, name=tables[number % len(tables)])
                        sql = BlockEncoder(table, "default", types).sql
                        nursery.start_soon(write, client, sql, body)
            took = perf_counter() - started
        [[parts]] = server().query(
            "SELECT max(parts) FROM (SELECT count() AS parts FROM system.parts"
            " WHERE active AND table LIKE 'hits_%' GROUP BY table)"
        )
        return {"carried": taken / took, "most parts": parts}

    return trio.run(main)


def _block(rows: list[Hit], types: Mapping[str, str]) -> bytes:
    coalescer = Coalescer(hits)
    coalescer.add(rows, only_rows=True)
    [block] = BlockEncoder(hits, "default", types).encode(coalescer.take(FlushReason.FULL), 0)
    return block.to_bytes()


def _random_rows(number: int) -> list[Hit]:
    """Return rows that can be compressed as those of a web server: a few texts, random numbers."""
    random = Random(7)
    return [
        Hit(
            f"https://example.org/{random.randrange(5000)}",
            random.choice((200, 200, 200, 304, 404)),
            random.random(),
            f"agent {random.randrange(40)}",
            None,
        )
        for _ in range(number)
    ]


def _fill_spool(compression: Compression, path: Path) -> Mapping[str, float]:
    async def main() -> int:
        async with (
            open_store(path, NEVER, compression) as store,
            forebay.open_buffers(store, hits) as buffers,
        ):
            rows = _random_rows(100 * FLUSH)
            for start in range(0, len(rows), FLUSH):
                await buffers[hits].enqueue_many(rows[start : start + FLUSH])
                await buffers.flush()
            return store.statistics().waiting

    waiting = trio.run(main)
    per_row = path.with_suffix(".spool").stat().st_size / waiting
    return {"per row": per_row, "per hour at 10,000 rows/s": per_row * 10_000 * 3600 / 1e6}
