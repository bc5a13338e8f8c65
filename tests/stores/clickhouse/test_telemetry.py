"""The metrics of deliveries to a real ClickHouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from forebay import open_buffers
from tests.stores.clickhouse.proxy import Answer, proxy_to
from tests.stores.clickhouse.real_server import RealServer
from tests.stores.clickhouse.tools import Line, lines, open_store
from tests.telemetry.documented import documented_instruments


def read(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Return the points of each metric."""
    data = reader.get_metrics_data()
    assert data is not None
    [resource] = data.resource_metrics
    [scope] = resource.scope_metrics
    return {metric.name: list(metric.data.data_points) for metric in scope.metrics}


async def test_deliveries_are_measured(server: RealServer, database: str, tmp_path: Path) -> None:
    """Each request, each failure by its code, each delivered block, and what waits."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    async with (
        proxy_to(server, Answer(241)) as proxy,
        open_store(proxy, database, tmp_path, lines) as store,
        open_buffers(store, lines, meter_provider=provider) as buffers,
    ):
        async with open_buffers(store, lines, meter_provider=provider):
            pass  # a second group of buffers does not report deliveries a second time
        await buffers[lines].write(Line("x", 1))
        await store.delivered()
        points = read(reader)
    [retries] = points["forebay.delivery.retries"]
    assert (1, {"buffer": "lines", "error.type": "241"}) == (retries.value, retries.attributes)
    [delivered] = points["forebay.delivery.duration"]
    assert (1, {"buffer": "lines"}) == (delivered.count, delivered.attributes)
    requests = [
        point
        for point in points["db.client.operation.duration"]
        if point.attributes["db.system.name"] == "clickhouse"
    ]
    common = {
        "db.system.name": "clickhouse",
        "db.namespace": database,
        "server.address": "127.0.0.1",
        "db.collection.name": "lines",
        "db.operation.name": "BATCH INSERT",
    }
    failed = {**common, "error.type": "241", "db.response.status_code": "241"}
    found = sorted(((p.count, dict(p.attributes)) for p in requests), key=lambda pair: len(pair[1]))
    assert [(1, common), (1, failed)] == found
    assert {"sqlite", "clickhouse"} == {
        point.attributes["db.system.name"] for point in points["db.client.operation.duration"]
    }
    spool = ("size", "entries", "oldest.age", "utilization")
    for name in (*(f"spool.{name}" for name in spool), "delivery.blocked"):
        [point] = points[f"forebay.{name}"]
        assert (0, {"buffer": "lines"}) == (point.value, point.attributes)
    documented = documented_instruments()
    assert set(points) <= set(documented)
    assert {name for name in documented if name.startswith(("forebay.spool", "forebay.del"))} <= (
        set(points)
    )


async def test_a_blocked_table_and_a_full_spool_are_measured(
    server: RealServer, database: str, tmp_path: Path
) -> None:
    """The table is gone, and the spool is beyond its limit; then the table is back."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    async with (
        proxy_to(server) as proxy,
        open_store(proxy, database, tmp_path, lines, spool_bytes=10) as store,
        open_buffers(store, lines, meter_provider=provider) as buffers,
    ):
        server.execute(f"RENAME TABLE {database}.lines TO {database}.moved")
        await buffers[lines].write(Line("x" * 100, 1))
        await proxy.wait_for_inserts(2)  # it was refused once
        points = read(reader)
        server.execute(f"RENAME TABLE {database}.moved TO {database}.lines")
        await store.delivered()
        after = read(reader)
    [blocked] = points["forebay.delivery.blocked"]
    assert (1, {"buffer": "lines"}) == (blocked.value, blocked.attributes)
    [size], [used] = points["forebay.spool.size"], points["forebay.spool.utilization"]
    assert size.value / 10 == used.value > 1
    assert [0, 0] == [
        point.value
        for name in ("delivery.blocked", "spool.utilization")
        for point in after[f"forebay.{name}"]
    ]
