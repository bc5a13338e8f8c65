"""The buffers that live, and what any thread may read of them at any time.

A metrics reader asks from a thread of its own. All that is read here are plain numbers of the
ledgers, and a clock: nothing of Trio's is called that needs its thread, and nobody waits.
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
from forebay.stores import Store

Reading: TypeAlias = tuple[float, Mapping[str, str]]
"""A value, and the attributes that tell whose it is."""

_COUNTS: Final = ("accepted", "superseded", "dead_lettered")
"""What the ledgers count of entries, by the names of their attributes."""


class LiveBuffer:
    """One buffer, as a reader sees it."""

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
        """How many accepted entries are not settled; never less than none."""
        settled = self.ledger.settled  # read first: it only grows, and never past the other
        return self.ledger.accepted - settled

    @property
    def oldest_age(self) -> float:
        """How long the oldest pending entry has been waiting, in seconds."""
        oldest = self.ledger.oldest
        # A clock reads a counter: it may be asked outside of Trio's thread.
        return 0.0 if oldest is None else max(0.0, self.clock.current_time() - oldest)


class LiveBuffers:
    """The buffers whose `open_buffers` blocks are open, weakly held, and totals of the others."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._buffers: weakref.WeakSet[LiveBuffer] = weakref.WeakSet()
        self._ended: dict[str, Counter[str]] = {count: Counter() for count in _COUNTS}

    def _locked(self) -> threading.Lock:
        """Give the lock; in a forked child, begin anew: the buffers are the parent's."""
        if self._pid != os.getpid():
            self._begin()
        return self._lock

    def add(self, buffer: LiveBuffer) -> None:
        """Read this buffer from now on."""
        with self._locked():
            self._buffers.add(buffer)

    def remove(self, buffer: LiveBuffer) -> None:
        """Read this buffer no more, but for what it has counted: a counter never falls."""
        with self._locked():
            if buffer in self._buffers:
                self._buffers.remove(buffer)
                for count, ended in self._ended.items():
                    ended[buffer.name] += getattr(buffer.ledger, count)

    def accepted(self) -> list[Reading]:
        """Tell how many entries were accepted, in the whole process."""
        return self._entries("accepted")

    def superseded(self) -> list[Reading]:
        """Tell how many entries were folded into another one, in the whole process."""
        return self._entries("superseded")

    def dead_lettered(self) -> list[Reading]:
        """Tell how many entries became dead letters, in the whole process."""
        return self._entries("dead_lettered")

    def _entries(self, count: str) -> list[Reading]:
        with self._locked():
            totals = self._ended[count].copy()
            for buffer in self._buffers:
                totals[buffer.name] += getattr(buffer.ledger, count)
        return [(total, {"buffer": name}) for name, total in totals.items()]

    def sizes(self) -> list[Reading]:
        """Tell how many entries are pending."""
        return self._each(lambda buffers: sum(buffer.pending for buffer in buffers))

    def utilizations(self) -> list[Reading]:
        """Tell how many entries are pending, as a share of the capacity."""
        return self._each(
            lambda buffers: sum(b.pending for b in buffers) / sum(b.capacity for b in buffers)
        )

    def oldest_ages(self) -> list[Reading]:
        """Tell how long the oldest pending entries have been waiting, in seconds."""
        return self._each(lambda buffers: max(buffer.oldest_age for buffer in buffers))

    def wal_sizes(self) -> list[Reading]:
        """Tell the sizes of the stores' write-ahead logs, in bytes, one a database."""
        stores = {
            frozenset(buffer.store.attributes.items()): buffer.store
            for buffers in self._by_name().values()
            for buffer in buffers
        }
        sizes = [(store.wal_size(), store.attributes) for store in stores.values()]
        return [(size, attributes) for size, attributes in sizes if size is not None]

    def _each(self, value: Callable[[Sequence[LiveBuffer]], float]) -> list[Reading]:
        return [(value(same), {"buffer": name}) for name, same in self._by_name().items()]

    def _by_name(self) -> dict[str, list[LiveBuffer]]:
        """Give the live buffers by name: two open blocks may each have one of a name."""
        with self._locked():
            buffers: dict[str, list[LiveBuffer]] = {}
            for buffer in self._buffers:
                buffers.setdefault(buffer.name, []).append(buffer)
            return buffers
