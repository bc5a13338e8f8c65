"""The work of a batch with many refused entries grows about linearly with their number.

Work is counted, not timed: steps of SQLite's virtual machine, calls of Python functions, and the
bytes of the objects that each refusal creates.
"""

from __future__ import annotations

import math
import sqlite3
import sys
from contextlib import closing
from dataclasses import fields
from typing import Any

import pytest

from forebay import FlushReason, Table, Write
from forebay._batching.coalesce import Coalescer
from forebay.stores import Rejection
from forebay.stores.sqlite._commit import BatchCommitter
from forebay.stores.sqlite._settled import Settled

FEW, MANY = 250, 2_000
# Bisection of n entries takes log2(n) halvings: the work is O(n log n).
GROWTH = MANY * math.log2(MANY) / (FEW * math.log2(FEW))

STEPS = 10

COLUMNS: dict[str, Any] = {"k": int, "v": int | None}
KEYED = Table.from_columns(COLUMNS, name="t", key="k")
APPENDED = Table.from_columns(COLUMNS, name="t")
ORDERED = Table.from_columns(COLUMNS, name="t", key="k", coalesce=False)


class Work:
    """Counts the work of one commit."""

    def __init__(self) -> None:
        self.steps = 0
        self.calls = 0

    def step(self) -> None:
        self.steps += STEPS

    def profile(self, _frame: object, event: str, _argument: object) -> None:
        self.calls += event in {"call", "c_call"}


def commit(table: Table[Any], ddl: str, entries: int) -> tuple[Work, int]:
    """Commit a batch of which every entry is refused; return the work and the dead letters."""
    coalescer = Coalescer(table)
    coalescer.add([(i, None) for i in range(entries)], only_rows=True)
    committer = BatchCommitter(coalescer.take(FlushReason.FULL), variables=32_766)
    work = Work()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as raw:
        raw.execute(ddl)
        raw.set_progress_handler(work.step, STEPS)
        before = sys.getprofile()
        sys.setprofile(work.profile)
        try:
            outcome = committer.commit_remaining(raw, math.inf)
        finally:
            sys.setprofile(before)
    assert list(range(1, entries + 1)) == [each.number for each in outcome.rejections]
    return work, len(outcome.rejections)


@pytest.mark.parametrize("table", [KEYED, APPENDED, ORDERED])
@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE t (k INTEGER PRIMARY KEY, v NOT NULL)",
        "CREATE TABLE t (k INTEGER PRIMARY KEY, v NOT NULL ON CONFLICT ROLLBACK)",
    ],
)
def test_the_work_grows_about_linearly(table: Table[Any], ddl: str) -> None:
    """Eight times the refused entries need at most 13 times the work: eight times, and log n."""
    few, _ = commit(table, ddl, FEW)
    many, letters = commit(table, ddl, MANY)
    assert MANY == letters
    assert 0 < many.steps < 1.2 * GROWTH * few.steps
    assert 0 < many.calls < 1.2 * GROWTH * few.calls


def test_a_refusal_copies_no_earlier_refusals() -> None:
    """The objects that a refusal creates have the same size after 10,000 refusals."""
    settled, sizes = Settled(0), list[int]()
    for number in range(1, 10_001):
        rejection = Rejection(number, Write((number,)), "CODE", "message", number)
        advanced = settled.advanced_by_rejection(rejection)
        sizes.append(sum(sys.getsizeof(getattr(advanced, each.name)) for each in fields(Settled)))
        settled = advanced
    assert sizes[-1] < 2 * sizes[0]
    assert (10_000, 10_000) == (settled.rejection_count, len(settled.rejections()))
    assert [9_999, 10_000] == [each.number for each in settled.rejections(after=9_998)]
