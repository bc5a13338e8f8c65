"""The global providers. A process can set them only once, so each test runs a program."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import logging
from typing import NamedTuple

import trio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from forebay import Table, open_buffers
from forebay.testing import MemoryStore

class Pair(NamedTuple):
    k: int

PAIRS = Table(Pair, name="pairs", key="k")
reader = InMemoryMetricReader()
provider = MeterProvider([reader])
spans = InMemorySpanExporter()
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
logging.basicConfig(format="logged: %(message)s")

def show(name):
    [scope] = reader.get_metrics_data().resource_metrics[0].scope_metrics
    [metric] = [metric for metric in scope.metrics if metric.name == name]
    print(name, *(point.value for point in metric.data.data_points))

async def main():
    async with open_buffers(MemoryStore(), PAIRS, meter_provider=GIVEN) as first:
        await first[PAIRS].write(Pair(1))
        SET
        await first[PAIRS].write(Pair(2))
        show("forebay.rows.flushed")
        show("forebay.entries.accepted")
        async with open_buffers(MemoryStore(), PAIRS) as second:
            await second[PAIRS].write(Pair(3))
            first[PAIRS].enqueue_nowait(Pair(4))
            second[PAIRS].enqueue_nowait(Pair(5))
            show("forebay.queue.size")
            show("forebay.entries.accepted")
        async with open_buffers(MemoryStore(), PAIRS, meter_provider=provider) as third:
            third[PAIRS].enqueue_nowait(Pair(6))
            show("forebay.entries.accepted")
    print("spans", len(spans.get_finished_spans()))

BEFORE
trio.run(main)
"""
SET = "metrics.set_meter_provider(provider); trace.set_tracer_provider(tracers)"


def run(*, before: str = "", inside: str = "", given: str = "None") -> list[str]:
    program = PROGRAM.replace("SET", inside).replace("BEFORE", before).replace("GIVEN", given)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "" == done.stderr
    return done.stdout.splitlines()


def test_the_global_provider_is_the_default() -> None:
    """It has all buffers. To pass it as an argument makes no difference."""
    assert [
        "forebay.rows.flushed 2",
        "forebay.entries.accepted 2",
        "forebay.queue.size 2",
        "forebay.entries.accepted 5",
        "forebay.entries.accepted 6",
        "spans 6",
    ] == run(before=SET)


@pytest.mark.parametrize("given", ["None", "metrics.get_meter_provider()"])
def test_the_global_meter_provider_may_be_set_later(given: str) -> None:
    """A provider that is set while buffers are open reports them and those opened later.

    This holds also if OpenTelemetry's proxy was passed as an argument before.
    """
    assert [
        "forebay.rows.flushed 1",
        "forebay.entries.accepted 2",
        "forebay.queue.size 2",
        "forebay.entries.accepted 5",
        "forebay.entries.accepted 6",
        "spans 3",
    ] == run(inside=SET, given=given)
