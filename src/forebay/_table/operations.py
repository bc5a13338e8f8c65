"""The four things a program can ask of a table, each the effect of one accepted entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from sys import getsizeof
from typing import Any, TypeAlias

Row: TypeAlias = tuple[Any, ...]
"""The values of a row in the order of the table's columns."""

Key: TypeAlias = Any
"""The value of the key column, or the tuple of them where the key has several."""


@dataclass(frozen=True, slots=True)
class Write:
    """Insert this row; where its key is there already, merge it into that row."""

    row: Row


@dataclass(frozen=True, slots=True)
class Update:
    """Set these columns of the row with this key; nothing where there is none."""

    key: Key
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the row with this key; nothing where there is none."""

    key: Key


@dataclass(frozen=True, slots=True)
class DeleteBy:
    """Remove every row whose `delete_by` column has this value."""

    value: Any


Operation: TypeAlias = Write | Update | Delete | DeleteBy

Entry: TypeAlias = Row | Update | Delete | DeleteBy
"""An operation on its way through the buffer, where a bare row stands for its `Write`."""


def size_of(entry: Entry) -> int:
    """Measure an entry in memory, in bytes: its values and what holds them."""
    if isinstance(entry, tuple):
        return getsizeof(entry) + sum(map(getsizeof, entry))
    if isinstance(entry, Update):
        return getsizeof(entry.columns) + size_of((entry.key, *entry.columns.values()))
    return size_of((entry.key if isinstance(entry, Delete) else entry.value,))


def operation(entry: Entry) -> Operation:
    """Give the operation that an entry stands for."""
    return Write(tuple(entry)) if isinstance(entry, tuple) else entry
