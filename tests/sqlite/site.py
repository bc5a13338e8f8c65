"""A database with a table ``t(x)``, for the tests of `forebay.sqlite`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.thread_gate import ThreadGate

# Long enough for a slow machine; no test waits for it unless something is broken.
PATIENCE = 20.0


def rows(path: Path) -> list[Any]:
    """Return what another connection reads from ``t``."""
    with closing(sqlite3.connect(path)) as raw:
        return [x for (x,) in raw.execute("SELECT x FROM t ORDER BY rowid")]


def insert(raw: sqlite3.Connection, *values: object) -> int:
    for value in values:
        raw.execute("INSERT INTO t VALUES (?)", (value,))
    return len(values)


class Gate(ThreadGate):
    """A function for a connection that stays in its thread until it is released."""

    def __call__(self, raw: sqlite3.Connection, *values: object) -> int:
        self.wait()
        return insert(raw, *values)
