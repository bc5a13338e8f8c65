"""A COMMIT that failed with an I/O error: whether it took place is known once the file is read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from forebay import FlushReason, Table
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
