"""How SQLite treats integers, names and declared types."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Final

INT64: Final = range(-(2**63), 2**63)
"""The integers that SQLite can store."""

_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def fold_case(name: str) -> str:
    """Return a name as SQLite compares it: the letters A to Z in lower case, others unchanged."""
    return name.translate(_LOWER)


def is_name(name: object) -> bool:
    """Return whether SQLite can store a text as a name, and read it in a statement.

    SQLite stores names as UTF-8, which cannot encode a lone surrogate.
    """
    return isinstance(name, str) and name != "" and is_sql_text(name)


def is_sql_text(text: str) -> bool:
    """Return whether a text can be part of an SQL statement."""
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def find_duplicate(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names that SQLite treats as the same name, or None."""
    seen: dict[str, str] = {}
    for name in names:
        folded = fold_case(name)
        if folded in seen:
            return seen[folded], name
        seen[folded] = name
    return None


def affinity(declared: str) -> str:
    """Return the affinity of a column with this declared type.

    The rules, and their order, are those of https://sqlite.org/datatype3.html, section 3.1.

    Returns:
        INTEGER, TEXT, REAL, NUMERIC (which holds any number), or BLOB (which changes no value).
    """
    upper = declared.upper()
    if "INT" in upper:
        return "INTEGER"
    if any(part in upper for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not upper or "BLOB" in upper:
        return "BLOB"
    if any(part in upper for part in ("REAL", "FLOA", "DOUB")):
        return "REAL"
    return "NUMERIC"
