"""Coalesce entries: which operations a batch has for each key, and in which steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from forebay import (
    Delete,
    DeleteBy,
    FlushReason,
    Keep,
    Sum,
    Table,
    Update,
    Write,
)
from forebay._batching.coalesce import Coalescer, remaining_batch, split_batch
from forebay._table.operations import Entry
from forebay.stores import Batch, DeleteByStep, DeleteStep, Step, UpdateStep, WriteStep

REPLACED = Table.from_columns({"k": str, "a": int, "b": int}, name="replaced", key="k")
MERGED = Table.from_columns(
    {"k": str, "r": int, "keep": int, "sum": int},
    name="merged",
    key="k",
    merge={"keep": Keep, "sum": Sum},
)
PAIRS = Table.from_columns({"x": int, "y": int, "v": int}, name="pairs", key=("y", "x"))
GROUPED = Table.from_columns({"k": str, "g": int}, name="grouped", key="k", delete_by="g")
APPENDED = Table.from_columns({"v": str}, name="appended", delete_by="v")


def batch_of(table: Table[Any], *entries: Entry) -> Batch:
    """Return a batch of these entries."""
    coalescer = Coalescer(table)
    coalescer.add(entries, only_rows=False)
    return coalescer.take(FlushReason.FULL)


@pytest.mark.parametrize(
    ("entries", "steps"),
    [
        ([], []),
        ([("a", 1, 1)], [WriteStep((("a", 1, 1),))]),
        ([("a", 1, 1), ("a", 2, 2)], [WriteStep((("a", 2, 2),))]),
        ([("a", 1, 1), ("b", 2, 2)], [WriteStep((("a", 1, 1), ("b", 2, 2)))]),
        ([Delete("a")], [DeleteStep(("a",))]),
        ([Delete("a"), Delete("a"), Delete("b")], [DeleteStep(("a", "b"))]),
        ([("a", 1, 1), Delete("a")], [DeleteStep(("a",))]),
        ([Delete("a"), ("a", 1, 1)], [DeleteStep(("a",)), WriteStep((("a", 1, 1),))]),
        ([Update("a", {"b": 1})], [UpdateStep(("b",), (("a", (1,)),))]),
        (
            [Update("a", {"b": 1, "a": 2}), Update("a", {"b": 3})],
            [UpdateStep(("a", "b"), (("a", (2, 3)),))],
        ),
        (
            [Update("a", {"b": 1}), Update("b", {"a": 2}), Update("c", {"b": 3})],
            [UpdateStep(("b",), (("a", (1,)), ("c", (3,)))), UpdateStep(("a",), (("b", (2,)),))],
        ),
        ([Update("a", {"b": 1}), Delete("a")], [DeleteStep(("a",))]),
        ([Delete("a"), Update("a", {"b": 1})], [DeleteStep(("a",))]),
        ([Update("a", {"b": 1}), ("a", 2, 2)], [WriteStep((("a", 2, 2),))]),
        ([("a", 1, 1), Update("a", {"b": 7})], [WriteStep((("a", 1, 7),))]),
        (
            [("a", 1, 1), Update("a", {"b": 7}), ("a", 2, 2), Update("a", {"a": 9})],
            [WriteStep((("a", 9, 2),))],
        ),
    ],
)
def test_with_replace_only_the_last_entry_of_a_key_remains(
    entries: Sequence[Entry], steps: list[Step]
) -> None:
    """If all rules are `Replace`, each key has one operation, or a delete and a write."""
    batch = batch_of(REPLACED, *entries)

    assert tuple(steps) == batch.steps
    assert (len(entries), sum(map(len, steps))) == (batch.entries, len(batch))


@pytest.mark.parametrize(
    ("entries", "steps"),
    [
        ([("a", 1, 2, 3), ("a", 10, 20, 30)], [WriteStep((("a", 10, 2, 33),))]),
        (
            [Delete("a"), ("a", 1, 2, 3), ("a", 10, 20, 30)],
            [DeleteStep(("a",)), WriteStep((("a", 10, 2, 33),))],
        ),
        # After a delete the row of the write is known, so every update is merged into it.
        (
            [Delete("a"), ("a", 1, 2, 3), Update("a", {"keep": 8, "sum": 9})],
            [DeleteStep(("a",)), WriteStep((("a", 1, 8, 9),))],
        ),
        ([("a", 1, 2, 3), Update("a", {"r": 7})], [WriteStep((("a", 7, 2, 3),))]),
        # The write may merge into a row of the table, so an update stays before or after it.
        (
            [("a", 1, 2, 3), Update("a", {"r": 7, "sum": 0})],
            [WriteStep((("a", 1, 2, 3),)), UpdateStep(("r", "sum"), (("a", (7, 0)),))],
        ),
        (
            [Update("a", {"sum": 0}), ("a", 1, 2, 3)],
            [UpdateStep(("sum",), (("a", (0,)),)), WriteStep((("a", 1, 2, 3),))],
        ),
        (
            [Update("a", {"keep": 5}), ("a", 1, 2, 3), Update("a", {"keep": 6})],
            [
                UpdateStep(("keep",), (("a", (5,)),)),
                WriteStep((("a", 1, 2, 3),)),
                UpdateStep(("keep",), (("a", (6,)),)),
            ],
        ),
        # A later write merges into the values that the update sets.
        (
            [("a", 1, 2, 3), Update("a", {"r": 0, "keep": 5, "sum": 6}), ("a", 10, 20, 30)],
            [
                WriteStep((("a", 10, 2, 33),)),
                UpdateStep(("keep", "r", "sum"), (("a", (5, 10, 36)),)),
            ],
        ),
        (
            [("a", 1, 2, 3), Update("a", {"keep": 5}), Update("a", {"sum": 6, "keep": 7})],
            [WriteStep((("a", 1, 2, 3),)), UpdateStep(("keep", "sum"), (("a", (7, 6)),))],
        ),
        # A write supersedes an update before it if it replaces all columns of the update.
        ([Update("a", {"r": 0}), ("a", 1, 2, 3)], [WriteStep((("a", 1, 2, 3),))]),
        (
            [("b", 1, 2, 3), Update("b", {"sum": 1}), Update("b", {"sum": 2}), Delete("b")],
            [DeleteStep(("b",))],
        ),
    ],
)
def test_with_merge_rules_an_update_is_merged_only_if_the_row_is_known(
    entries: Sequence[Entry], steps: list[Step]
) -> None:
    """An update that needs the row as it is in the table stays a separate operation."""
    assert tuple(steps) == batch_of(MERGED, *entries).steps


LARGEST, SMALLEST = 2**63 - 1, -(2**63)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        (1, 2, True),
        (-1, -2, True),
        (0, -2, True),
        (5, 0, True),
        (True, 3, True),
        (None, SMALLEST, True),
        (LARGEST, None, True),
        (LARGEST - 1, 1, True),
        (SMALLEST + 1, -1, True),
        # The sum of these does not fit into 64 bits.
        (LARGEST, 5, False),
        (SMALLEST, -1, False),
        # If the table has LARGEST, it has a float after the first row.
        (5, -10, False),
        (-10, LARGEST, False),
        (SMALLEST, 1, False),
        (1.5, -2.5, True),
        (-1e290, 1e290, True),
        # If the table has 1e308, it has infinity after the first row.
        (1e308, -1e308, False),
        (1e308, 1e308, False),
        (math.inf, 1.0, False),
        (math.inf, -math.inf, False),
    ],
)
def test_sums_are_merged_only_if_they_cannot_overflow(
    first: Any, second: Any, merged: bool
) -> None:
    """Otherwise the rows of the key are written one after another."""
    kind = float if isinstance(first, float) else int
    table = Table.from_columns({"k": str, "s": kind | None}, name="t", key="k", merge={"s": Sum})

    batch = batch_of(table, ("b", second), ("a", first), ("a", second))

    if merged:
        total = second if first is None else first if second is None else first + second
        assert (WriteStep((("b", second), ("a", total))),) == batch.steps
    else:
        steps = (WriteStep((("b", second), ("a", first))), WriteStep((("a", second),)))
        assert steps == batch.steps
    assert (3, 2 if merged else 3) == (batch.entries, len(batch))


def test_a_row_that_cannot_be_merged_into_an_update_follows_it() -> None:
    """The value that an update sets is known, but not whether the sum of it is an integer."""
    batch = batch_of(
        MERGED,
        *(("a", 1, 2, 3), Update("a", {"sum": LARGEST}), ("b", 1, 2, 3)),
        *(("a", 1, 2, 4), Update("a", {"r": 7}), Delete("b"), Update("a", {"sum": 5})),
    )

    assert (
        WriteStep((("a", 1, 2, 3), ("b", 1, 2, 3))),
        UpdateStep(("sum",), (("a", (LARGEST,)),)),
        DeleteStep(("b",)),
        WriteStep((("a", 7, 2, 4),)),
        UpdateStep(("sum",), (("a", (5,)),)),
    ) == batch.steps
    assert (7, 6) == (batch.entries, len(batch))


def test_a_composite_key_has_its_columns_in_declared_order() -> None:
    """The keys (1, 2) and (2, 1) are two keys."""
    batch = batch_of(
        PAIRS, (1, 2, 0), (2, 1, 0), (1, 2, 5), Delete((1, 2)), Update((2, 1), {"v": 7})
    )

    assert (DeleteStep(((1, 2),)), WriteStep(((1, 2, 7),))) == batch.steps


def test_a_delete_by_separates_the_entries_before_and_after_it() -> None:
    """It deletes rows written before it, not after; consecutive ones form one step."""
    batch = batch_of(
        GROUPED,
        *(("a", 1), ("b", 1), Delete("b"), DeleteBy(1), DeleteBy(2), DeleteBy(1)),
        *(("a", 1), Update("a", {"g": 3}), DeleteBy(3), Update("a", {"g": 4})),
    )

    assert (
        DeleteStep(("b",)),
        WriteStep((("a", 1),)),
        DeleteByStep((1, 2)),
        WriteStep((("a", 3),)),
        DeleteByStep((3,)),
        UpdateStep(("g",), (("a", (4,)),)),
    ) == batch.steps


def test_rows_without_a_key_keep_their_order() -> None:
    """Rows of an append-only table are never superseded."""
    batch = batch_of(APPENDED, ("x",), ("y",), ("x",), DeleteBy("x"), ("x",))

    assert (
        WriteStep((("x",), ("y",), ("x",))),
        DeleteByStep(("x",)),
        WriteStep((("x",),)),
    ) == batch.steps


def test_a_batch_counts_its_entries_and_its_operations() -> None:
    """`entries` includes superseded entries, `len` does not."""
    coalescer = Coalescer(GROUPED, stream="s", position=10)
    coalescer.add([("a", 1), ("a", 2), ("b", 1)], only_rows=True)
    coalescer.add([DeleteBy(1), ("a", 3), Delete("a")], only_rows=False)
    assert (6, 4) == (coalescer.entries, len(coalescer))

    batch = coalescer.take(FlushReason.INTERVAL)

    assert (6, 4, 10, 16) == (batch.entries, len(batch), batch.position, batch.end)
    assert (FlushReason.INTERVAL, "s", GROUPED) == (batch.reason, batch.stream, batch.table)
    assert [Write(("a", 2)), Write(("b", 1)), DeleteBy(1), Delete("a")] == list(batch.operations())
    assert (0, 0, 16) == (
        coalescer.entries,
        len(coalescer),
        coalescer.take(FlushReason.DRAIN).position,
    )


@pytest.mark.parametrize("table", [REPLACED, MERGED, PAIRS])
def test_adding_rows_at_once_equals_adding_them_as_mixed_entries(table: Table[Any]) -> None:
    """The fast path for rows makes the same steps as the path for mixed entries."""
    width = len(table.columns) - 1
    rows = [(n % 3 if table is PAIRS else str(n % 3), *[n] * width) for n in range(10)]
    fast, slow = Coalescer(table), Coalescer(table)

    fast.add(rows, only_rows=True)
    slow.add(rows, only_rows=False)

    assert slow.take(FlushReason.FULL).steps == fast.take(FlushReason.FULL).steps


def test_split_batch_and_remaining_batch() -> None:
    """Each part is coalesced on its own and has its position in the buffer's entries."""
    coalescer = Coalescer(REPLACED, stream="s", position=5)
    coalescer.add([("a", 1, 1), ("a", 2, 2)], only_rows=True)
    coalescer.add([Delete("a"), ("b", 1, 1), ("a", 3, 3)], only_rows=False)
    batch = coalescer.take(FlushReason.REQUESTED)

    first, second = split_batch(batch)
    rest = remaining_batch(batch, 8)

    assert (WriteStep((("a", 2, 2),)),) == first.steps
    assert (DeleteStep(("a",)), WriteStep((("b", 1, 1), ("a", 3, 3)))) == second.steps
    assert (WriteStep((("b", 1, 1), ("a", 3, 3))),) == rest.steps
    assert [(5, 7), (7, 10), (8, 10)] == [(p.position, p.end) for p in (first, second, rest)]
    assert {("s", FlushReason.REQUESTED)} == {(p.stream, p.reason) for p in (first, second, rest)}
