"""Rules of a table by which SQLite drops a row, or another row for it, without an error.

No error and no count tells that it happened: the row counts as committed. So whoever has such a
table is told of the rules, from the text of the schema, which is all that has them.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

# Comments, texts and quoted names go by without a word.
_TOKENS: Final = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^]]*]"""
    r"|(?P<word>[\w$]+)",
    re.DOTALL,
)

_IN_TABLES: Final = (("ON", "CONFLICT", "IGNORE"), ("ON", "CONFLICT", "REPLACE"))
_IN_TRIGGERS: Final = (("RAISE", "IGNORE"),)


def silent_rules(raw: sqlite3.Connection, table: str | None = None) -> Iterator[str]:
    """Give such rules of a table, or of all tables, in words.

    A rule may never apply: `PRIMARY KEY ON CONFLICT REPLACE` does not, where a buffer writes by
    that key.

    Args:
        raw: a connection to the file.
        table: the table's name; None for all.
    """
    for kind, name, owner, sql in raw.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE type IN ('table', 'trigger') "
        "AND (:table IS NULL OR tbl_name = :table COLLATE NOCASE) ORDER BY rowid",
        {"table": table},
    ).fetchall():
        words = [m["word"].upper() for m in _TOKENS.finditer(sql or "") if m["word"]]
        if kind == "table":
            for rule in _IN_TABLES:
                if _has(words, rule):
                    yield f"table {owner!r} has a constraint with {' '.join(rule)}"
        elif any(_has(words, rule) for rule in _IN_TRIGGERS):
            yield f"table {owner!r} has a trigger {name!r} with RAISE(IGNORE)"


def _has(words: Sequence[str], rule: tuple[str, ...]) -> bool:
    return any(tuple(words[i : i + len(rule)]) == rule for i in range(len(words)))
