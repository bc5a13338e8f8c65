"""Shared by the tests of telemetry: OpenTelemetry's SDK with exporters in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, ScopeMetrics
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

Attributes = tuple[tuple[str, Any], ...]


class Meters:
    """A meter provider, and the values of its instruments."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def scopes(self) -> list[ScopeMetrics]:
        data = self._reader.get_metrics_data()
        return [] if data is None else list(data.resource_metrics[0].scope_metrics)

    def all(self) -> dict[str, Metric]:
        return {metric.name: metric for scope in self.scopes() for metric in scope.metrics}

    def points(self, name: str) -> dict[Attributes, Any]:
        """Return the points of an instrument by their attributes; empty if it has no points."""
        metric = self.all().get(name)
        if metric is None:
            return {}
        return {
            tuple(sorted((point.attributes or {}).items())): point
            for point in metric.data.data_points
        }

    def values(self, name: str) -> dict[Attributes, float]:
        return {attributes: point.value for attributes, point in self.points(name).items()}

    def value(self, name: str) -> float:
        [value] = self.values(name).values()
        return value

    def close(self) -> None:
        self.provider.shutdown()


class Spans:
    """A tracer provider, and the spans that have ended."""

    def __init__(self, limits: SpanLimits | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(span_limits=limits, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = self.provider.get_tracer("the program")

    def flushes(self) -> list[ReadableSpan]:
        return [
            span
            for span in self._exporter.get_finished_spans()
            if span.instrumentation_scope is not None
            and span.instrumentation_scope.name == "forebay"
        ]

    def close(self) -> None:
        self.provider.shutdown()


@pytest.fixture
def meters() -> Iterator[Meters]:
    meters = Meters()
    yield meters
    meters.close()


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    yield spans
    spans.close()
