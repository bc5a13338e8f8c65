"""The instruments of a meter: their names, units and descriptions.

docs/instruments.md lists them with their attributes.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, CallbackT, MeterProvider, Observation

from forebay._telemetry.registry import OpenBuffers, Reading
from forebay._version import __version__

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.33.0"
"""The version of the semantic conventions in which those for databases became stable."""

_FLUSH_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_FLUSH_ROWS: Final = (1, 5, 10, 50, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
_DELIVERY_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0)
_OPERATION_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""From https://opentelemetry.io/docs/specs/semconv/database/database-metrics/."""


class Instruments:
    """The instruments of one meter.

    They are created once per meter. A meter ignores the callback of a second observable instrument
    of the same name, without an error, and a callback cannot be unregistered. So the callbacks read
    the buffers that are open at the time of the call.

    Attributes:
        provider: returns the meter's provider; None if the provider no longer exists.
        open_buffers: the buffers that the observable instruments report.
    """

    def __init__(self, meter: metrics.Meter, provider: Callable[[], MeterProvider | None]) -> None:
        self.provider = provider
        self._checked: MeterProvider | None = None
        self._recording = False
        self.open_buffers = buffers = OpenBuffers()
        self.flush_duration = meter.create_histogram(
            "forebay.flush.duration",
            unit="s",
            description="Time from taking a batch to its COMMIT or failure, retries included",
            explicit_bucket_boundaries_advisory=_FLUSH_SECONDS,
        )
        self.flush_size = meter.create_histogram(
            "forebay.flush.size",
            unit="{row}",
            description="Rows committed by a flush",
            explicit_bucket_boundaries_advisory=_FLUSH_ROWS,
        )
        self.rows_flushed = meter.create_counter(
            "forebay.rows.flushed", unit="{row}", description="Rows committed"
        )
        self.flush_retries = meter.create_counter(
            "forebay.flush.retries",
            unit="{retry}",
            description="Attempts to flush a batch again after a failed attempt",
        )
        self.operation_duration = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_OPERATION_SECONDS,
        )
        self.delivery_duration = meter.create_histogram(
            "forebay.delivery.duration",
            unit="s",
            description="Time from the commit to the spool to the acknowledgement of the database",
            explicit_bucket_boundaries_advisory=_DELIVERY_SECONDS,
        )
        self.delivery_retries = meter.create_counter(
            "forebay.delivery.retries",
            unit="{retry}",
            description="Requests that failed, after each of which the same rows are sent again",
        )
        for name, read, description in (
            ("accepted", buffers.accepted, "Entries accepted"),
            ("superseded", buffers.superseded, "Entries merged into a later entry of their key"),
            ("dead_lettered", buffers.dead_lettered, "Entries that became dead letters"),
        ):
            meter.create_observable_counter(
                f"forebay.entries.{name}",
                [self._callback(read)],
                unit="{entry}",
                description=description,
            )
        meter.create_observable_up_down_counter(
            "forebay.queue.size",
            [self._callback(buffers.sizes)],
            unit="{entry}",
            description="Pending entries: accepted and not settled",
        )
        for name, read, unit, description in (
            ("queue.utilization", buffers.utilizations, "1", "Pending entries per capacity"),
            ("queue.oldest.age", buffers.oldest_ages, "s", "Age of the oldest pending entry"),
            ("buffer.suspended", buffers.suspensions, "{buffer}", "Suspended buffers: 0 or 1"),
            ("wal.size", buffers.wal_sizes, "By", "Size of the write-ahead log"),
            ("spool.size", buffers.spool_sizes, "By", "Size of the rows in the spool"),
            ("spool.entries", buffers.spool_entries, "{row}", "Rows in the spool"),
            ("spool.oldest.age", buffers.spool_ages, "s", "Age of the oldest row in the spool"),
            (
                "spool.utilization",
                buffers.spool_utilizations,
                "1",
                "Size of the spool per its limit",
            ),
            ("delivery.blocked", buffers.blocked_deliveries, "{buffer}", "Blocked: 0 or 1"),
        ):
            meter.create_observable_gauge(
                f"forebay.{name}", [self._callback(read)], unit=unit, description=description
            )

    @property
    def recording(self) -> bool:
        """Whether measurements are recorded: a provider other than a no-op one is set by now."""
        provider = self.provider()
        if provider is not self._checked:
            self._checked = provider
            # The API has only no-op providers, and the proxy for a provider that is set later.
            self._recording = not type(provider).__module__.startswith(metrics.__name__)
        return self._recording

    def _callback(self, read: Callable[[], list[Reading]]) -> CallbackT:
        def observe(_options: CallbackOptions) -> list[Observation]:
            # The reference to `self` keeps these instruments alive as long as their meter.
            return self._observations(read())

        return observe

    @staticmethod
    def _observations(readings: list[Reading]) -> list[Observation]:
        return [Observation(value, attributes) for value, attributes in readings]


_created: weakref.WeakSet[Instruments] = weakref.WeakSet()
"""The instruments that were created. Each meter keeps its own alive."""
_created_lock = threading.Lock()


def instruments_of(given: MeterProvider | None) -> Instruments:
    """Return the instruments of a meter provider, and create them at the first call.

    Args:
        given: the provider; None for the global one. A program may set the global provider later:
            OpenTelemetry's proxy then hands the instruments over, so they are not created again.
    """
    current = metrics.get_meter_provider()
    wanted = current if given is None else given
    with _created_lock:
        for known in _created:
            if known.provider() is wanted:
                return known
        provider = metrics.get_meter_provider if wanted is current else weakref.ref(wanted)
        created = Instruments(wanted.get_meter("forebay", __version__, SCHEMA_URL), provider)
        _created.add(created)
        return created
