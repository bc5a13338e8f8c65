"""A statement that fails for a reason outside its rows makes no row a dead letter."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from forebay import FlushReason, Table
from forebay._batching.coalesce import Coalescer
from forebay.stores.sqlite._commit import BatchCommitter

EVENTS = Table.from_columns({"k": int}, name="t")
ROWS = [(k,) for k in range(20)]

# Each row takes more space than a dead letter. With a trigger and a constraint, SQLite undoes only
# the statement that met a full disk, so that the transaction goes on.
DDL = """CREATE TABLE t (k INT UNIQUE);
    CREATE TABLE copies (content BLOB);
    CREATE TRIGGER i AFTER INSERT ON t BEGIN
        SELECT probe();
        INSERT INTO copies SELECT zeroblob(50000) FROM (VALUES (1), (2));
    END"""


class Cause:
    """Why statements fail, until it is removed."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self.removed = False
        raw.create_function("probe", 0, self.probe)

    def probe(self) -> int:
        """Return a number. SQL can call it."""
        return 1

    def remove(self) -> None:
        self.removed = True


class FullDisk(Cause):
    def __init__(self, raw: sqlite3.Connection) -> None:
        super().__init__(raw)
        [(pages,)] = raw.execute("PRAGMA page_count")
        raw.execute(f"PRAGMA max_page_count = {pages + 20}")

    def remove(self) -> None:
        self.raw.execute("PRAGMA max_page_count = 1000000")


class NoMemory(Cause):
    def probe(self) -> int:
        if not self.removed:
            raise MemoryError  # SQLite returns SQLITE_NOMEM
        return 1


class Interrupt(Cause):
    def probe(self) -> int:
        if not self.removed:
            self.raw.interrupt()
        return 1


class ReadOnly(Cause):
    def __init__(self, raw: sqlite3.Connection) -> None:
        super().__init__(raw)
        raw.execute("PRAGMA query_only = 1")

    def remove(self) -> None:
        self.raw.execute("PRAGMA query_only = 0")


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        (FullDisk, "SQLITE_FULL"),
        (NoMemory, "MemoryError"),
        (Interrupt, "SQLITE_INTERRUPT"),
        (ReadOnly, "SQLITE_READONLY"),
    ],
)
@pytest.mark.parametrize("count", [1, len(ROWS)])
def test_the_rows_are_committed_once_the_cause_is_gone(
    tmp_path: Path, begin: Callable[[sqlite3.Connection], Cause], expected: str, count: int
) -> None:
    """Until then nothing is committed, and no row is taken for the cause."""
    coalescer = Coalescer(EVENTS, stream="s")
    coalescer.add(ROWS[:count], only_rows=True)
    committer = BatchCommitter(coalescer.take(FlushReason.FULL), variables=999)
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as raw:
        raw.executescript(DDL)
        cause = begin(raw)

        with pytest.raises((sqlite3.OperationalError, MemoryError)) as caught:
            committer.commit_remaining(raw, math.inf)
        name = getattr(caught.value, "sqlite_errorname", type(caught.value).__name__)
        assert (expected, 0) == (name, committer.settled_entries)
        assert [(0,)] == raw.execute("SELECT count(*) FROM t").fetchall()

        cause.remove()
        assert () == committer.commit_remaining(raw, math.inf).rejections
        assert ROWS[:count] == raw.execute("SELECT k FROM t ORDER BY k").fetchall()
        names = raw.execute("SELECT name FROM sqlite_schema").fetchall()
        assert ("forebay_dead_letters",) not in names
