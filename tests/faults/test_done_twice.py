"""A batch that is done twice: after a COMMIT in doubt that is all one may do to some tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from forebay import FlushReason, Write
from forebay._coalesce import Coalescer
from forebay._operations import Operation
from forebay.stores._statements import statements
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
def test_batches_of_an_idempotent_table_may_be_done_twice(data: st.DataObject) -> None:
    """Whatever was in the table before, twice leaves what once leaves."""
    drawn = data.draw(tables())
    assume(drawn.table.idempotent)
    before = data.draw(operations(drawn, at_most=6))
    accepted = data.draw(operations(drawn, at_most=6))
    assert rows_after(drawn, before, accepted, 1) == rows_after(drawn, before, accepted, 2)
