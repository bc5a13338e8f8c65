"""Each test has a folder with a database of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.dead_letters.site import make_database


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_database()
