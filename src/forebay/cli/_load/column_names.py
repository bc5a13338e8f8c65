"""Column names, compared as SQLite compares them."""

from __future__ import annotations

from collections.abc import Iterable

from forebay._table.sqlite_rules import find_duplicate


def describe_duplicate(names: Iterable[str]) -> str | None:
    """Return a message if two names are the same to SQLite, or None."""
    pair = find_duplicate(names)
    if pair is None:
        return None
    return f"column {pair[1]!r} repeats column {pair[0]!r}; name each column once"


def untitled(place: int) -> str:
    """Return the name of a column that has none, at this place, counted from 1.

    Programs that write a column of row numbers often write no name for it.
    """
    return f"untitled_{place}"
