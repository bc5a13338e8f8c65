"""SIGTERM and SIGINT at full load: the documented recipe runs unchanged in its own process."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RUN_AND_COUNT = """
import runpy, sys
import forebay

accepted = 0
enqueue = forebay.Buffer.enqueue

async def enqueue_and_count(buffer, row):
    global accepted
    await enqueue(buffer, row)
    accepted += 1
    if accepted == 500:
        print("running", flush=True)

forebay.Buffer.enqueue = enqueue_and_count
try:
    runpy.run_path(sys.argv[1], run_name="__main__")
finally:
    print(accepted, flush=True)
"""
"""Runs a program, reports when it has enqueued 500 rows, and at its end how many it enqueued."""


def recipe() -> str:
    """Return the block of code in the documentation that defines `end_on_signal`."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text() for page in pages)
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    [block] = [block for block in blocks if "async def end_on_signal" in block]
    return str(block)


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the recipe in a folder, from when it has enqueued 500 rows."""
    program = folder / "service.py"
    program.write_text(recipe())
    with subprocess.Popen(
        [sys.executable, "-c", RUN_AND_COUNT, program],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            assert "running\n" == child.stdout.readline()
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_row_that_was_accepted_is_there_after_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The program ends by itself, and the table has counted exactly the rows accepted."""
    with running(tmp_path) as child:
        child.send_signal(number)
        accepted, errors = child.communicate(timeout=60)
    assert ("", 0) == (errors, child.returncode)
    with closing(sqlite3.connect(tmp_path / "hits.db")) as raw:
        assert [(int(accepted),)] == raw.execute("SELECT hits FROM hits").fetchall()


def test_a_second_signal_cuts_the_drain_short(tmp_path: Path) -> None:
    """While another process locks the file, the program ends at once and names what is left."""
    with running(tmp_path) as child, closing(sqlite3.connect(tmp_path / "hits.db")) as raw:
        raw.execute("BEGIN IMMEDIATE")
        [(committed,)] = raw.execute("SELECT coalesce(sum(hits), 0) FROM hits").fetchall()
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGINT)
        accepted, errors = child.communicate(timeout=20)  # the drain timeout is 30 seconds
    assert 1 == child.returncode
    assert "DrainError: " in errors
    assert f" {int(accepted) - committed:,} " in errors
