"""Bursts: the lists of entries that a channel carries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from forebay._table.operations import Entry


class Taken(NamedTuple):
    """Entries of one burst that the worker takes for a batch, in the order of acceptance."""

    entries: Sequence[Entry]
    only_rows: bool
    """Whether all entries are rows."""
    opened_at: float
    """When the burst of the entries was opened, in seconds of Trio's clock."""
    size: int
    """The bytes to release once these entries are settled."""


class Burst:
    """Entries in the order of acceptance: those accepted since the last burst was closed.

    The length of `entries` is the count of what was accepted. So there is no other count that
    could differ from it, whatever interrupts a program.

    Producers append to `entries` themselves while it is shorter than `limit`, since a method call
    per entry would slow them down. All other changes are the channel's.

    Args:
        base: how many entries the buffer accepted before this burst.
    """

    __slots__ = ("_taken", "base", "entries", "limit", "only_rows", "opened_at", "size")

    def __init__(self, base: int) -> None:
        self.base: int = base
        self.entries: list[Entry] = []
        self.limit: int = 0
        """The length up to which a producer may append a row without asking the channel."""
        self.opened_at: float = math.inf
        """When the first entry was accepted, in seconds of Trio's clock."""
        self.only_rows: bool = True
        self.size: int = 0
        self._taken = 0

    @property
    def left(self) -> int:
        """How many entries were not taken."""
        return len(self.entries) - self._taken

    def take(self, limit: int) -> Taken:
        """Take the next entries, of which there is at least one.

        Args:
            limit: the largest number of entries to take.
        """
        start, self._taken = self._taken, min(self._taken + limit, len(self.entries))
        entries: Sequence[Entry] = self.entries
        if self._taken - start < len(self.entries):
            entries = self.entries[start : self._taken]
        # The size of a burst is released with its last entry.
        return Taken(entries, self.only_rows, self.opened_at, 0 if self.left else self.size)
