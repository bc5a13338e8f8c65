"""Read a database through another connection than that of the store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def query(path: Path, sql: str) -> list[Any]:
    """Return what another connection reads from the file."""
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute(sql).fetchall()
