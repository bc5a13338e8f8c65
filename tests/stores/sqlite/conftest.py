"""The path of the database of most of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database that does not exist."""
    return tmp_path / "a.db"
