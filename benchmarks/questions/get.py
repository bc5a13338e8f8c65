"""What does a read by key cost, if the pending entries decide, and if the table has to be read?

`get` of a row that is pending, or that is in the table, with nothing else pending or with 5,000
entries of other keys pending; and `fetch_one` of the same row with typed rows, for comparison.
`first get` is the first call after 5,000 entries were accepted, which indexes them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import trio

import forebay
from benchmarks.harness import Case, Contestant
from benchmarks.results import Measure

MEASURES = (Measure("p50", "s", more_is_better=False), Measure("p99", "s", more_is_better=False))
_PENDING = 5_000


class Row(NamedTuple):
    key: str
    payload: str
    a: float
    b: int


ROWS = forebay.Table(Row, name="rows", key="key")
OPTIONS = forebay.BufferOptions(capacity=20_000, batch_size=20_000, flush_interval=inf)
SQL = "SELECT * FROM rows WHERE key = ?"


def _row(number: int) -> Row:
    return Row(f"key {number}", "payload", 0.5, number)


def cases(full: bool) -> Iterator[Case]:
    calls = 2_000 if full else 400
    for name, pending in (("nothing else pending", 0), (f"{_PENDING:,} other entries", _PENDING)):
        contestants = [
            _contestant("get, in memory", calls, pending, stored=False),
            _contestant("get, in the table", calls, pending, stored=True),
            _contestant("fetch_one", calls, pending, stored=True, by_sql=True),
        ]
        yield Case(
            "get", name, MEASURES, contestants, reference="fetch_one", rounds=21 if full else 7
        )
    yield Case(
        "get",
        f"first get with {_PENDING:,} entries",
        MEASURES,
        [_contestant("get, in memory", 1, _PENDING, stored=False, warm_up=0)],
        rounds=21 if full else 7,
    )


def _contestant(
    name: str,
    calls: int,
    pending: int,
    *,
    stored: bool,
    by_sql: bool = False,
    warm_up: int = 20,
) -> Contestant:
    async def measure(path: Path) -> list[float]:
        async with (
            forebay.open_sqlite(path) as store,
            forebay.open_buffers(store, ROWS, options=OPTIONS) as buffers,
        ):
            buffer = buffers[ROWS]
            await buffer.enqueue(_row(0))
            if stored:
                await buffer.flush()
            await buffer.enqueue_many([_row(1 + i) for i in range(pending)])
            durations = []
            for _ in range(warm_up + calls):
                started = perf_counter()
                if by_sql:
                    row = await store.fetch_one(SQL, ("key 0",), table=ROWS)
                else:
                    row = await buffer.get("key 0")
                durations.append(perf_counter() - started)
                if row != _row(0):
                    raise AssertionError(f"{name}: read {row!r}")
        return durations[warm_up:]

    def run(path: Path) -> Mapping[str, float]:
        durations = trio.run(measure, path)
        if len(durations) == 1:
            return {"p50": durations[0], "p99": durations[0]}
        quantiles = statistics.quantiles(durations, n=100)
        return {"p50": quantiles[49], "p99": quantiles[98]}

    async def create(path: Path) -> None:
        async with forebay.open_sqlite(path, create=[ROWS]):
            pass

    async def count(path: Path) -> int:
        async with forebay.open_sqlite(path) as store:
            found = await store.fetch_one("SELECT count(*) FROM rows")
        return 0 if found is None else int(found[0])

    def check(path: Path) -> None:
        if trio.run(count, path) != pending + 1:
            raise AssertionError(f"{name}: the table does not have {pending + 1} rows")

    return Contestant(name, run, check, lambda path: trio.run(create, path))
