"""OpenTelemetry: counts are added once a flush, after COMMIT; the rest is read when asked for.

Of the data path this is the only room that imports opentelemetry, and of that only the API: the
program chooses an SDK, or none. docs/telemetry.md lists the instruments.
"""

from __future__ import annotations

import functools
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from contextvars import Token
from types import TracebackType
from typing import Concatenate, Final, ParamSpec, Protocol, Self, TypeVar

import trio
from opentelemetry import context as context_api
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, CallbackT, MeterProvider, Observation
from opentelemetry.trace import SpanContext, TracerProvider

from forebay._batching.batch import FlushReason
from forebay._buffer.ledger import Ledger
from forebay._buffer.observer import BufferObserver, Capture, FlushObserver, Observe, unobserved
from forebay._errors import FlushError
from forebay._telemetry.registry import LiveBuffer, LiveBuffers, Reading
from forebay._version import __version__
from forebay.stores import Batch, BatchError, Outcome, Store

__all__ = ["MeterProvider", "TracerProvider", "telemetry"]

_SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.33.0"
"""The version of the semantic conventions in which those of databases became stable."""

_FLUSH_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_FLUSH_ROWS: Final = (1, 5, 10, 50, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
_OPERATION_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""As https://opentelemetry.io/docs/specs/semconv/database/database-metrics/ has them."""

_VERBS: Final = {"write": "INSERT", "update": "UPDATE", "delete": "DELETE", "delete_by": "DELETE"}
"""`db.operation.name`, by the operation of a step."""

_MIXED: Final = "mixed"
"""The operation of a flush that has several."""

_UNKNOWN: Final = {"db.system.name": "other_sql"}
"""The attributes of a store that does not describe itself."""

MOST_LINKS: Final = 128
"""The links that a span of OpenTelemetry's SDK keeps by default."""

_logger = logging.getLogger(__name__)


class _Instruments:
    """The instruments of one meter.

    They are created once: where a meter has an observable instrument already, it drops the
    callback of a second one of its name without an error, and it gives no callback back. So the
    callbacks read whatever buffers live when they are called.
    """

    def __init__(self, meter: metrics.Meter, provider: Callable[[], MeterProvider | None]) -> None:
        self.provider = provider
        self.live = live = LiveBuffers()
        self.flush_duration = meter.create_histogram(
            "forebay.flush.duration",
            unit="s",
            description="From taking a batch to its COMMIT or failure, all attempts together",
            explicit_bucket_boundaries_advisory=_FLUSH_SECONDS,
        )
        self.flush_size = meter.create_histogram(
            "forebay.flush.size",
            unit="{row}",
            description="Rows that a flush committed",
            explicit_bucket_boundaries_advisory=_FLUSH_ROWS,
        )
        self.rows_flushed = meter.create_counter(
            "forebay.rows.flushed", unit="{row}", description="Rows committed"
        )
        self.flush_retries = meter.create_counter(
            "forebay.flush.retries",
            unit="{retry}",
            description="Attempts to flush that were made again after one that failed",
        )
        self.operation_duration = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_OPERATION_SECONDS,
        )
        for name, read, description in (
            ("accepted", live.accepted, "Entries accepted"),
            ("superseded", live.superseded, "Entries folded into a later one of their key"),
            ("dead_lettered", live.dead_lettered, "Entries that the dead letters hold"),
        ):
            meter.create_observable_counter(
                f"forebay.entries.{name}",
                [self._callback(read)],
                unit="{entry}",
                description=description,
            )
        meter.create_observable_up_down_counter(
            "forebay.queue.size",
            [self._callback(live.sizes)],
            unit="{entry}",
            description="Entries accepted and not settled",
        )
        for name, read, unit, description in (
            ("queue.utilization", live.utilizations, "1", "Pending entries as a share of capacity"),
            ("queue.oldest.age", live.oldest_ages, "s", "Age of the oldest pending entry"),
            ("wal.size", live.wal_sizes, "By", "Size of the write-ahead log"),
        ):
            meter.create_observable_gauge(
                f"forebay.{name}", [self._callback(read)], unit=unit, description=description
            )

    def _callback(self, read: Callable[[], list[Reading]]) -> CallbackT:
        def observe(_options: CallbackOptions) -> list[Observation]:
            return self._observations(read())

        return observe  # it holds self: so the meter keeps its instruments, buffers or none

    @staticmethod
    def _observations(readings: list[Reading]) -> list[Observation]:
        return [Observation(value, attributes) for value, attributes in readings]


_known: weakref.WeakSet[_Instruments] = weakref.WeakSet()
"""The instruments in use, as long as their meters keep them."""
_known_lock = threading.Lock()


def _instruments(given: MeterProvider | None) -> _Instruments:
    """Give the instruments of a provider; those of the global one where None is given.

    The program may set the global provider after buffers were opened: it takes over the
    instruments from what stood in for it, so they are not created again.
    """
    current = metrics.get_meter_provider()
    wanted = current if given is None else given
    with _known_lock:
        for known in _known:
            if known.provider() is wanted:
                return known
        provider = metrics.get_meter_provider if wanted is current else weakref.ref(wanted)
        made = _Instruments(wanted.get_meter("forebay", __version__, _SCHEMA_URL), provider)
        _known.add(made)
        return made


def _tracer(given: TracerProvider | None) -> trace.Tracer | None:
    """Give the tracer of a provider; None where there is no SDK that would record."""
    provider = trace.get_tracer_provider() if given is None else given
    tracer = provider.get_tracer("forebay", __version__, _SCHEMA_URL)
    return None if isinstance(tracer, trace.NoOpTracer | trace.ProxyTracer) else tracer


def telemetry(
    store: Store, meter_provider: MeterProvider | None, tracer_provider: TracerProvider | None
) -> Observe:
    """Give what observes the buffers of one `open_buffers` block, in Trio's thread.

    Raises:
        TypeError: a provider is none.
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
    instruments = _instruments(meter_provider)
    clock = trio.lowlevel.current_clock()

    def observe(name: str, ledger: Ledger, capacity: int) -> BufferObserver:
        buffer = LiveBuffer(name, ledger=ledger, capacity=capacity, store=store, clock=clock)
        return _BufferTelemetry(buffer, instruments, tracer)

    return observe


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)
P = ParamSpec("P")


def _harmless(method: Callable[Concatenate[N, P], None]) -> Callable[Concatenate[N, P], None]:
    """Have a method log what it raises, instead."""

    @functools.wraps(method)
    def call(self: N, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:  # providers and processors are the program's: anything may come
            _logger.exception("telemetry of buffer %r failed; the buffer goes on", self.name)

    return call


class _Producers:
    """The spans in which entries were accepted that are pending still."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._context: Context | None = None
        self._numbers: list[int] | None = None
        """The numbers of the span in that context; None where none is recorded there."""
        self._spans: dict[int, tuple[SpanContext, list[int]]] = {}
        """By the span's id, in the order of their first entries: the first and the last one."""

    def capture(self, first: int, last: int) -> None:
        """Note the current span, if it is recorded, as that of entries with these numbers."""
        # Called once an entry: what is the same as for the one before is not looked up again.
        if (context := context_api.get_current()) is not self._context:
            self._look(context, first)
        if self._numbers is not None:
            self._numbers[1] = last

    @_harmless
    def _look(self, context: Context, first: int) -> None:
        self._context, self._numbers = context, None
        span = trace.get_current_span(context)
        if span.is_recording():
            known = span.get_span_context()
            self._numbers = self._spans.setdefault(known.span_id, (known, [first, first]))[1]

    def take(self, last: int) -> list[SpanContext]:
        """Give the spans of the entries up to this one, and forget those without further ones."""
        self._context = None  # the span in it may be one of those
        taken: list[SpanContext] = []
        for span, numbers in list(self._spans.values()):
            if numbers[0] > last:
                break
            taken.append(span)
            if numbers[1] <= last:
                del self._spans[span.span_id]
        return taken


class _BufferTelemetry:
    """The telemetry of one buffer, with every set of attributes that recurs made once."""

    def __init__(
        self, live: LiveBuffer, instruments: _Instruments, tracer: trace.Tracer | None
    ) -> None:
        self.live = live
        self.name = live.name
        self.instruments = instruments
        self.tracer = tracer
        self.producers = _Producers(live.name)
        self.capture: Capture | None = None if tracer is None else self.producers.capture
        buffer = {"buffer": live.name}
        operations = (*_VERBS, _MIXED)
        self.by_operation = {name: {**buffer, "operation": name} for name in operations}
        self.by_reason = {
            (name, reason): {**buffer, "operation": name, "flush.reason": reason.value}
            for name in operations
            for reason in FlushReason
        }
        attributes = live.store.attributes or _UNKNOWN
        self._database = {**attributes, "db.collection.name": live.name}
        self._databases: dict[tuple[str, bool], dict[str, str]] = {}

    def database(self, verb: str, *, batch: bool) -> dict[str, str]:
        """Give the attributes of a transaction, by the conventions for databases."""
        if (known := self._databases.get((verb, batch))) is None:
            name = f"BATCH {verb}" if batch else verb
            known = {**self._database, "db.operation.name": name.strip()}
            self._databases[verb, batch] = known
        return known

    def opened(self) -> None:
        self.instruments.live.add(self.live)

    def flush(self, batch: Batch) -> FlushObserver:
        return _FlushTelemetry(self, batch, self.producers.take(batch.end))

    def closed(self) -> None:
        self.instruments.live.remove(self.live)


class _FlushTelemetry:
    """The telemetry of one flush: its span, and what is added when it has ended."""

    def __init__(
        self, buffer: _BufferTelemetry, batch: Batch, producers: list[SpanContext]
    ) -> None:
        self.name = buffer.name
        self._buffer = buffer
        self._batch = batch
        self._producers = producers
        kinds = {step.operation for step in batch.steps}
        self._operation = kinds.pop() if len(kinds) == 1 else _MIXED
        verbs = {_VERBS[step.operation] for step in batch.steps}
        self._database = buffer.database(
            verbs.pop() if len(verbs) == 1 else "", batch=len(batch) > 1
        )
        self._span: trace.Span = trace.INVALID_SPAN
        self._token: Token[Context] | None = None
        self._started = self._attempted = buffer.live.clock.current_time()
        self._failure: BatchError | None = None

    def __enter__(self) -> Self:
        if self._buffer.tracer is not None:
            self._start_span(self._buffer.tracer)
        return self

    @_harmless
    def _start_span(self, tracer: trace.Tracer) -> None:
        attributes: dict[str, str | int] = {
            **self._buffer.by_reason[self._operation, self._batch.reason],
            **self._database,
        }
        if len(self._batch) > 1:
            attributes["db.operation.batch.size"] = len(self._batch)
        if (omitted := len(self._producers) - MOST_LINKS) > 0:
            attributes["forebay.links.omitted"] = omitted
        # An empty context: the span is a root, whatever the task was started in.
        self._span = tracer.start_span(
            f"flush {self.name}",
            context=Context(),
            links=[trace.Link(span) for span in self._producers[:MOST_LINKS]],
            attributes=attributes,
        )
        self._token = context_api.attach(trace.set_span_in_context(self._span, Context()))

    @_harmless
    def attempt(self) -> None:
        self._attempted = self._buffer.live.clock.current_time()
        if self._failure is not None:
            why = {"error.type": self._failure.code}
            self._buffer.instruments.flush_retries.add(1, {"buffer": self.name, **why})
            self._span.add_event("retry", why)

    @_harmless
    def failed(self, error: BatchError) -> None:
        self._failure = error
        took = self._buffer.live.clock.current_time() - self._attempted
        attributes = {**self._database, "error.type": error.code}
        if error.code != type(error.__cause__).__name__:  # the database gave it
            attributes["db.response.status_code"] = error.code
        self._buffer.instruments.operation_duration.record(took, attributes)

    @_harmless
    def committed(self, outcome: Outcome) -> None:
        instruments, by_operation = self._buffer.instruments, self._buffer.by_operation
        self._add_rows(outcome)
        for operation, rows in outcome.operations.items():
            instruments.flush_size.record(rows, by_operation[operation])
        instruments.operation_duration.record(outcome.duration, self._database)

    def _add_rows(self, outcome: Outcome) -> None:
        for operation, rows in outcome.operations.items():
            self._buffer.instruments.rows_flushed.add(rows, self._buffer.by_operation[operation])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end(error)
        if self._token is not None:
            context_api.detach(self._token)

    @_harmless
    def _end(self, error: BaseException | None) -> None:
        attributes: Mapping[str, str] = self._buffer.by_reason[self._operation, self._batch.reason]
        if error is not None:
            last = self._failure
            why = last.code if isinstance(error, FlushError) and last else _name_of(error)
            if isinstance(error, FlushError | trio.Cancelled) and last and last.outcome:
                self._add_rows(last.outcome)  # of the parts of the batch that are in the table
            attributes = {**attributes, "error.type": why}
            self._span.set_attribute("error.type", why)
            self._span.set_status(trace.StatusCode.ERROR, str(error))
        took = self._buffer.live.clock.current_time() - self._started
        self._buffer.instruments.flush_duration.record(took, attributes)
        self._span.end()


def _name_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
