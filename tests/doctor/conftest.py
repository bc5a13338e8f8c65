"""A sound database."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay import open_buffers, open_sqlite
from tests.doctor.site import HITS


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database of some pages, in a folder of its own."""
    path = tmp_path / "data" / "site.db"
    path.parent.mkdir()
    async with open_sqlite(path, create=[HITS]) as store, open_buffers(store, HITS) as buffers:
        await buffers[HITS].enqueue_many((f"/{i}" * 20, i) for i in range(2_000))
    return path
