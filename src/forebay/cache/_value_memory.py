"""`ValueMemory`: values in bounded memory, the least recently used of which are removed first."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import trio
from cachetools import TTLCache

_OVERHEAD = 400
"""The memory of a cached value beside its key and payload, in bytes: measured as 350 on CPython."""


@dataclass(slots=True)
class CachedValue:
    payload: str | bytes
    size_bytes: int
    written_at: int
    accessed_at: int
    size: int
    """The memory that it takes, in bytes."""


class ValueMemory:
    """Values by key, bounded in bytes and in time.

    Attributes:
        size: the memory that they took after the last change, in bytes. Unlike the methods, it may
            be read in any thread.
    """

    def __init__(self, max_bytes: int, time_to_live: float) -> None:
        """Begin without a value.

        Args:
            max_bytes: how much memory all values may take.
            time_to_live: how long a value is kept, in seconds.
        """
        self._values: TTLCache[str, CachedValue] = TTLCache(
            max_bytes, time_to_live, timer=trio.current_time, getsizeof=_size
        )
        self.size = 0

    def get(self, key: str) -> CachedValue | None:
        """Return the value of a key, or None."""
        return self._values.get(key)

    def keep(self, key: str, value: CachedValue) -> CachedValue:
        """Keep the value of a key, unless it is larger than the memory, and return it."""
        self._values.pop(key, None)
        if value.size <= self._values.maxsize:
            self._values[key] = value
        self._changed()
        return value

    def remove(self, key: str) -> None:
        """Forget the value of a key."""
        self._values.pop(key, None)
        self._changed()

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix."""
        return [key for key in self._values if key.startswith(prefix)]

    def _changed(self) -> None:
        self.size = int(self._values.currsize)


def cached_value(
    key: str, payload: str | bytes, size_bytes: int, written_at: int, accessed_at: int
) -> CachedValue:
    """Return a value with the memory that it takes.

    Args:
        key: the key of the row.
        payload: the payload of the row.
        size_bytes: its size.
        written_at: the time of the value.
        accessed_at: the time of its last recorded access.
    """
    size = sys.getsizeof(key) + sys.getsizeof(payload) + _OVERHEAD
    return CachedValue(payload, size_bytes, written_at, accessed_at, size)


def _size(value: CachedValue) -> int:
    return value.size
