"""What does telemetry cost, with OpenTelemetry's SDK and exporters that keep all in memory?

In the second case each row is enqueued by a separate call inside a span, and the flush links to
that span: the most work that telemetry can have.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import forebay
from benchmarks.contestants import writing_contestant
from benchmarks.harness import Case
from benchmarks.results import RATE
from benchmarks.workload import Workload, entries

Produce = Callable[[forebay.Buffer[Any], Workload], Awaitable[None]]


def cases(full: bool) -> Iterator[Case]:
    work = entries("sequential", 300_000 if full else 200_000)
    for name, produce, rows in (
        ("sequential", _enqueue_many, work),
        ("row by row, in a span", _enqueue, work.first(100_000)),
    ):
        yield Case(
            "telemetry",
            name,
            [RATE],
            [
                writing_contestant("telemetry off", partial(_off, produce), rows),
                writing_contestant("telemetry on", partial(_on, produce), rows),
            ],
            rounds=21 if full else 5,
        )


async def _enqueue_many(buffer: forebay.Buffer[Any], work: Workload) -> None:
    await buffer.enqueue_many(work.rows)


async def _enqueue(buffer: forebay.Buffer[Any], work: Workload) -> None:
    for row in work.rows:
        await buffer.enqueue(row)


def _off(produce: Produce, path: Path, work: Workload) -> float:
    return trio.run(_run, produce, path, work)


def _on(produce: Produce, path: Path, work: Workload) -> float:
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    with tracers.get_tracer("benchmark").start_as_current_span("producer"):
        return trio.run(_run, produce, path, work, meters, tracers)


async def _run(
    produce: Produce,
    path: Path,
    work: Workload,
    meters: MeterProvider | None = None,
    tracers: TracerProvider | None = None,
) -> float:
    async with (
        forebay.open_sqlite(path) as store,
        forebay.open_buffers(
            store, work.table, meter_provider=meters, tracer_provider=tracers
        ) as buffers,
    ):
        started = perf_counter()
        await produce(buffers[work.table], work)
        await buffers.flush()
        return perf_counter() - started
