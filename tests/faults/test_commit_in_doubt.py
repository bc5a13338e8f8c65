"""A COMMIT that failed with an I/O error: whether it took place is known once the file is read."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from forebay import FlushReason, Sum, Table
from forebay._batching.coalesce import Coalescer
from forebay.sqlite import CommitError
from forebay.stores.sqlite._commit import BatchCommitter


class Failing(sqlite3.Connection):
    """A connection whose next COMMIT fails as if the disk failed, and is not executed."""

    fails = False

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.fails:
            self.fails = False
            error = sqlite3.OperationalError("scripted")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return super().execute(sql, *arguments)


class Committing(sqlite3.Connection):
    """A connection whose COMMIT takes place, although the given ones report an I/O error.

    They are numbered from 1. So it is if the disk fails after SQLite has written the commit.
    """

    doubtful: frozenset[int] = frozenset()
    commits = 0

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        cursor = super().execute(sql, *arguments)
        if sql == "COMMIT":
            self.commits += 1
            if self.commits in self.doubtful:
                error = sqlite3.OperationalError("scripted")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
                raise error
        return cursor


COLUMNS: dict[str, Any] = {"k": int, "v": int | None}
CHECKED = "CREATE TABLE t (k INTEGER PRIMARY KEY, v INT NOT NULL)"
LOGGED = """CREATE TABLE t (k INT, v INT NOT NULL)"""
REPLACING = Table.from_columns(COLUMNS, name="t", key="k")
ADDING = Table.from_columns(COLUMNS, name="t", key="k", merge=Sum)
IN_ORDER = Table.from_columns(COLUMNS, name="t", key="k", coalesce=False)
APPENDED = Table.from_columns(COLUMNS, name="t")
DEFERRED = """CREATE TABLE p (k INTEGER PRIMARY KEY); INSERT INTO p VALUES (1), (2), (3), (4), (6);
    CREATE TABLE t (k INT, v INT REFERENCES p DEFERRABLE INITIALLY DEFERRED)"""


@pytest.mark.parametrize("doubtful", [{1}, {2}, {3}, {1, 2}, {1, 2, 3, 4}])
@pytest.mark.parametrize(
    ("table", "ddl", "refused"),
    [
        pytest.param(REPLACING, CHECKED, None, id="rows that replace each other"),
        pytest.param(ADDING, CHECKED, None, id="sums"),
        pytest.param(IN_ORDER, CHECKED, None, id="without coalescing"),
        pytest.param(APPENDED, LOGGED, None, id="append-only"),
        pytest.param(APPENDED, DEFERRED, 5, id="a refusal at COMMIT"),
    ],
)
@pytest.mark.parametrize("bad", [True, False], ids=["a dead letter", "no dead letter"])
def test_a_commit_that_took_place_is_not_repeated(
    table: Table[Any], ddl: str, refused: int | None, bad: bool, doubtful: set[int]
) -> None:
    """Whichever COMMIT reports an error, each row and each dead letter is there once."""
    rows = [(k, k) for k in (1, 2, 3, 4, 6)]
    coalescer = Coalescer(table, stream="s")
    coalescer.add([*rows[:3], *([(5, refused)] if bad else []), *rows[3:]], only_rows=True)
    committer = BatchCommitter(coalescer.take(FlushReason.FULL), variables=9)
    with closing(sqlite3.connect(":memory:", factory=Committing, isolation_level=None)) as raw:
        raw.executescript(f"{ddl}; PRAGMA foreign_keys = 1")
        raw.doubtful = frozenset(doubtful)
        outcome = None
        while outcome is None:
            with suppress(CommitError):
                outcome = committer.commit_remaining(raw, math.inf)

        assert rows == raw.execute("SELECT k, v FROM t ORDER BY k").fetchall()
        assert [4] * bad == [each.number for each in outcome.rejections]
        if bad:
            letters = raw.execute("SELECT entry FROM forebay_dead_letters").fetchall()
            assert [{"write": {"k": 5, "v": refused}}] == [
                json.loads(entry) for (entry,) in letters
            ]


def test_a_doubt_lasts_until_the_file_can_be_read(tmp_path: Path) -> None:
    """If a lock prevents that, the batch stays in doubt, and the next error says so too."""
    coalescer = Coalescer(Table.from_columns({"a": int}, name="t"), stream="s")
    coalescer.add([(1,)], only_rows=True)
    committer = BatchCommitter(coalescer.take(FlushReason.FULL), variables=9)
    path = tmp_path / "a.db"
    with (
        closing(sqlite3.connect(path, timeout=0, factory=Failing, isolation_level=None)) as raw,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        raw.execute("CREATE TABLE t (a)")
        raw.fails = True
        with pytest.raises(CommitError):
            committer.commit_remaining(raw, 0)
        doubts = [committer.in_doubt]
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as caught:
            committer.commit_remaining(raw, 0)
        assert "SQLITE_BUSY" == caught.value.sqlite_errorname
        doubts.append(committer.in_doubt)
        other.execute("ROLLBACK")
        committer.commit_remaining(raw, 0)
        assert [True, True, False] == [*doubts, committer.in_doubt]
        assert [(1,)] == raw.execute("SELECT a FROM t").fetchall()
