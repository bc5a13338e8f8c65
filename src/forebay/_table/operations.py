"""The four operations that a program can request on a table: write, update, delete, delete by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from sys import getsizeof
from typing import Any, TypeAlias

Row: TypeAlias = tuple[Any, ...]
"""The values of a row, in the order of the table's columns."""

Key: TypeAlias = Any
"""The value of the key column. If the key has several columns: the tuple of their values."""


@dataclass(frozen=True, slots=True)
class Write:
    """Insert this row. If a row with its key exists, merge this row into it."""

    row: Row


@dataclass(frozen=True, slots=True)
class Update:
    """Set these columns of the row with this key. If there is no such row, do nothing."""

    key: Key
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the row with this key. If there is no such row, do nothing."""

    key: Key


@dataclass(frozen=True, slots=True)
class DeleteBy:
    """Delete every row whose `delete_by` column has this value."""

    value: Any


Operation: TypeAlias = Write | Update | Delete | DeleteBy

Entry: TypeAlias = Row | Update | Delete | DeleteBy
"""An operation as a buffer holds it: a plain tuple is a `Write` of that row."""


def size_of(entry: Entry) -> int:
    """Return the size of an entry in memory in bytes: its values and their containers."""
    if isinstance(entry, tuple):
        return getsizeof(entry) + sum(map(getsizeof, entry))
    if isinstance(entry, Update):
        return getsizeof(entry.columns) + size_of((entry.key, *entry.columns.values()))
    return size_of((entry.key if isinstance(entry, Delete) else entry.value,))


def to_operation(entry: Entry) -> Operation:
    """Return an entry as an operation."""
    return Write(tuple(entry)) if isinstance(entry, tuple) else entry
