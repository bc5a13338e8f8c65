"""Find the rules of a table by which SQLite drops a row without an error.

Neither an error nor a row count shows that a row was dropped: it counts as committed. So the store
warns about such rules. Only the text of the schema has them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from forebay.stores.sqlite._sql_text import words

_RULES_OF_TABLES: Final = (("ON", "CONFLICT", "IGNORE"), ("ON", "CONFLICT", "REPLACE"))
_RULES_OF_TRIGGERS: Final = (("RAISE", "IGNORE"),)

# A TEMP trigger can belong to a table of the file.
_RULES: Final = """\
SELECT type, name, tbl_name, sql FROM (
    SELECT * FROM main.sqlite_schema WHERE type IN ('table', 'trigger')
    UNION ALL SELECT * FROM temp.sqlite_schema WHERE type = 'trigger'
) WHERE :table IS NULL OR tbl_name = :table COLLATE NOCASE"""


def silent_rules(raw: sqlite3.Connection, table: str | None = None) -> Iterator[str]:
    """Yield a description of each rule that drops rows, for one table or for all tables.

    A rule may never apply. For example, `PRIMARY KEY ON CONFLICT REPLACE` does not apply if a
    buffer writes by that key.

    Args:
        raw: a connection to the file.
        table: the name of the table; None for all tables.
    """
    for kind, name, owner, sql in raw.execute(_RULES, {"table": table}).fetchall():
        found = words(sql or "")
        if kind == "table":
            for rule in _RULES_OF_TABLES:
                if _contains(found, rule):
                    yield f"table {owner!r} has a constraint with {' '.join(rule)}"
        elif any(_contains(found, rule) for rule in _RULES_OF_TRIGGERS):
            yield f"table {owner!r} has a trigger {name!r} with RAISE(IGNORE)"


def _contains(words: Sequence[str], rule: tuple[str, ...]) -> bool:
    return any(tuple(words[i : i + len(rule)]) == rule for i in range(len(words)))
