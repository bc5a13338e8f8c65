"""How much CPU time does telemetry add to a flush, whatever the number of rows?

A program enqueues one row into a store in memory and waits for the flush, again and again: without
providers, with no-op providers, with OpenTelemetry's SDK for metrics, and for metrics and spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import trio
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider

from benchmarks.harness import Case, Contestant
from benchmarks.results import Measure
from benchmarks.workload import Workload, entries
from forebay import open_buffers
from forebay.testing import MemoryStore

COST = Measure("cost", "s", more_is_better=False)


def cases(full: bool) -> Iterator[Case]:
    work = entries("sequential", 5_000 if full else 2_000)
    yield Case(
        "telemetry_of_a_flush",
        "one row",
        [COST],
        [
            _contestant("no providers", work, dict),
            _contestant("no-op providers", work, _no_op),
            _contestant("SDK, metrics", work, _metrics),
            _contestant("SDK, metrics and spans", work, _metrics_and_spans),
        ],
        rounds=11 if full else 5,
    )


def _no_op() -> dict[str, Any]:
    return {"meter_provider": NoOpMeterProvider(), "tracer_provider": NoOpTracerProvider()}


def _metrics() -> dict[str, Any]:
    return {
        "meter_provider": MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
        "tracer_provider": NoOpTracerProvider(),
    }


def _metrics_and_spans() -> dict[str, Any]:
    return {**_metrics(), "tracer_provider": TracerProvider(shutdown_on_exit=False)}


def _contestant(name: str, work: Workload, providers: Any) -> Contestant:
    run = partial(trio.run, _run, work, providers)
    return Contestant(name, lambda _path: run(), check=_nothing_to_check, prepare=_nothing_to_check)


def _nothing_to_check(_path: Path) -> None:
    """Check nothing: there is no database, and `_run` counts the rows."""


async def _run(work: Workload, providers: Any) -> Mapping[str, float]:
    async with open_buffers(MemoryStore(), work.table, **providers()) as buffers:
        buffer = buffers[work.table]
        started = process_time()
        for row in work.rows:
            buffer.enqueue_nowait(row)
            await buffer.flush()
        taken = process_time() - started
        if buffer.statistics().committed != len(work.rows):
            raise AssertionError(f"some rows were not flushed: {buffer.statistics()}")
        return {"cost": taken / len(work.rows)}
