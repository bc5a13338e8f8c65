"""The metrics of a cache: each documented instrument, and values that add up."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from forebay.cache import ArtifactKey, CacheOptions, UnavailableError, open_cache
from tests.cache.tools import BY_HAND, FakeStorage
from tests.telemetry.documented import documented_instruments

PREFIX = "forebay.cache."

Values = dict[str, dict[tuple[tuple[str, object], ...], float]]


def values(reader: InMemoryMetricReader) -> Values:
    """Return the values of the cache's instruments, by name and attributes."""
    data = reader.get_metrics_data()
    found: Values = {}
    if data is None:
        return found
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name.startswith(PREFIX):
                    points = found.setdefault(metric.name.removeprefix(PREFIX), {})
                    for point in metric.data.data_points:
                        assert isinstance(point, NumberDataPoint)
                        points[tuple(sorted((point.attributes or {}).items()))] = point.value
    return found


def of(**attributes: str) -> tuple[tuple[str, object], ...]:
    return tuple(sorted(attributes.items()))


OPTIONS = replace(
    BY_HAND,
    budget_bytes=1_000,
    key_value_budget_bytes=1_000,
    high_watermark=0.5,
    target=0.25,
    transfer_attempts=1,
)


async def test_each_instrument_has_what_happened(tmp_path: Path) -> None:
    """They are those that the documentation lists, with the attributes that it lists."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    storage = FakeStorage()
    async with open_cache(
        tmp_path, storage=storage, options=OPTIONS, meter_provider=provider
    ) as cache:
        assert cache.transfer_worker is not None
        names = [ArtifactKey("acme", "app", "cas", str(n)) for n in range(6)]
        for name in names:
            await cache.store_artifact(name, bytes(100))
        storage.raises[str(names[0])] = ValueError("odd")
        await cache.transfer_worker.run_once()
        async with cache.reading_artifact(names[0]) as artifact:
            assert artifact is not None
        async with cache.reading_artifact(ArtifactKey("acme", "app", "cas", "none")) as artifact:
            assert artifact is None
        for n in range(7):
            await cache.key_values.put_bytes(str(n), "acme", "app", bytes(100))
        assert await cache.key_values.get_bytes("0", "acme", "app") is not None
        assert await cache.key_values.get("none", "acme", "app") is None
        await cache.evictor.run_once()
        await cache.key_value_evictor.run_once()
        found = values(reader)
        memory = cache.statistics().key_values.memory_bytes
    artifacts, key_values = of(store="artifacts"), of(store="key_values")
    assert {
        of(store="artifacts", result="hit"): 1,
        of(store="artifacts", result="miss"): 1,
        of(store="key_values", result="hit"): 1,
        of(store="key_values", result="miss"): 1,
    } == found["lookups"]
    assert {
        of(store="artifacts", direction="read"): 100,
        of(store="artifacts", direction="write"): 600,
        of(store="key_values", direction="read"): 100,
        of(store="key_values", direction="write"): 700,
    } == found["io"]
    assert {artifacts: 4, key_values: 5} == found["evictions"]
    assert {artifacts: 400, key_values: 500} == found["evicted.size"]
    assert {artifacts: 200, key_values: 200} == found["usage"]
    assert {artifacts: 1_000, key_values: 1_000} == found["limit"]
    assert {key_values: memory} == found["memory.size"]
    assert memory > 200
    expected = {"done": 5, "missing": 0, "rate_limited": 0, "unavailable": 0}
    expected |= {"failed": 1, "dropped": 1}
    assert {of(result=each): n for each, n in expected.items()} == found["transfers"]
    queued = {of(type="upload"): 6, of(type="download"): 0, of(type="delete"): 0}
    assert queued == found["transfers.queued"]
    expected = {"fetched": 0, "missing": 1, "failed": 0, "skipped": 0}
    assert {of(result=each): n for each, n in expected.items()} == found["fetches"]
    assert {PREFIX + name for name in found} == set(documented_instruments("cache.md"))


async def test_the_counts_of_a_closed_cache_stay(tmp_path: Path) -> None:
    """A later cache continues them; open ones are added up. The gauges are those of open ones."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    hits = of(store="key_values", result="hit")
    for opened in range(1, 3):
        async with (
            open_cache(tmp_path / "a", options=OPTIONS, meter_provider=provider) as one,
            open_cache(tmp_path / "b", options=OPTIONS, meter_provider=provider) as two,
        ):
            for cache in (one, two):
                await cache.key_values.put("id", "acme", "app", ["a"])
                await cache.key_values.get("id", "acme", "app")
            assert 2 * opened == values(reader)["lookups"][hits]
            assert "memory.size" in values(reader)
            assert "transfers" not in values(reader)  # without an object storage
        assert 2 * opened == values(reader)["lookups"][hits]
        assert "memory.size" not in values(reader)


async def test_a_reader_in_another_thread_gets_the_metrics(tmp_path: Path) -> None:
    """While the cache is used, and after it was closed."""
    reader = InMemoryMetricReader()
    async with open_cache(
        tmp_path, options=OPTIONS, meter_provider=MeterProvider([reader])
    ) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
        found = await trio.to_thread.run_sync(values, reader)
        assert 1 == len(found["memory.size"])
    found = await trio.to_thread.run_sync(values, reader)
    assert "lookups" in found


async def test_the_usage_is_that_of_the_disk_without_a_budget(tmp_path: Path) -> None:
    """And the values have no limit then."""
    reader = InMemoryMetricReader()
    options = CacheOptions(eviction_interval=math.inf, high_watermark=1.0)
    async with open_cache(
        tmp_path, options=options, meter_provider=MeterProvider([reader])
    ) as cache:
        assert "usage" not in values(reader)
        await cache.evictor.run_once()
        await cache.key_value_evictor.run_once()
        found = values(reader)
        assert {of(store="artifacts"), of(store="key_values")} == set(found["usage"])
        assert {of(store="artifacts")} == set(found["limit"])
        usage = cache.statistics().usage
        assert usage is not None
        assert 0 < usage.used <= usage.limit


async def test_an_outage_is_counted(tmp_path: Path) -> None:
    """The queue is as long as before, and the attempts are `unavailable`."""
    reader = InMemoryMetricReader()
    storage = FakeStorage()
    name = ArtifactKey("acme", "app", "cas", "x")
    storage.raises[str(name)] = UnavailableError("down")
    async with open_cache(
        tmp_path, storage=storage, options=OPTIONS, meter_provider=MeterProvider([reader])
    ) as cache:
        assert cache.transfer_worker is not None
        await cache.store_artifact(name, b"x")
        for _ in range(2):
            await cache.transfer_worker.run_once()
        found = values(reader)
        assert 2 == found["transfers"][of(result="unavailable")]
        assert 1 == found["transfers.queued"][of(type="upload")]
        assert {"upload": 1, "download": 0, "delete": 0} == cache.statistics().queued_transfers
    with sqlite3.connect(tmp_path / "cache.db") as raw:
        assert (1,) == raw.execute("SELECT COUNT(*) FROM s3_transfers").fetchone()
    raw.close()
