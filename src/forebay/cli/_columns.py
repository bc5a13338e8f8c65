"""Names of columns, compared as SQLite compares them."""

from __future__ import annotations

import string
from collections.abc import Iterable

_ASCII_LOWER = {ord(upper): ord(upper.lower()) for upper in string.ascii_uppercase}


def folded(name: str) -> str:
    """The name without what SQLite has no regard for: the case of ASCII letters, and no other."""
    return name.translate(_ASCII_LOWER)


def duplicate(names: Iterable[str]) -> str | None:
    """What is wrong with `names` where SQLite would take two of them as the same one, or None."""
    seen: dict[str, str] = {}
    for name in names:
        if folded(name) in seen:
            return f"columns {seen[folded(name)]!r} and {name!r}; expected each column once"
        seen[folded(name)] = name
    return None
