"""The database of these tests."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Create a database with an empty table ``t(x)``, and return its path."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA journal_mode=wal")
        raw.execute("CREATE TABLE t (x)")
    return path
