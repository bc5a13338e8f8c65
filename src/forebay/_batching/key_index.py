"""Find the pending entries that can change the row of one key."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from forebay._table.operations import DeleteBy, Entry, Key, Row


class KeyIndex:
    """An index of a list of entries by key. The list may grow; `extend` indexes what is new.

    Args:
        entries: the entries, in the order of acceptance.
        first: the number of the first entry in its buffer.
        key_of: returns the key of a row.
    """

    __slots__ = ("_by_key", "_by_value", "_entries", "_first", "_key_of", "indexed")

    def __init__(
        self, entries: Sequence[Entry], *, first: int, key_of: Callable[[Row], Key]
    ) -> None:
        self._entries = entries
        self._first = first
        self._key_of = key_of
        self.indexed: int = first - 1
        """The number of the last entry that is indexed."""
        self._by_key: dict[Key, list[int]] = {}
        self._by_value: dict[Any, list[int]] = {}
        """The numbers of the deletes by the `delete_by` column, by their value."""

    @property
    def last(self) -> int:
        """The number of the last entry."""
        return self._first + len(self._entries) - 1

    def extend(self, limit: int) -> int:
        """Index the next entries and return how many there were.

        Args:
            limit: the largest number of entries to index.
        """
        start = self.indexed + 1
        new = self._entries[start - self._first : start - self._first + limit]
        for number, entry in enumerate(new, start):
            if isinstance(entry, tuple):
                self._by_key.setdefault(self._key_of(entry), []).append(number)
            elif isinstance(entry, DeleteBy):
                self._by_value.setdefault(entry.value, []).append(number)
            else:
                self._by_key.setdefault(entry.key, []).append(number)
        self.indexed += len(new)
        return len(new)

    def entries_of(self, key: Key, after: int, up_to: int) -> list[tuple[int, Entry]]:
        """Return the indexed entries of a key with their numbers, in order.

        Args:
            key: the key.
            after: the number after which the entries were accepted.
            up_to: the largest number that they may have.
        """
        numbers = self._by_key.get(key, ())
        return [(n, self._entries[n - self._first]) for n in numbers if after < n <= up_to]

    def deletes_value(self, value: Any, after: int, up_to: int) -> bool:
        """Return whether an indexed entry deletes the rows with a value of the `delete_by` column.

        Args:
            value: the value.
            after: the number after which the entry was accepted.
            up_to: the largest number that the entry may have.
        """
        numbers = self._by_value.get(value)
        if numbers is None:
            return False
        next_one = bisect_right(numbers, after)
        return next_one < len(numbers) and numbers[next_one] <= up_to
