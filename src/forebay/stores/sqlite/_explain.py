"""EXPLAIN of a statement: the instructions to which SQLite compiles it, without executing it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

_numbers = count()


def explain(
    raw: sqlite3.Connection, sql: str, parameters: Sequence[Any] | Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """Compile a statement by the current schema, and return its instructions.

    Raises:
        sqlite3.Error: SQLite cannot compile the statement.
    """
    # EXPLAIN does not check whether the schema is current, but any statement that reads does.
    raw.execute("SELECT 1 FROM main.sqlite_schema LIMIT 0").close()
    # EXPLAIN of a statement that was compiled by an older schema reads freed memory, and crashes.
    # The comment differs each time, so that Python does not find the statement in its cache.
    instructions: list[tuple[Any, ...]]
    instructions = raw.execute(f"EXPLAIN {sql} -- {next(_numbers)}", parameters).fetchall()
    return instructions
