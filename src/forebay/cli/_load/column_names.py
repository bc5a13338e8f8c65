"""Names of columns, compared as SQLite compares them."""

from __future__ import annotations

from collections.abc import Iterable

from forebay._table.sqlite_rules import fold_case


def duplicate(names: Iterable[str]) -> str | None:
    """What is wrong with `names` where SQLite would take two of them as the same one, or None."""
    seen: dict[str, str] = {}
    for name in names:
        if fold_case(name) in seen:
            return f"columns {seen[fold_case(name)]!r} and {name!r}; expected each column once"
        seen[fold_case(name)] = name
    return None
