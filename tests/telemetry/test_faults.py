"""Telemetry that raises or hangs has no effect on the data path."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import Mock

import pytest
import trio
from opentelemetry import metrics as api
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, NoOpMeter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from forebay import Table, open_buffers
from forebay._telemetry.registry import OpenBuffers
from forebay.testing import MemoryStore
from tests.log_records import own_records

if TYPE_CHECKING:
    from tests.telemetry.conftest import Meters


class Pair(NamedTuple):
    k: int
    v: int | None = None


PAIRS = Table(Pair, name="pairs", key="k")


class BrokenError(Exception):
    pass


class Endpoint:
    """An endpoint that does not answer until the test releases it."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.released = threading.Event()

    def export(self, *args: object, **kwargs: object) -> None:
        self.called.set()
        self.released.wait()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.released.set()


async def write_some(**providers: Any) -> None:
    store = MemoryStore()
    with trio.fail_after(30):
        async with open_buffers(store, PAIRS, **providers) as buffers:
            for n in range(10):
                await buffers[PAIRS].write(Pair(n))
            assert 0 == buffers[PAIRS].statistics().pending
            assert 10 == buffers[PAIRS].statistics().committed
            buffers[PAIRS].enqueue_nowait(Pair(10))
    assert 11 == len(store.rows(PAIRS))


async def test_a_metric_exporter_that_hangs(endpoint: Endpoint) -> None:
    """Rows are committed, and the drain ends, while the exporter waits for its endpoint."""
    exporter = Mock(
        spec=MetricExporter,
        export=endpoint.export,
        _preferred_temporality=None,
        _preferred_aggregation=None,
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("program").create_counter("anything").add(1)
    await trio.to_thread.run_sync(endpoint.called.wait)
    await write_some(meter_provider=provider)
    assert not endpoint.released.is_set()
    endpoint.released.set()
    provider.shutdown()


async def test_a_span_exporter_that_hangs(endpoint: Endpoint) -> None:
    """The same holds for spans that are exported in batches."""
    exporter = Mock(spec=SpanExporter, export=endpoint.export)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1))
    provider.get_tracer("program").start_span("anything").end()
    await trio.to_thread.run_sync(endpoint.called.wait)
    await write_some(tracer_provider=provider)
    assert not endpoint.released.is_set()
    endpoint.released.set()
    provider.shutdown()


async def test_a_callback_of_the_program_that_hangs(meters: Meters, endpoint: Endpoint) -> None:
    """Flushes do not wait for a reader that waits for another callback."""

    def callback(_options: object) -> list[Observation]:
        endpoint.export()
        return []

    async with (
        open_buffers(MemoryStore(), PAIRS, meter_provider=meters.provider),
        trio.open_nursery() as nursery,
    ):
        meters.provider.get_meter("program").create_observable_gauge("hangs", [callback])
        nursery.start_soon(trio.to_thread.run_sync, meters.all)
        await trio.to_thread.run_sync(endpoint.called.wait)
        try:
            await write_some(meter_provider=meters.provider)
        finally:
            endpoint.released.set()


async def test_a_callback_of_ours_that_raises(
    meters: Meters, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows are committed, and the other instruments have values."""

    def raises(_self: OpenBuffers) -> list[Any]:
        raise BrokenError

    monkeypatch.setattr(OpenBuffers, "sizes", raises)
    async with open_buffers(MemoryStore(), PAIRS, meter_provider=meters.provider) as buffers:
        await buffers[PAIRS].write(Pair(1))
        shown = meters.all()
        await buffers[PAIRS].write(Pair(2))
    assert "forebay.queue.size" not in shown
    assert "forebay.queue.utilization" in shown
    assert ["Callback failed for instrument forebay.queue.size."] == [
        record.getMessage() for record in caplog.records
    ]


class BrokenMeter(NoOpMeter):
    def create_counter(self, name: str, *args: object, **kwargs: object) -> Counter:
        return Mock(spec=Counter, add=Mock(side_effect=BrokenError(name)))

    def create_histogram(self, name: str, *args: object, **kwargs: object) -> Histogram:
        return Mock(spec=Histogram, record=Mock(side_effect=BrokenError(name)))


class BrokenMeterProvider(api.MeterProvider):
    def get_meter(self, name: str, *args: object, **kwargs: object) -> NoOpMeter:
        return BrokenMeter(name)


class BrokenProcessor(SpanProcessor):
    def __init__(self, *, at_start: bool) -> None:
        self._at_start = at_start

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self._at_start:
            raise BrokenError

    def on_end(self, span: ReadableSpan) -> None:
        if not self._at_start:
            raise BrokenError


def assert_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Assert that the log has the exception, with its buffer, as an error."""
    assert {("forebay._telemetry.guard", "ERROR", ("pairs",), BrokenError)} == {
        (record.name, record.levelname, record.args, record.exc_info and record.exc_info[0])
        for record in own_records(caplog)
    }


async def test_a_meter_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Rows are committed and counted; the exception is in the log."""
    await write_some(meter_provider=BrokenMeterProvider())
    assert_logged(caplog)


@pytest.mark.parametrize("at_start", [True, False])
async def test_a_span_processor_that_raises(
    at_start: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows are committed and counted; the exception is in the log."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BrokenProcessor(at_start=at_start))
    await write_some(tracer_provider=provider)
    assert_logged(caplog)


async def test_a_tracer_that_raises_in_enqueue(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The entry is accepted, although its producer's span is unknown."""

    def raises(_context: object = None) -> Any:
        raise BrokenError

    with monkeypatch.context() as patch:
        patch.setattr("opentelemetry.trace.get_current_span", raises)
        await write_some(tracer_provider=TracerProvider(shutdown_on_exit=False))
    assert_logged(caplog)
