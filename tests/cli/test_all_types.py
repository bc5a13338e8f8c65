"""`forebay doctor --tables` and `forebay top` with a table that has columns of all types."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from forebay import open_buffers, open_sqlite, serve_statistics
from forebay.cli._command import command
from tests.all_types import EVERYTHING, ROW
from tests.cli.top.test_command import top


async def make(path: Path) -> None:
    """Make a database with a row."""
    async with (
        open_sqlite(path, create=[EVERYTHING]) as store,
        open_buffers(store, EVERYTHING) as buffers,
    ):
        await buffers[EVERYTHING].write(ROW)


def doctor(path: Path) -> Any:
    """Return the finding about the table."""
    arguments = ["doctor", str(path), "--tables", "tests.all_types:EVERYTHING", "--json"]
    report = json.loads(CliRunner().invoke(command, arguments).stdout)
    [finding] = [finding for finding in report["findings"] if finding["check"] == "tables"]
    return finding


def test_the_doctor_compares_columns_of_all_types(tmp_path: Path) -> None:
    """It accepts the table as it was created, and names what differs."""
    path = tmp_path / "a.db"
    trio.run(make, path)
    assert "ok" == doctor(path)["verdict"]
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP INDEX idx_everything_when")
    finding = doctor(path)
    assert "problem" == finding["verdict"]
    assert 'CREATE INDEX "idx_everything_when" ON "everything" ("when")' in finding["message"]
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("ALTER TABLE everything DROP COLUMN class")
    assert "has no column 'class' (field 'class_')" in doctor(path)["message"]


async def test_top_shows_the_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are those of any other table."""
    monkeypatch.chdir(tmp_path)
    async with (
        open_sqlite("a.db", create=[EVERYTHING]) as store,
        open_buffers(store, EVERYTHING) as buffers,
        serve_statistics("s.sock", buffers),
    ):
        await buffers[EVERYTHING].enqueue_many([ROW, ROW._replace(id=ROW.id16)])
        await buffers.flush()
        done = await top("s.sock", "--once", "--interval", "0.1")
    assert (0, "") == (done.returncode, done.stderr)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("everything")]
    assert float(line.split()[5]) > 0  # the duration of its flush
