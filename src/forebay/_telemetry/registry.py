"""The registry of open buffers: the values that a metrics reader asks for, in its own thread.

Everything here may be called from any thread at any time. It reads integers from the ledgers, and
a clock, calls nothing that needs Trio's thread, and waits for nothing but a short lock.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from trio.abc import Clock

from forebay._buffer.ledger import Ledger
from forebay._telemetry.attributes import database_attributes
from forebay.stores import SpoolState, Store

Reading: TypeAlias = tuple[float, Mapping[str, str]]
"""A value and its attributes."""

_COUNTS: Final = ("accepted", "superseded", "dead_lettered")
"""The attributes of a ledger that count entries."""


class OpenBuffer:
    """The state of one open buffer, readable from any thread."""

    def __init__(
        self, name: str, *, ledger: Ledger, capacity: int, store: Store, clock: Clock
    ) -> None:
        self.name = name
        self.ledger = ledger
        self.capacity = capacity
        self.store = store
        self.clock = clock

    @property
    def pending(self) -> int:
        """The number of pending entries; never negative."""
        return self.ledger.pending

    @property
    def oldest_age(self) -> float:
        """The age of the oldest pending entry, in seconds; 0.0 if no entry is pending."""
        oldest = self.ledger.oldest
        # Trio's clocks read a counter, so another thread may ask them.
        return 0.0 if oldest is None else max(0.0, self.clock.current_time() - oldest)


class OpenBuffers:
    """The open buffers of a process, and the counts of those that were closed.

    Open buffers are held by weak references. A forked child starts with an empty registry, since
    the buffers belong to its parent.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._buffers: weakref.WeakSet[OpenBuffer] = weakref.WeakSet()
        self._closed: dict[str, Counter[str]] = {count: Counter() for count in _COUNTS}
        """For each count: the sum over the closed buffers, by their names."""

    def _locked(self) -> threading.Lock:
        """Return the lock. In a forked child, reset the registry first."""
        if self._pid != os.getpid():
            self._reset()
        return self._lock

    def add(self, buffer: OpenBuffer) -> None:
        """Register a buffer that was opened."""
        with self._locked():
            self._buffers.add(buffer)

    def remove(self, buffer: OpenBuffer) -> None:
        """Unregister a buffer that is closed, and keep its counts: a counter never falls.

        Removing a buffer a second time has no effect.
        """
        with self._locked():
            if buffer in self._buffers:
                self._buffers.remove(buffer)
                for count, closed in self._closed.items():
                    closed[buffer.name] += getattr(buffer.ledger, count)

    def accepted(self) -> list[Reading]:
        """Return the number of entries that were accepted in this process, per buffer name."""
        return self._totals("accepted")

    def superseded(self) -> list[Reading]:
        """Return the number of entries that were superseded in this process, per buffer name."""
        return self._totals("superseded")

    def dead_lettered(self) -> list[Reading]:
        """Return the number of entries that became dead letters, per buffer name."""
        return self._totals("dead_lettered")

    def _totals(self, count: str) -> list[Reading]:
        with self._locked():
            totals = self._closed[count].copy()
            for buffer in self._buffers:
                totals[buffer.name] += getattr(buffer.ledger, count)
        return [(total, {"buffer": name}) for name, total in totals.items()]

    def sizes(self) -> list[Reading]:
        """Return the number of pending entries, per buffer name."""
        return self._per_name(lambda buffers: sum(buffer.pending for buffer in buffers))

    def utilizations(self) -> list[Reading]:
        """Return the pending entries as a share of the capacity, per buffer name."""
        return self._per_name(
            lambda buffers: sum(b.pending for b in buffers) / sum(b.capacity for b in buffers)
        )

    def oldest_ages(self) -> list[Reading]:
        """Return the age of the oldest pending entry in seconds, per buffer name."""
        return self._per_name(lambda buffers: max(buffer.oldest_age for buffer in buffers))

    def suspensions(self) -> list[Reading]:
        """Return the number of suspended buffers, per buffer name."""
        return self._per_name(lambda buffers: sum(b.ledger.suspended for b in buffers))

    def wal_sizes(self) -> list[Reading]:
        """Return the size of the write-ahead log in bytes, per database that has one."""
        stores = {
            frozenset(database_attributes(buffer.store).items()): buffer.store
            for buffers in self._by_name().values()
            for buffer in buffers
        }
        sizes = [(store.wal_size(), dict(attributes)) for attributes, store in stores.items()]
        return [(size, attributes) for size, attributes in sizes if size is not None]

    def spool_sizes(self) -> list[Reading]:
        """Return the bytes that wait in spools, per buffer name."""
        return self._of_spools(lambda states: sum(state.bytes for state in states))

    def spool_entries(self) -> list[Reading]:
        """Return the rows that wait in spools, per buffer name."""
        return self._of_spools(lambda states: sum(state.entries for state in states))

    def spool_ages(self) -> list[Reading]:
        """Return the age of the oldest row in a spool in seconds, per buffer name."""
        return self._of_spools(lambda states: max(state.oldest_age for state in states))

    def spool_utilizations(self) -> list[Reading]:
        """Return what waits in the fullest spool as a share of its limit, per buffer name."""
        return self._of_spools(lambda states: max(state.utilization for state in states))

    def blocked_deliveries(self) -> list[Reading]:
        """Return the number of stores that deliver nothing more, per buffer name."""
        return self._of_spools(lambda states: sum(state.blocked for state in states))

    def _of_spools(self, value: Callable[[Sequence[SpoolState]], float]) -> list[Reading]:
        readings: list[Reading] = []
        for name, same in self._by_name().items():
            stores = {id(buffer.store): buffer.store for buffer in same}.values()
            found = [store.spool_state(name) for store in stores]
            states = [state for state in found if state is not None]
            if states:
                readings.append((value(states), {"buffer": name}))
        return readings

    def _per_name(self, value: Callable[[Sequence[OpenBuffer]], float]) -> list[Reading]:
        return [(value(same), {"buffer": name}) for name, same in self._by_name().items()]

    def _by_name(self) -> dict[str, list[OpenBuffer]]:
        """Return the open buffers by name. Two `open_buffers` blocks may share a name."""
        with self._locked():
            buffers: dict[str, list[OpenBuffer]] = {}
            for buffer in self._buffers:
                buffers.setdefault(buffer.name, []).append(buffer)
            return buffers
