"""Databases with dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import forebay
from forebay import open_buffers
from tests.dead_letters.site import DDL, PAGES, Visit, enqueue_refused, execute, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a database without dead letters."""
    path = tmp_path / "site.db"
    execute(path, DDL)
    return path


@pytest.fixture
async def store(path: Path) -> AsyncIterator[forebay.SqliteStore]:
    """A store with four letters: 1 and 2 have one error, 3 another, and 4 is of another table."""
    async with opened(path) as store:
        await enqueue_refused(store, Visit("/", 1), Visit("/a", 2), Visit("/", None))
        async with open_buffers(store, PAGES) as buffers:
            await buffers[PAGES].enqueue(("/", 100))
        execute(path, "UPDATE forebay_dead_letters SET failed_at = id * 10")
        yield store
