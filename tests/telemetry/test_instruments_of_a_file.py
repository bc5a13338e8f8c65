"""The instruments with a real SQLite file: all of them, and the attributes that name the file."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from opentelemetry.sdk.metrics.export import Histogram, Metric, Sum

import forebay
from forebay import Table, open_buffers, open_sqlite
from tests.telemetry.documented import documented_instruments
from tests.waiting import wait_until_async

if TYPE_CHECKING:
    from tests.telemetry.conftest import Meters


class Pair(NamedTuple):
    k: int
    v: int | None = None


PAIRS = Table(Pair, name="pairs", key="k")
OTHERS = Table(Pair, name="others", key="k")


def kind(metric: Metric) -> str:
    """Return the kind of a metric's instrument, in the words of the documentation."""
    match metric.data:
        case Histogram():
            return "histogram"
        case Sum(is_monotonic=True):
            return "counter"
        case Sum():
            return "up-down counter"
        case _:
            return "gauge"


def execute(raw: sqlite3.Connection, sql: str) -> None:
    raw.execute(sql)


async def test_the_instruments_are_these(meters: Meters, tmp_path: Path) -> None:
    """Names, kinds and units are those of docs/instruments.md; each has a description."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[PAIRS]) as store,
        open_buffers(store, PAIRS, meter_provider=meters.provider) as buffers,
    ):
        # Another connection holds the lock, so the first attempt fails and is retried.
        other = await forebay.sqlite.Connection.open(tmp_path / "a.db")
        await other.run(execute, "BEGIN IMMEDIATE")
        buffers[PAIRS].enqueue_nowait(Pair(1))
        await wait_until_async(lambda: buffers[PAIRS].statistics().retries, "a retry")
        await other.run(execute, "ROLLBACK")
        await other.aclose()
        await buffers[PAIRS].flush()
        [scope] = meters.scopes()
        shown = meters.all()
    of_a_spool = ("forebay.spool.", "forebay.delivery.")
    assert {
        name: described
        for name, described in documented_instruments().items()
        if not name.startswith(of_a_spool)
    } == {name: (kind(metric), metric.unit) for name, metric in shown.items()}
    assert [] == [name for name, metric in shown.items() if not metric.description]
    assert ("forebay", forebay.__version__, "https://opentelemetry.io/schemas/1.33.0") == (
        scope.scope.name,
        scope.scope.version,
        scope.scope.schema_url,
    )


@pytest.mark.parametrize(
    ("rows", "name"), [(1, "INSERT"), (2, "BATCH INSERT")], ids=["one", "several"]
)
async def test_a_transaction_is_named_by_the_conventions(
    rows: int, name: str, meters: Meters, tmp_path: Path
) -> None:
    """`db.client.operation.duration` has the system, the file, the table and the operation."""
    path = tmp_path / "a.db"
    async with (
        open_sqlite(path, create=[PAIRS]) as store,
        open_buffers(store, PAIRS, meter_provider=meters.provider) as buffers,
    ):
        await buffers[PAIRS].enqueue_many([Pair(n) for n in range(rows)])
        await buffers[PAIRS].flush()
        [(attributes, point)] = meters.points("db.client.operation.duration").items()
    assert {
        "db.system.name": "sqlite",
        "db.namespace": str(path),
        "db.collection.name": "pairs",
        "db.operation.name": name,
    } == dict(attributes)
    assert 1 == point.count
    assert 0 < point.sum < 30


async def test_the_size_of_the_wal_is_per_file(meters: Meters, tmp_path: Path) -> None:
    """Several buffers of one file have one size, without the name of a buffer."""
    path = tmp_path / "a.db"
    async with (
        open_sqlite(path, create=[PAIRS, OTHERS]) as store,
        open_buffers(store, PAIRS, OTHERS, meter_provider=meters.provider) as buffers,
    ):
        await buffers[PAIRS].write(Pair(1))
        size = Path(f"{path}-wal").stat().st_size
        name = (("db.namespace", str(path)), ("db.system.name", "sqlite"))
        assert {name: size} == meters.values("forebay.wal.size")
        assert size > 0


async def test_a_missing_wal_has_no_size(meters: Meters, tmp_path: Path) -> None:
    """There is no value then, and no error."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[PAIRS]) as store,
        open_buffers(store, PAIRS, meter_provider=meters.provider),
    ):
        Path(f"{store.path}-wal").unlink()
        assert {} == meters.values("forebay.wal.size")
