"""Compile a statement by the current schema, without executing it."""

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

    Python's cache keeps the compiled EXPLAIN, although no later one can use it. So do not explain
    the same statement again and again.

    Raises:
        sqlite3.Error: SQLite cannot compile the statement.
    """
    _use_current_schema(raw)
    # EXPLAIN of a statement that was compiled by an older schema reads freed memory, and crashes.
    # The comment differs each time, so that Python does not find the statement in its cache.
    instructions: list[tuple[Any, ...]]
    instructions = raw.execute(f"EXPLAIN {sql} -- {next(_numbers)}", parameters).fetchall()
    return instructions


def check_compiles(raw: sqlite3.Connection, sql: str) -> None:
    """Check that SQLite can compile a statement by the current schema.

    Raises:
        sqlite3.Error: SQLite cannot compile it.
    """
    _use_current_schema(raw)
    raw(sql)  # no cache keeps this compiled statement, whose many rows would need much memory


def _use_current_schema(raw: sqlite3.Connection) -> None:
    """Let SQLite read the schema again if another connection changed it.

    To compile a statement does not check that, but any statement that reads does.
    """
    raw.execute("SELECT 1 FROM main.sqlite_schema LIMIT 0").close()
