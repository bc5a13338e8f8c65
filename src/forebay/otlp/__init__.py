"""Export forebay's metrics and spans over OTLP, with OpenTelemetry's SDK.

Install it with `pip install 'forebay[otlp]'`. A program that sets up providers itself does not need
this module: it passes its providers to `open_buffers`.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
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

from forebay._protection import protected_context, raise_together, run_to_end
from forebay._telemetry.attributes import encodable
from forebay.otlp._variables import DEFAULT_ENDPOINTS, GRPC, Signal, exporters, target

__all__ = ["Providers", "export_telemetry"]

_MAX_SHUTDOWN: Final = 86_400.0
"""One day, in seconds. The SDK fails without an export if a timeout exceeds its clock's range."""

_SIGNALS: Final[tuple[tuple[Signal, str], ...]] = (("METRICS", "metrics"), ("TRACES", "spans"))
"""The signals, and what each consists of."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Providers:
    """The providers that `export_telemetry` set up.

    Attributes:
        meter_provider: creates the instruments. Pass it to `open_buffers` unless it is global.
        tracer_provider: creates the spans. Pass it to `open_buffers` unless it is global.
    """

    meter_provider: MeterProvider
    tracer_provider: TracerProvider


@protected_context
async def export_telemetry(
    *,
    service_name: str | None = None,
    shutdown_timeout: float = 5.0,
    set_global: bool = True,
) -> AsyncGenerator[Providers, None]:
    """Export metrics and spans for the time of an `async with` block.

    Enter the block before `open_buffers`. It then ends after their drain, and the last export
    contains what the drain flushed. That export runs in threads and has its own deadline: an
    endpoint that does not answer delays the program by `shutdown_timeout` and loses no row. If the
    block is cancelled, the last export still takes place, within the deadline.

    OpenTelemetry's environment variables select the destination: `OTEL_EXPORTER_OTLP_ENDPOINT`,
    `…_PROTOCOL` (`grpc`, the default here, or `http/protobuf`), `…_HEADERS`, `…_TIMEOUT` and the
    other variables of the exporters, each also per signal; `OTEL_METRICS_EXPORTER` and
    `OTEL_TRACES_EXPORTER` (`otlp`, `console`, `none`); `OTEL_METRIC_EXPORT_INTERVAL` in
    milliseconds; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`; `OTEL_SDK_DISABLED`.
    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/

    A signal is not exported if no variable sets its endpoint or its exporter; a warning in the log
    says so once. Set its exporter to `otlp` to use OpenTelemetry's default endpoint on localhost.
    By default that endpoint is not used, as a program that configures nothing would wait for it.

    Args:
        service_name: the name of the service, unless a variable sets it.
        shutdown_timeout: the deadline of the last export, in seconds; at most one day.
        set_global: whether to make these providers the global ones of the process, which
            `open_buffers` and other libraries use by default. A process can set them only once:
            pass False for a second block.

    Yields:
        The providers. Pass them to `open_buffers` unless they are the global ones.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: a variable or `shutdown_timeout` has an invalid value. The message contains no
            headers, since they may be secret.
        RuntimeError: the process already has global providers.
    """
    if service_name is not None and not isinstance(service_name, str):
        raise TypeError(f"service_name must be a str or None, not {service_name!r}")
    if isinstance(shutdown_timeout, bool) or not isinstance(shutdown_timeout, int | float):
        raise TypeError(f"shutdown_timeout must be a number of seconds, not {shutdown_timeout!r}")
    if not 0 < shutdown_timeout <= _MAX_SHUTDOWN:
        raise ValueError(
            f"shutdown_timeout={shutdown_timeout!r}: expected more than 0 and at most "
            f"{_MAX_SHUTDOWN:.0f} seconds"
        )
    shutdowns: list[Callable[[], None]] = []
    errors: list[BaseException] = []
    try:
        with _errors_name_variables():
            resource = _resource(service_name)
            metric_exporters, span_exporters = [*_metric_exporters()], [*_span_exporters()]
            # With `shutdown_on_exit` the SDK would wait for the endpoint at the interpreter's exit.
            tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            shutdowns.append(tracer_provider.shutdown)
            for exporter in span_exporters:
                tracer_provider.add_span_processor(BatchSpanProcessor(exporter))
            readers: list[PeriodicExportingMetricReader] = []
            try:
                for metric_exporter in metric_exporters:
                    readers.append(PeriodicExportingMetricReader(metric_exporter))  # noqa: PERF401  # keeps those before an error
                meter_provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
            except BaseException:
                shutdowns += [reader.shutdown for reader in readers]  # each has started a thread
                raise
            shutdowns.append(
                partial(meter_provider.shutdown, timeout_millis=shutdown_timeout * 1000)
            )
        if set_global:
            _set_global(meter_provider, tracer_provider)
        _warn_of_missing_endpoints()
        yield Providers(meter_provider, tracer_provider)
    except BaseException as error:  # noqa: BLE001  # raised again after the last export
        errors.append(error)
    errors += await run_to_end(partial(_shut_down, shutdown_timeout, *shutdowns))
    raise_together("the export of telemetry ended after an error", errors)


@contextmanager
def _errors_name_variables() -> Generator[None, None, None]:
    """Convert an error of the SDK that names no variable into a ValueError that lists them."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        message, names = str(error), sorted(name for name in os.environ if name.startswith("OTEL_"))
        if isinstance(error, ValueError) and any(name in message for name in names):
            raise
        raise ValueError(
            f"OpenTelemetry's SDK rejects the value of a variable ({', '.join(names)}): "
            f"{' '.join(message.split()) or repr(error)}"
        ) from error


def _warn_of_missing_endpoints() -> None:
    """Log a warning if a signal is not exported because no variable sets its endpoint."""
    missing = [
        (signal, data)
        for signal, data in _SIGNALS
        if "otlp" in exporters(signal) and target(signal) is None
    ]
    if missing:
        _logger.warning(
            "%s are not exported, since no endpoint is configured: set "
            "OTEL_EXPORTER_OTLP_ENDPOINT, for example to %s, or set %s to none",
            " and ".join(data for _, data in missing),
            DEFAULT_ENDPOINTS[GRPC],
            " and ".join(f"OTEL_{signal}_EXPORTER" for signal, _ in missing),
        )


def _resource(service_name: str | None) -> Resource:
    """Return the attributes of the process. A name set by a variable takes precedence."""
    resource = Resource.create()
    named = not str(resource.attributes[SERVICE_NAME]).startswith("unknown_service")
    if service_name is not None and not named:
        resource = resource.merge(Resource({SERVICE_NAME: service_name}))
    attributes = {
        name: encodable(value) if isinstance(value, str) else value
        for name, value in resource.attributes.items()
    }
    return Resource(attributes, resource.schema_url)


def _set_global(meter_provider: MeterProvider, tracer_provider: TracerProvider) -> None:
    """Set both global providers, or neither: each can be set only once."""
    free = isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    if free:
        metrics.set_meter_provider(meter_provider)
        free = metrics.get_meter_provider() is meter_provider
    if not free:
        raise RuntimeError(
            "the process already has global providers: pass set_global=False to export_telemetry, "
            "and the providers that it yields to open_buffers"
        )
    trace.set_tracer_provider(tracer_provider)


async def _shut_down(within: float, *shutdowns: Callable[[], None]) -> None:
    """Shut down the providers, each in a thread, and wait for at most `within` seconds."""
    limiter = trio.CapacityLimiter(math.inf)

    def call(shutdown: Callable[[], None]) -> None:
        try:
            shutdown()
        except Exception:  # exporters may raise anything, and the program has done its work
            _logger.exception("the last export of telemetry failed")

    async def run(shutdown: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(call, shutdown, abandon_on_cancel=True, limiter=limiter)

    with trio.move_on_after(within, shield=True) as scope:
        async with trio.open_nursery() as nursery:
            for shutdown in shutdowns:
                nursery.start_soon(run, shutdown)
    if scope.cancelled_caught:
        _logger.warning("the last export of telemetry was abandoned after %g s", within)


# Only the exporters that are used are imported: importing gRPC takes a third of a second.


def _metric_exporters() -> Iterator[MetricExporter]:
    for name in exporters("METRICS"):
        if name == "console":
            yield ConsoleMetricExporter()
        elif (to := target("METRICS")) is None:
            continue
        elif to.protocol == GRPC:
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
        elif (to := target("TRACES")) is None:
            continue
        elif to.protocol == GRPC:
            from opentelemetry.exporter.otlp.proto.grpc import (  # noqa: PLC0415  # see above
                trace_exporter as grpc,
            )

            yield grpc.OTLPSpanExporter(to.endpoint)
        else:
            from opentelemetry.exporter.otlp.proto.http import (  # noqa: PLC0415  # see above
                trace_exporter as http,
            )

            yield http.OTLPSpanExporter(to.endpoint)
