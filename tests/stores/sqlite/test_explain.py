"""EXPLAIN of statements while other connections change the schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sqlite3, sys
from forebay.stores.sqlite._explain import explain

ours = sqlite3.connect(sys.argv[1], isolation_level=None, cached_statements=1024)
ours.execute("PRAGMA journal_mode = wal")
ours.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v INTEGER CHECK (v <> 0))")
ours.execute("CREATE TABLE p (k PRIMARY KEY)")
other = sqlite3.connect(sys.argv[1], isolation_level=None)
sizes = set()
for number in range(200):
    instructions = explain(ours, "INSERT INTO t (k, v) VALUES (?, ?), (?, ?)", [None] * 4)
    sizes.add(len(instructions))
    other.execute("ALTER TABLE t RENAME TO u")
    try:
        explain(ours, "INSERT INTO t (k, v) VALUES (?, ?), (?, ?)", [None] * 4)
    except sqlite3.OperationalError as error:
        assert "no such table" in str(error)
    else:
        raise AssertionError("the schema was not current")
    other.execute("ALTER TABLE u RENAME TO t")
    if number == 100:
        other.execute("CREATE TRIGGER tr AFTER INSERT ON t BEGIN DELETE FROM p; END")
    ours.execute("SELECT ?, ?", ("x" * number, "y" * number * 7)).fetchall()
print(len(sizes))
"""


def test_a_changed_schema_does_not_crash_the_process(tmp_path: Path) -> None:
    """SQLite reads freed memory if it explains a statement that an older schema compiled."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "a.db"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (0, "2\n", "") == (done.returncode, done.stdout, done.stderr)
