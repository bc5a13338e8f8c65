"""The accepted entries of a buffer that are not settled, by their keys.

`Buffer.get` reads them. Their index costs about as much as the checks of the entries, so it is
built when `Buffer.get` is called: a program that never calls it keeps a list of the bursts only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio

from forebay._batching.key_index import KeyIndex
from forebay._buffer.burst import Burst
from forebay._table.operations import Entry, Key, Row

_SLICE: Final = 1_000
"""The number of entries to index before other tasks run; this takes about 0.3 ms."""


@dataclass(frozen=True, slots=True)
class CapturedEntries:
    """The entries that were pending at one moment.

    Attributes:
        settled: the number of the last entry that was settled.
        accepted: the number of the last entry that was accepted.
    """

    settled: int
    accepted: int
    _indexes: Sequence[KeyIndex]

    def entries_of(self, key: Key) -> list[tuple[int, Entry]]:
        """Return the entries of a key with their numbers, in order."""
        return [
            numbered
            for index in self._indexes
            for numbered in index.entries_of(key, self.settled, self.accepted)
        ]

    def deletes_value(self, value: Any, after: int, up_to: int) -> bool:
        """Return whether one of the entries deletes the rows with a value of `delete_by`.

        Args:
            value: the value.
            after: the number after which the entry was accepted.
            up_to: the largest number that the entry may have.
        """
        return any(index.deletes_value(value, after, up_to) for index in self._indexes)


class PendingEntries:
    """The bursts of a buffer that are not settled.

    Args:
        key_of: returns the key of a row.
    """

    def __init__(self, key_of: Callable[[Row], Key]) -> None:
        self._key_of = key_of
        self._indexes: deque[KeyIndex] = deque()

    def add(self, burst: Burst) -> None:
        """Add a burst, to which producers may append more entries."""
        index = KeyIndex(burst.entries, first=burst.base + 1, key_of=self._key_of)
        self._indexes.append(index)

    def settle(self, number: int) -> None:
        """Drop the bursts whose entries are all settled.

        Args:
            number: the number of the last settled entry.
        """
        while self._indexes and self._indexes[0].last <= number:
            self._indexes.popleft()

    async def capture(self, accepted: int, settled: Callable[[], int]) -> CapturedEntries:
        """Index the pending entries and return them. Other tasks run in between.

        Args:
            accepted: the number of the last entry to return.
            settled: returns the number of the last settled entry.
        """
        budget = _SLICE
        for index in tuple(self._indexes):
            while index.indexed < min(accepted, index.last):
                budget -= index.extend(budget)
                if budget == 0:
                    await trio.lowlevel.checkpoint()
                    budget = _SLICE
        # There is no checkpoint from here on. What has settled meanwhile is in the table.
        return CapturedEntries(settled(), accepted, tuple(self._indexes))
