"""The instruments on a real SQLite file: all of them, and those that name the file."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio
from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum

import forebay
from forebay import Table, open_buffers, open_sqlite

if TYPE_CHECKING:
    from tests.telemetry.conftest import Meters


class Pair(NamedTuple):
    k: int
    v: int | None = None


PAIRS = Table(Pair, name="pairs", key="k")
OTHERS = Table(Pair, name="others", key="k")

INSTRUMENTS = {
    "forebay.flush.duration": (Histogram, "s"),
    "forebay.flush.size": (Histogram, "{row}"),
    "forebay.rows.flushed": (Sum, "{row}"),
    "forebay.entries.accepted": (Sum, "{entry}"),
    "forebay.entries.superseded": (Sum, "{entry}"),
    "forebay.entries.dead_lettered": (Sum, "{entry}"),
    "forebay.flush.retries": (Sum, "{retry}"),
    "forebay.queue.size": (Sum, "{entry}"),
    "forebay.queue.utilization": (Gauge, "1"),
    "forebay.queue.oldest.age": (Gauge, "s"),
    "forebay.wal.size": (Gauge, "By"),
    "db.client.operation.duration": (Histogram, "s"),
}


def execute(raw: sqlite3.Connection, sql: str) -> None:
    raw.execute(sql)


async def test_the_instruments_are_these(meters: Meters, tmp_path: Path) -> None:
    """Names, kinds and units are those documented; each is described; the scope is forebay's."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[PAIRS]) as store,
        open_buffers(store, PAIRS, meter_provider=meters.provider) as buffers,
    ):
        with trio.fail_after(30):
            # Another connection has the lock: the first attempt is one to retry.
            other = await forebay.sqlite.Connection.open(tmp_path / "a.db")
            await other.run(execute, "BEGIN IMMEDIATE")
            buffers[PAIRS].enqueue_nowait(Pair(1))
            while buffers[PAIRS].statistics().retries == 0:
                await trio.lowlevel.checkpoint()
            await other.run(execute, "ROLLBACK")
            await other.aclose()
            await buffers[PAIRS].flush()
        [scope] = meters.scopes()
        shown = meters.all()
    assert INSTRUMENTS == {name: (type(m.data), m.unit) for name, m in shown.items()}
    assert [] == [name for name, metric in shown.items() if not metric.description]
    assert ("forebay", forebay.__version__, "https://opentelemetry.io/schemas/1.33.0") == (
        scope.scope.name,
        scope.scope.version,
        scope.scope.schema_url,
    )
    monotonic = {n for n, m in shown.items() if isinstance(m.data, Sum) and m.data.is_monotonic}
    assert "forebay.queue.size" not in monotonic
    assert {"forebay.rows.flushed", "forebay.entries.accepted", "forebay.flush.retries"} < monotonic


@pytest.mark.parametrize(
    ("rows", "name"), [(1, "INSERT"), (2, "BATCH INSERT")], ids=["one", "several"]
)
async def test_a_transaction_is_named_by_the_conventions(
    rows: int, name: str, meters: Meters, tmp_path: Path
) -> None:
    """`db.client.operation.duration` names system, file, table and operation, and no buffer."""
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


async def test_the_wal_is_gauged_by_file(meters: Meters, tmp_path: Path) -> None:
    """One size a database file, whatever the number of its buffers, without a buffer's name."""
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


async def test_a_missing_wal_is_not_gauged(meters: Meters, tmp_path: Path) -> None:
    """Where there is no log file there is no value, and no error."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[PAIRS]) as store,
        open_buffers(store, PAIRS, meter_provider=meters.provider),
    ):
        Path(f"{store.path}-wal").unlink()
        assert {} == meters.values("forebay.wal.size")
