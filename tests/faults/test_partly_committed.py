"""A batch is committed in parts, and then fails: each entry has exactly one outcome.

If a table refuses rows only at COMMIT, or if its own rule rolls the transaction back, the batch is
committed in several transactions. If a later one fails, the error must not name entries that are
committed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from forebay import DrainError, FlushError, Table, Unsettled, Write, open_buffers, open_sqlite
from tests.faults.harness import read
from tests.faults.tables import PATIENT
from tests.faults.watched import Failures


class Pair(NamedTuple):
    k: int
    v: int


PAIRS = Table(Pair, name="pairs")
GOOD, BAD = 1, 9

DEFERRED = """
    CREATE TABLE parents (v INTEGER PRIMARY KEY);
    INSERT INTO parents VALUES (1);
    CREATE TABLE pairs (
        k INTEGER, v INTEGER REFERENCES parents (v) DEFERRABLE INITIALLY DEFERRED
    )
"""
ROLLING_BACK = f"""
    CREATE TABLE pairs (k INTEGER, v INTEGER, w AS (nullif(v, {BAD})) NOT NULL ON CONFLICT ROLLBACK)
"""

ROWS = [Pair(k, BAD if k % 5 == 2 else GOOD) for k in range(40)]


@pytest.fixture(params=[DEFERRED, ROLLING_BACK], ids=["deferred", "rolling back"])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(request.param)
    return path


@pytest.fixture
def rows_flushed() -> Iterator[RowsFlushed]:
    counted = RowsFlushed()
    yield counted
    counted.provider.shutdown()


class RowsFlushed:
    """The metric that counts the committed rows."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def value(self) -> float:
        data = self._reader.get_metrics_data()
        assert data is not None
        return sum(
            point.value
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            if metric.name == "forebay.rows.flushed"
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint)
        )


def check(path: Path, unsettled: Unsettled) -> None:
    """Check that each row is in the table, in the dead letters or in the error, exactly once."""
    committed = [k for (k,) in read(path, "SELECT k FROM pairs")]
    letters = [entry for (entry,) in read(path, "SELECT entry FROM forebay_dead_letters")]
    refused = [json.loads(entry)["write"]["k"] for entry in letters]
    named = [entry.row[0] for entry in unsettled.entries if isinstance(entry, Write)]
    assert list(range(len(ROWS))) == sorted(committed + refused + named)
    assert committed
    assert named
    assert len(named) == unsettled.count == len(unsettled.entries)


async def test_the_error_of_a_flood_names_only_entries_that_are_nowhere_else(
    path: Path, rows_flushed: RowsFlushed
) -> None:
    """Entries that were committed or dead-lettered before the limit are counted, and not named."""
    with pytest.raises(FlushError) as raised:
        async with (
            open_sqlite(path, pragmas={"foreign_keys": 1}) as store,
            open_buffers(
                store,
                PAIRS,
                options=PATIENT.override({"dead_letters_per_minute": 3}),
                meter_provider=rows_flushed.provider,
            ) as buffers,
        ):
            await buffers[PAIRS].enqueue_many(ROWS)
            with pytest.raises(trio.BrokenResourceError):
                await buffers.flush()
    now = buffers[PAIRS].statistics()
    assert now.accepted == now.committed + now.dead_lettered + now.pending
    assert now.pending == raised.value.unsettled.count
    assert now.committed == rows_flushed.value()
    check(path, raised.value.unsettled)


class LockedAt:
    """Another connection acquires the write lock just before the n-th BEGIN IMMEDIATE."""

    def __init__(self, path: Path, number: int) -> None:
        self.number = number
        self.raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def install(self, raw: sqlite3.Connection) -> None:
        raw.set_trace_callback(self._traced)

    def _traced(self, sql: str) -> None:
        if sql == "BEGIN IMMEDIATE":
            self.number -= 1
            if self.number == 0:
                self.raw.execute("BEGIN IMMEDIATE")


@pytest.fixture(params=[10, 15, 20])
def locked(path: Path, request: pytest.FixtureRequest) -> Iterator[LockedAt]:
    locked = LockedAt(path, request.param)
    with closing(locked.raw):
        yield locked


async def test_the_error_of_a_late_drain_names_only_entries_that_are_nowhere_else(
    path: Path, locked: LockedAt, rows_flushed: RowsFlushed
) -> None:
    """Another process locks the file between two parts, until after the deadline."""
    options = PATIENT.override({"drain_timeout": 0.05})
    with pytest.raises(DrainError) as raised:
        async with (
            open_sqlite(path, pragmas={"foreign_keys": 1}, busy_timeout=0.001) as store,
            open_buffers(
                store, PAIRS, options=options, meter_provider=rows_flushed.provider
            ) as buffers,
        ):
            await buffers[PAIRS].enqueue_many(ROWS)
            await store.run(locked.install)
    now = buffers[PAIRS].statistics()
    assert now.accepted == now.committed + now.dead_lettered + now.pending
    assert now.committed == rows_flushed.value()
    check(path, raised.value.unsettled["pairs"])


async def test_the_rest_of_a_batch_waits_for_a_lock(
    path: Path, locked: LockedAt, rows_flushed: RowsFlushed
) -> None:
    """It is retried when the lock is released; no row is written or counted twice."""
    async with (
        open_sqlite(path, pragmas={"foreign_keys": 1}, busy_timeout=0.001) as store,
        open_buffers(
            store, PAIRS, options=PATIENT, meter_provider=rows_flushed.provider
        ) as buffers,
        trio.open_nursery() as nursery,
    ):
        failures = Failures(store)
        await buffers[PAIRS].enqueue_many(ROWS)
        await store.run(locked.install)
        nursery.start_soon(buffers.flush)
        await failures.wait(2)
        locked.raw.execute("ROLLBACK")
    good = [(row.k,) for row in ROWS if row.v == GOOD]
    assert good == read(path, "SELECT k FROM pairs ORDER BY k")
    assert len(good) == rows_flushed.value()
    bad = len(ROWS) - len(good)
    assert [(bad,)] == read(path, "SELECT count(*) FROM forebay_dead_letters")
