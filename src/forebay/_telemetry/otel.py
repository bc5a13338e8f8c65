"""Reports buffers and their flushes to OpenTelemetry.

A flush adds its figures once, after COMMIT; an entry adds nothing. On the data path only this
package imports opentelemetry, and of it only the API: the program chooses an SDK, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from types import TracebackType
from typing import Final, Self

import trio
from opentelemetry import context as context_api
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import SpanContext, TracerProvider

from forebay._batching.batch import FlushReason
from forebay._buffer.ledger import Ledger
from forebay._buffer.observer import (
    NO_FLUSH,
    BufferObserver,
    Capture,
    FlushObserver,
    Observe,
    unobserved,
)
from forebay._telemetry.attributes import database_attributes, encodable
from forebay._telemetry.deliveries import DeliveryTelemetry
from forebay._telemetry.guard import logs_errors
from forebay._telemetry.instruments import SCHEMA_URL, Instruments, instruments_of
from forebay._telemetry.registry import OpenBuffer
from forebay._version import __version__
from forebay.stores import Batch, BatchError, Outcome, Store

__all__ = ["MeterProvider", "TracerProvider", "observer_factory"]

_VERBS: Final = {"write": "INSERT", "update": "UPDATE", "delete": "DELETE", "delete_by": "DELETE"}
"""The value of `db.operation.name`, by the operation of a step."""

_MIXED: Final = "mixed"
"""The value of `operation` for a flush of several operations."""

MAX_LINKS: Final = 128
"""The number of links that a span of OpenTelemetry's SDK keeps by default."""


def observer_factory(
    store: Store, meter_provider: MeterProvider | None, tracer_provider: TracerProvider | None
) -> Observe:
    """Return the function that creates the observers of an `open_buffers` block's buffers.

    Call it in Trio's thread.

    Args:
        store: the store of the buffers.
        meter_provider: the provider of the instruments; None for the global one.
        tracer_provider: the provider of the spans; None for the global one.

    Raises:
        TypeError: a provider is of another type.
    """
    if not isinstance(meter_provider, MeterProvider | None):
        raise TypeError(
            f"meter_provider must be an opentelemetry.metrics.MeterProvider, not {meter_provider!r}"
        )
    if not isinstance(tracer_provider, TracerProvider | None):
        raise TypeError(
            f"tracer_provider must be an opentelemetry.trace.TracerProvider, "
            f"not {tracer_provider!r}"
        )
    tracer = _tracer(tracer_provider)
    if tracer is None and isinstance(meter_provider, metrics.NoOpMeterProvider):
        return unobserved
    instruments = instruments_of(meter_provider)
    store.observe_deliveries(DeliveryTelemetry(instruments, store))
    clock = trio.lowlevel.current_clock()

    def observe(name: str, ledger: Ledger, capacity: int) -> BufferObserver:
        buffer = OpenBuffer(name, ledger=ledger, capacity=capacity, store=store, clock=clock)
        return _BufferTelemetry(buffer, instruments, tracer)

    return observe


def _tracer(given: TracerProvider | None) -> trace.Tracer | None:
    """Return the tracer of a provider; None if the provider records no spans."""
    provider = trace.get_tracer_provider() if given is None else given
    tracer = provider.get_tracer("forebay", __version__, SCHEMA_URL)
    return None if isinstance(tracer, trace.NoOpTracer | trace.ProxyTracer) else tracer


class _Producers:
    """The spans in which the pending entries of a buffer were accepted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._context: Context | None = None
        self._numbers: list[int] | None = None
        """The entry in `_spans` of the span in `_context`; None if that span is not recorded."""
        self._spans: dict[int, tuple[SpanContext, list[int]]] = {}
        """By span id, in the order of the first entry: a span, and the numbers of the first and
        the last entry that were accepted in it."""

    def capture(self, first: int, last: int) -> None:
        """Note that the entries with these numbers were accepted in the current span."""
        # Called for each entry: nothing is looked up while the context stays the same.
        if (context := context_api.get_current()) is not self._context:
            self._find_span(context, first)
        if self._numbers is not None:
            self._numbers[1] = last

    @logs_errors
    def _find_span(self, context: Context, first: int) -> None:
        self._context, self._numbers = context, None
        span = trace.get_current_span(context)
        if span.is_recording():
            found = span.get_span_context()
            self._numbers = self._spans.setdefault(found.span_id, (found, [first, first]))[1]

    def take(self, last: int) -> list[SpanContext]:
        """Return the spans of the entries up to this number.

        A span is forgotten unless a later entry was accepted in it.
        """
        self._context = None  # the span in it may be forgotten now
        taken: list[SpanContext] = []
        for span, numbers in list(self._spans.values()):
            if numbers[0] > last:
                break
            taken.append(span)
            if numbers[1] <= last:
                del self._spans[span.span_id]
        return taken


class _BufferTelemetry:
    """Reports one buffer. Each set of attributes that recurs is created once."""

    def __init__(
        self, buffer: OpenBuffer, instruments: Instruments, tracer: trace.Tracer | None
    ) -> None:
        self.buffer = buffer
        self.name = buffer.name
        self.instruments = instruments
        self.tracer = tracer
        self.producers = _Producers(buffer.name)
        self.capture: Capture | None = None if tracer is None else self.producers.capture
        named = {"buffer": buffer.name}
        operations = (*_VERBS, _MIXED)
        self.by_operation = {name: {**named, "operation": name} for name in operations}
        self.by_reason = {
            (name, reason): {**named, "operation": name, "flush.reason": reason.value}
            for name in operations
            for reason in FlushReason
        }
        self._table = {**database_attributes(buffer.store), "db.collection.name": buffer.name}
        self._transactions: dict[tuple[str, bool], dict[str, str]] = {}

    def transaction(self, verb: str, *, batch: bool) -> dict[str, str]:
        """Return the attributes of a transaction, as the conventions for databases define them.

        Args:
            verb: the SQL verb of its statements; empty if there are several verbs.
            batch: whether it has more than one operation.
        """
        if (known := self._transactions.get((verb, batch))) is None:
            name = f"BATCH {verb}" if batch else verb
            known = {**self._table, "db.operation.name": name.strip()}
            self._transactions[verb, batch] = known
        return known

    def opened(self) -> None:
        self.instruments.open_buffers.add(self.buffer)

    def flush(self, batch: Batch) -> FlushObserver:
        if self.tracer is None and not self.instruments.recording:
            return NO_FLUSH
        return _FlushTelemetry(self, batch, self.producers.take(batch.end))

    def closed(self) -> None:
        self.instruments.open_buffers.remove(self.buffer)


class _FlushTelemetry:
    """Reports one flush: its span, and its figures when it ends."""

    def __init__(
        self, buffer: _BufferTelemetry, batch: Batch, producers: list[SpanContext]
    ) -> None:
        self.name = buffer.name
        self._buffer = buffer
        self._batch = batch
        self._producers = producers
        operations = {step.operation for step in batch.steps}
        self._operation = operations.pop() if len(operations) == 1 else _MIXED
        verbs = {_VERBS[step.operation] for step in batch.steps}
        self._transaction = buffer.transaction(
            verbs.pop() if len(verbs) == 1 else "", batch=len(batch) > 1
        )
        self._span: trace.Span = trace.INVALID_SPAN
        self._token: Token[Context] | None = None
        self._started = self._attempt_started = self._now()
        self._failure: BatchError | None = None

    def _now(self) -> float:
        return self._buffer.buffer.clock.current_time()

    def __enter__(self) -> Self:
        if self._buffer.tracer is not None:
            self._start_span(self._buffer.tracer)
        return self

    @logs_errors
    def _start_span(self, tracer: trace.Tracer) -> None:
        attributes: dict[str, str | int] = {
            **self._buffer.by_reason[self._operation, self._batch.reason],
            **self._transaction,
        }
        if len(self._batch) > 1:
            attributes["db.operation.batch.size"] = len(self._batch)
        if (omitted := len(self._producers) - MAX_LINKS) > 0:
            attributes["forebay.links.omitted"] = omitted
        # The empty context makes it a root span, whatever context the task was started in.
        self._span = tracer.start_span(
            f"flush {self.name}",
            context=Context(),
            links=[trace.Link(span) for span in self._producers[:MAX_LINKS]],
            attributes=attributes,
        )
        self._token = context_api.attach(trace.set_span_in_context(self._span, Context()))

    @logs_errors
    def attempt(self) -> None:
        self._attempt_started = self._now()
        if self._failure is not None:
            error_type = {"error.type": self._failure.code}
            self._buffer.instruments.flush_retries.add(1, {"buffer": self.name, **error_type})
            self._span.add_event("retry", error_type)

    @logs_errors
    def failed(self, error: BatchError) -> None:
        self._failure = error
        attributes = {**self._transaction, "error.type": error.code}
        if error.code != type(error.__cause__).__name__:  # the code is the database's
            attributes["db.response.status_code"] = error.code
        self._buffer.instruments.operation_duration.record(
            self._now() - self._attempt_started, attributes
        )

    @logs_errors
    def settled(self, outcome: Outcome) -> None:
        for operation, rows in outcome.operations.items():
            self._buffer.instruments.rows_flushed.add(rows, self._buffer.by_operation[operation])

    @logs_errors
    def committed(self, outcome: Outcome) -> None:
        instruments, by_operation = self._buffer.instruments, self._buffer.by_operation
        for operation, rows in outcome.operations.items():
            instruments.flush_size.record(rows, by_operation[operation])
        instruments.operation_duration.record(outcome.duration, self._transaction)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)
        if self._token is not None:
            context_api.detach(self._token)

    @logs_errors
    def _end(self, error: BaseException | None) -> None:
        attributes: Mapping[str, str] = self._buffer.by_reason[self._operation, self._batch.reason]
        if error is not None:
            error_type = error.code if isinstance(error, BatchError) else _type_name(error)
            attributes = {**attributes, "error.type": error_type}
            self._span.set_attribute("error.type", error_type)
            self._span.set_status(trace.StatusCode.ERROR, encodable(str(error)))
        self._buffer.instruments.flush_duration.record(self._now() - self._started, attributes)
        self._span.end()


def _type_name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
