"""Names of columns, compared as SQLite compares them."""

from __future__ import annotations

from collections.abc import Iterable

from forebay._table.sqlite_rules import find_duplicate


def duplicate(names: Iterable[str]) -> str | None:
    """What is wrong with `names` where SQLite would take two of them as the same one, or None."""
    pair = find_duplicate(names)
    return (
        None if pair is None else f"columns {pair[0]!r} and {pair[1]!r}; expected each column once"
    )
