"""What does a value of each type cost, against the stored value in a column without a codec?

Each table has an integer key and 8 columns of one type. `write` is the time of `enqueue_many` per
value, with room for all rows in the buffer, and nothing is flushed before the clock has stopped.
`read` is the time of `fetch_all(…, table=…)` per value. The contestant `stored` has the same rows
as they are stored, in columns of `str`, `int` or `bytes`, and reads them without a table. The case
`str` shows the cost of `table=` alone.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any
from uuid import UUID

import trio

import forebay
from benchmarks.harness import Case, Contestant
from benchmarks.results import Measure

MEASURES = (
    Measure("write", "s", more_is_better=False),
    Measure("read", "s", more_is_better=False),
)
COLUMNS = [f"c{i}" for i in range(8)]
START = datetime(2026, 1, 1, tzinfo=UTC)


class State(enum.Enum):
    NEW = "new"
    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True)
class _Type:
    """A type of columns: its name, its annotation, the n-th value, and what is stored of it."""

    name: str
    annotation: Any
    value: Callable[[int], Any]
    storage: type
    stored: Callable[[Any], Any]


def _moment(n: int) -> datetime:
    return START + timedelta(seconds=n, microseconds=n % 1000)


def _day(n: int) -> date:
    return START.date() + timedelta(days=n % 10_000)


def _document(n: int) -> dict[str, Any]:
    return {"path": f"/page/{n}", "tags": ["a", "b"], "size": n}


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _microseconds(value: datetime) -> int:
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


TYPES = (
    _Type("str", str, "text {:08d}".format, str, str),
    _Type("datetime", datetime, _moment, str, lambda v: v.isoformat(" ", "microseconds")),
    _Type(
        "UnixMicroseconds", Annotated[datetime, forebay.UnixMicroseconds],
        _moment, int, _microseconds,
    ),
    _Type("date", date, _day, str, str),
    _Type("UUID", UUID, lambda n: UUID(int=n), str, str),
    _Type(
        "UuidBytes", Annotated[UUID, forebay.UuidBytes],
        lambda n: UUID(int=n), bytes, lambda v: v.bytes,
    ),
    _Type("Decimal", Decimal, lambda n: Decimal(n).scaleb(-2), str, str),
    _Type("Enum", State, lambda n: list(State)[n % 3], str, lambda v: v.value),
    _Type("Json", Annotated[dict[str, Any], forebay.Json], _document, str, _compact),
)  # fmt: skip


def cases(full: bool) -> Iterator[Case]:
    count = 20_000 if full else 4_000
    for kind in TYPES:
        values = [[kind.value(row * len(COLUMNS) + i) for i in range(8)] for row in range(count)]
        rows = [(number, *row) for number, row in enumerate(values)]
        stored = [(number, *map(kind.stored, row)) for number, row in enumerate(values)]
        yield Case(
            "typed_columns",
            kind.name,
            MEASURES,
            [
                _contestant("typed", kind.annotation, rows, stored, typed_reads=True),
                _contestant("stored", kind.storage, stored, stored, typed_reads=False),
            ],
            rounds=21 if full else 7,
        )


def _contestant(
    name: str,
    annotation: Any,
    rows: Sequence[tuple[Any, ...]],
    stored: Sequence[tuple[Any, ...]],
    *,
    typed_reads: bool,
) -> Contestant:
    table = forebay.Table.from_columns(
        {"id": int, **dict.fromkeys(COLUMNS, annotation)}, name="rows", key="id"
    )
    options = forebay.BufferOptions(
        capacity=2 * len(rows), batch_size=2 * len(rows), flush_interval=inf
    )
    sql = "SELECT * FROM rows ORDER BY id"

    async def prepare(path: Path) -> None:
        async with forebay.open_sqlite(path, create=[table]):
            pass

    async def run(path: Path) -> Mapping[str, float]:
        values = len(rows) * len(COLUMNS)
        async with forebay.open_sqlite(path) as store:
            async with forebay.open_buffers(store, table, options=options) as buffers:
                started = perf_counter()
                await buffers[table].enqueue_many(rows)
                write = perf_counter() - started
            started = perf_counter()
            found = await store.fetch_all(sql, table=table if typed_reads else None)
            read = perf_counter() - started
        if found != rows:
            raise AssertionError(f"{name}: other rows were read than those that were written")
        return {"write": write / values, "read": read / values}

    async def check(path: Path) -> None:
        async with forebay.open_sqlite(path) as store:
            if await store.fetch_all(sql) != stored:
                raise AssertionError(f"{name}: the table has other rows than those to store")

    return Contestant(
        name,
        run=lambda path: trio.run(run, path),
        check=lambda path: trio.run(check, path),
        prepare=lambda path: trio.run(prepare, path),
    )
