"""A batch of an idempotent table may be executed twice, as after a COMMIT in doubt."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from forebay import FlushReason, Table, Write
from forebay._batching.batch import is_idempotent
from forebay._batching.coalesce import Coalescer
from forebay._table.operations import Operation
from forebay.sqlite import CommitError
from forebay.stores.sqlite._commit import BatchCommitter
from forebay.stores.sqlite._statements import statements
from tests import one_by_one
from tests.random_tables import Drawn, operations, tables


def rows_after(
    drawn: Drawn, before: Sequence[Operation], accepted: Sequence[Operation], times: int
) -> list[tuple[Any, ...]]:
    coalescer = Coalescer(drawn.table)
    entries = [each.row if isinstance(each, Write) else each for each in accepted]
    coalescer.add(entries, only_rows=False)
    batch = coalescer.take(FlushReason.REQUESTED)
    with closing(sqlite3.connect(":memory:")) as raw:
        raw.execute(drawn.ddl)
        one_by_one.execute(raw, drawn.table, before)
        for _ in range(times):
            for step in batch.steps:
                for statement in statements(drawn.table, step, variables=100):
                    raw.execute(statement.sql, statement.parameters)
        return one_by_one.rows_of(raw, drawn.table)


@given(st.data())
def test_a_second_execution_of_a_batch_changes_nothing(data: st.DataObject) -> None:
    """If the table is idempotent; whatever rows were in it before."""
    drawn = data.draw(tables())
    assume(is_idempotent(drawn.table))
    before = data.draw(operations(drawn, at_most=6))
    accepted = data.draw(operations(drawn, at_most=6))
    assert rows_after(drawn, before, accepted, 1) == rows_after(drawn, before, accepted, 2)


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
