"""The metrics of open caches, for OpenTelemetry: docs/cache.md lists the instruments.

All of them are observable: a reader of metrics asks, in its own thread, for the statistics that the
cache counts anyway. So a call of the cache costs no more than without metrics.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Final, NamedTuple, TypeAlias

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from forebay import __version__
from forebay.cache._statistics import CacheStatistics

_SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.33.0"

_ARTIFACTS: Final = ("store", "artifacts")
_KEY_VALUES: Final = ("store", "key_values")

_Attributes: TypeAlias = tuple[tuple[str, str], ...]
_Reading: TypeAlias = tuple[str, _Attributes, int]
"""The name of an instrument, the attributes, and the value of one cache."""

_COUNTERS: Final = (
    ("lookups", "{lookup}", "Artifacts and values that were asked for"),
    ("io", "By", "Bytes of artifacts and values that were stored, or found by a lookup"),
    ("evictions", "{item}", "Artifacts and values that were evicted"),
    ("evicted.size", "By", "Size of the artifacts and values that were evicted"),
    ("transfers", "{transfer}", "Attempts of queued transfers, by their outcome"),
    ("fetches", "{fetch}", "Lookups of missing artifacts in the object storage, by their outcome"),
)
_GAUGES: Final = (
    ("transfers.queued", "{transfer}", "Queued transfers"),
    ("usage", "By", "Size of the artifacts and values, or usage of the disk"),
    ("limit", "By", "The budget, or the size of the disk"),
    ("memory.size", "By", "Size of the values in memory"),
)


def _counts(now: CacheStatistics) -> Iterable[_Reading]:
    """Yield the values of the counters."""
    for store, used, evictor in (
        (_ARTIFACTS, now.artifacts, now.evictor),
        (_KEY_VALUES, now.key_values, now.key_value_evictor),
    ):
        yield "lookups", (store, ("result", "hit")), used.hits
        yield "lookups", (store, ("result", "miss")), used.misses
        yield "io", (store, ("direction", "read")), used.hit_bytes
        yield "io", (store, ("direction", "write")), used.stored_bytes
        yield "evictions", (store,), evictor.removed
        yield "evicted.size", (store,), evictor.freed_bytes
    if now.transfers is not None:
        for result in ("done", "missing", "rate_limited", "unavailable", "failed", "dropped"):
            yield "transfers", (("result", result),), getattr(now.transfers, result)
    if now.read_through is not None:
        for result in ("fetched", "missing", "failed", "skipped"):
            yield "fetches", (("result", result),), getattr(now.read_through, result)


def _levels(now: CacheStatistics) -> Iterable[_Reading]:
    """Yield the values of the gauges."""
    for transfer_type, queued in now.queued_transfers.items():
        yield "transfers.queued", (("type", transfer_type),), queued
    if now.usage is not None:
        yield "usage", (_ARTIFACTS,), now.usage.used
        yield "limit", (_ARTIFACTS,), now.usage.limit
    if now.key_value_bytes is not None:
        yield "usage", (_KEY_VALUES,), now.key_value_bytes
    if now.key_value_budget_bytes is not None:
        yield "limit", (_KEY_VALUES,), now.key_value_budget_bytes
    yield "memory.size", (_KEY_VALUES,), now.key_values.memory_bytes


class _Open(NamedTuple):
    process: int
    read: Callable[[], CacheStatistics]


class _Instruments:
    """The instruments of one meter. They are created once, since none can be removed again.

    Caches that are open at the same time are added up. The counts of a cache that was closed stay,
    so that the last export has what was counted until its end.
    """

    def __init__(self, meter: metrics.Meter, provider: Callable[[], MeterProvider | None]) -> None:
        self.provider = provider
        self._lock = threading.Lock()
        self._open: list[_Open] = []
        self._closed: Counter[tuple[str, _Attributes]] = Counter()
        for name, unit, description in _COUNTERS:
            meter.create_observable_counter(
                f"forebay.cache.{name}",
                [self._callback(name, _counts, self._closed)],
                unit=unit,
                description=description,
            )
        for name, unit, description in _GAUGES:
            meter.create_observable_gauge(
                f"forebay.cache.{name}",
                [self._callback(name, _levels, Counter())],
                unit=unit,
                description=description,
            )

    def _callback(
        self,
        name: str,
        values: Callable[[CacheStatistics], Iterable[_Reading]],
        closed: Counter[tuple[str, _Attributes]],
    ) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            with self._lock:
                totals = Counter({key: value for key, value in closed.items() if key[0] == name})
                # After a fork, the caches belong to the parent.
                for cache in self._open:
                    if cache.process == os.getpid():
                        for each, attributes, value in values(cache.read()):
                            if each == name:
                                totals[each, attributes] += value
            return [Observation(value, dict(key[1])) for key, value in totals.items()]

        return observe

    @contextmanager
    def observing(self, read: Callable[[], CacheStatistics]) -> Generator[None, None, None]:
        """Report a cache for the duration of the block."""
        cache = _Open(os.getpid(), read)
        with self._lock:
            self._open.append(cache)
        try:
            yield
        finally:
            with self._lock:
                self._open.remove(cache)
                for name, attributes, value in _counts(read()):
                    self._closed[name, attributes] += value


_created: weakref.WeakSet[_Instruments] = weakref.WeakSet()
"""The instruments that were created. The callbacks of each meter keep its own alive."""
_created_lock = threading.Lock()


def cache_instruments(given: MeterProvider | None) -> _Instruments:
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
        meter = wanted.get_meter("forebay.cache", __version__, _SCHEMA_URL)
        created = _Instruments(meter, provider)
        _created.add(created)
        return created
