"""Export what forebay measures over OTLP, with OpenTelemetry's SDK: `pip install 'forebay[otlp]'`.

A program that has providers of its own does not need this: it gives them to `open_buffers`.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

try:
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import (
        ConsoleMetricExporter,
        MetricExporter,
        PeriodicExportingMetricReader,
    )
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
except ImportError as _missing:
    raise ImportError(
        f"forebay.otlp needs OpenTelemetry's SDK: pip install 'forebay[otlp]' ({_missing})"
    ) from _missing

from forebay.otlp._variables import GRPC, exporters, target

_LONGEST_SHUTDOWN: Final = 86_400.0
"""A day, in seconds. With a time past its clock's range the SDK fails, without an export."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Providers:
    """The providers that `export_telemetry` set up.

    Attributes:
        meter_provider: for `open_buffers`, where it is not the global one.
        tracer_provider: the same, for spans.
    """

    meter_provider: MeterProvider
    tracer_provider: TracerProvider


@asynccontextmanager
async def export_telemetry(
    *,
    service_name: str | None = None,
    shutdown_timeout: float = 5.0,
    set_global: bool = True,
) -> AsyncGenerator[Providers, None]:
    """Export metrics and spans for the time of an `async with` block.

    Open it before the buffers, so that it ends after their drain: what the last flushes added is
    exported then. That happens in threads, and has a deadline of its own: an endpoint that does
    not answer delays the program by `shutdown_timeout`, and costs no row. Cancelled, the block
    exports all the same, within that time.

    OpenTelemetry's variables say what goes where: `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_PROTOCOL`
    (`grpc`, which is also the default here, or `http/protobuf`), `…_HEADERS`, `…_TIMEOUT` and the
    others of the exporters, each also for one signal; `OTEL_METRICS_EXPORTER` and
    `OTEL_TRACES_EXPORTER` (`otlp`, `console`, `none`); `OTEL_METRIC_EXPORT_INTERVAL` in
    milliseconds; `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`; `OTEL_SDK_DISABLED`.
    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

    Args:
        service_name: the name of the service, where the variables give none.
        shutdown_timeout: how long the last export may take, in seconds; a day at most.
        set_global: whether these become the process's global providers, which `open_buffers` and
            other libraries use by default. A process sets them once; a second time, take False.

    Yields:
        The providers, for `open_buffers` where they are not the global ones.

    Raises:
        TypeError: an argument is of another type.
        ValueError: a variable has a value that cannot be used, or `shutdown_timeout` has. Headers
            are never shown.
        RuntimeError: the process has other global providers already.
    """
    if service_name is not None and not isinstance(service_name, str):
        raise TypeError(f"service_name must be a str or None, not {service_name!r}")
    if isinstance(shutdown_timeout, bool) or not isinstance(shutdown_timeout, int | float):
        raise TypeError(f"shutdown_timeout must be a number of seconds, not {shutdown_timeout!r}")
    if not 0 < shutdown_timeout <= _LONGEST_SHUTDOWN:
        raise ValueError(
            f"shutdown_timeout={shutdown_timeout!r}: expected more than 0 seconds, and a day "
            f"at most"
        )
    shutdowns: list[Callable[[], None]] = []
    try:
        with _variables_named():
            resource = _resource(service_name)
            metric_exporters, span_exporters = [*_metric_exporters()], [*_span_exporters()]
            # None is shut down at the interpreter's exit: a dead endpoint would hold that up.
            tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            shutdowns.append(tracer_provider.shutdown)
            for exporter in span_exporters:
                tracer_provider.add_span_processor(BatchSpanProcessor(exporter))
            meter_provider = MeterProvider(
                [PeriodicExportingMetricReader(exporter) for exporter in metric_exporters],
                resource=resource,
                shutdown_on_exit=False,
            )
            shutdowns.append(
                partial(meter_provider.shutdown, timeout_millis=shutdown_timeout * 1000)
            )
        if set_global:
            _set_global(meter_provider, tracer_provider)
        yield Providers(meter_provider, tracer_provider)
    finally:
        await _shut_down(shutdown_timeout, *shutdowns)


@contextmanager
def _variables_named() -> Generator[None, None, None]:
    """Have whatever the SDK raises say where its cause is to be looked for."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        why, names = str(error), sorted(name for name in os.environ if name.startswith("OTEL_"))
        if isinstance(error, ValueError) and any(name in why for name in names):
            raise
        raise ValueError(
            f"what OpenTelemetry's variables say cannot be used ({', '.join(names)}): "
            f"{' '.join(why.split()) or repr(error)}"
        ) from error


def _resource(service_name: str | None) -> Resource:
    resource = Resource.create()
    named = not str(resource.attributes[SERVICE_NAME]).startswith("unknown_service")
    if named or service_name is None:
        return resource
    return resource.merge(Resource({SERVICE_NAME: service_name}))


def _set_global(meter_provider: MeterProvider, tracer_provider: TracerProvider) -> None:
    """Set both or none: they can be set once."""
    free = isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    if free:
        metrics.set_meter_provider(meter_provider)
        free = metrics.get_meter_provider() is meter_provider
    if not free:
        raise RuntimeError(
            "the process has global providers already: pass set_global=False, and give "
            "open_buffers the providers of this block"
        )
    trace.set_tracer_provider(tracer_provider)


async def _shut_down(timeout: float, *shutdowns: Callable[[], None]) -> None:  # noqa: ASYNC109
    """Call what ends the providers, each in a thread, and wait for them for so many seconds."""
    limiter = trio.CapacityLimiter(math.inf)

    def call(shutdown: Callable[[], None]) -> None:
        try:
            shutdown()
        except Exception:  # exporters are anybody's; the program has done its work
            _logger.exception("the last export of telemetry failed")

    async def run(shutdown: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(call, shutdown, abandon_on_cancel=True, limiter=limiter)

    with trio.move_on_after(timeout, shield=True) as scope:
        async with trio.open_nursery() as nursery:
            for shutdown in shutdowns:
                nursery.start_soon(run, shutdown)
    if scope.cancelled_caught:
        _logger.warning("the last export of telemetry took longer than %g s: given up", timeout)


# The exporters are imported where they are chosen: one of the two protocols is not used, and the
# import of gRPC alone takes a third of a second.


def _metric_exporters() -> Iterator[MetricExporter]:
    for name in exporters("METRICS"):
        if name == "console":
            yield ConsoleMetricExporter()
        elif (to := target("METRICS")).protocol == GRPC:
            from opentelemetry.exporter.otlp.proto.grpc import (  # noqa: PLC0415  # see above
                metric_exporter as grpc,
            )

            yield grpc.OTLPMetricExporter(to.endpoint)
        else:
            from opentelemetry.exporter.otlp.proto.http import (  # noqa: PLC0415  # see above
                metric_exporter as http,
            )

            yield http.OTLPMetricExporter(to.endpoint)


def _span_exporters() -> Iterator[SpanExporter]:
    for name in exporters("TRACES"):
        if name == "console":
            yield ConsoleSpanExporter()
        elif (to := target("TRACES")).protocol == GRPC:
            from opentelemetry.exporter.otlp.proto.grpc import (  # noqa: PLC0415  # see above
                trace_exporter as grpc,
            )

            yield grpc.OTLPSpanExporter(to.endpoint)
        else:
            from opentelemetry.exporter.otlp.proto.http import (  # noqa: PLC0415  # see above
                trace_exporter as http,
            )

            yield http.OTLPSpanExporter(to.endpoint)
