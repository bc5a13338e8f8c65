"""Tables and stores of the program in the database of a cache."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import forebay
from forebay import BufferOptions
from forebay.cache import Cache, KeyValueStore, open_cache, utc_now
from forebay.cache.tables import KEY_VALUE_ENTRIES
from tests.cache.tools import BY_HAND


class Hit(NamedTuple):
    project: str
    hits: int


HITS = forebay.Table(Hit, name="hits", key="project", merge={"hits": forebay.Sum})


class Hits:
    """A store of a program."""

    def __init__(self, cache: Cache) -> None:
        self._buffer = cache.buffers[HITS]
        self._guard = cache.guard

    async def add(self, project: str) -> None:
        self._guard.check_open()
        await self._buffer.enqueue(Hit(project, 1))


async def test_a_further_table_is_created_and_drained(tmp_path: Path) -> None:
    """It has a buffer, options by its name, and the rows of the block before."""
    overrides = {"hits": BufferOptions(capacity=7)}
    for total in (2, 4):
        async with open_cache(
            tmp_path, tables=[HITS], options=BY_HAND, buffer_overrides=overrides
        ) as cache:
            hits = Hits(cache)
            await hits.add("app")
            await hits.add("app")
            assert Hit("app", total) == await cache.buffers[HITS].get("app")
            assert 7 == cache.statistics().buffers["hits"].capacity
        with pytest.raises(trio.ClosedResourceError, match="the cache is closed"):
            await hits.add("app")
    with sqlite3.connect(tmp_path / "cache.db") as other:
        assert [("app", 4)] == other.execute("SELECT * FROM hits").fetchall()
    other.close()


@pytest.mark.parametrize("name", ["cas_artifacts", "S3_Transfers", "HITS"])
async def test_a_table_with_a_name_that_is_taken_is_refused(tmp_path: Path, name: str) -> None:
    """SQLite ignores case. Nothing is created."""
    other = forebay.Table(Hit, name=name, key="project")
    with pytest.raises(ValueError, match=f"table '{name}'"):
        async with open_cache(tmp_path / "new", tables=[HITS, other]):
            raise AssertionError
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("given", [["hits"], [HITS, None], [Hit]])
async def test_only_tables_are_tables(tmp_path: Path, given: Any) -> None:
    """The error has the value."""
    with pytest.raises(TypeError, match=r"^tables must be forebay\.Table objects, got"):
        async with open_cache(tmp_path, tables=given):
            raise AssertionError


async def test_a_store_can_be_created_without_a_cache(tmp_path: Path) -> None:
    """It needs a buffer of its table, and no guard."""
    async with (
        forebay.open_sqlite(tmp_path / "own.db", create=[KEY_VALUE_ENTRIES]) as store,
        forebay.open_buffers(store, KEY_VALUE_ENTRIES) as buffers,
    ):
        values = KeyValueStore(
            buffers[KEY_VALUE_ENTRIES],
            memory_bytes=10_000,
            time_to_live=60.0,
            touch_interval=60.0,
            clock=utc_now,
        )
        await values.put_bytes("id", "acme", "app", b"x")
        await buffers.flush()
        assert b"x" == await values.get_bytes("id", "acme", "app")


async def test_the_providers_are_those_of_the_buffers(tmp_path: Path) -> None:
    """Flushes are measured with the meter, and have spans of the tracer."""
    reader, spans = InMemoryMetricReader(), InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    async with open_cache(
        tmp_path,
        options=BY_HAND,
        meter_provider=MeterProvider([reader]),
        tracer_provider=tracers,
    ) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
    assert {"flush key_value_entries"} == {span.name for span in spans.get_finished_spans()}
    data = reader.get_metrics_data()
    assert data is not None
    [resource] = data.resource_metrics
    names = {metric.name for scope in resource.scope_metrics for metric in scope.metrics}
    assert "forebay.rows.flushed" in names
