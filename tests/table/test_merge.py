"""The merge rules: Python and SQLite merge two values into the same value."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import Keep, Max, Merge, Min, Replace, Sum, Table
from forebay._table.row_merger import RowMerger
from forebay.stores import WriteStep
from forebay.stores.sqlite._ddl import create_sql
from forebay.stores.sqlite._statements import statements

LARGEST = 2**63 - 1
INTS = [None, 0, 1, -1, 2**53, 2**53 + 1, LARGEST, LARGEST - 1, -LARGEST, -LARGEST - 1]
FLOATS = [None, 0.0, -0.0, 1.0, -1.5, 2.0**53, 1e300, -1e300, 5e-324, 1e308, math.inf, -math.inf]
TEXTS = [None, "", "a", "A", "aa", "B", "b", "a ", "é", "e\u0301", "\uffff", "\U0001f600", "a\0b"]
BLOBS = [None, b"", b"a", b"aa", b"A", b"\0", b"\xff", b"a\0"]
ANYTHING = [None, 1, 1.0, True, "1", b"1", 0.5, "a"]


@pytest.fixture(scope="module")
def raw() -> Iterator[sqlite3.Connection]:
    """Yield a connection to a database in memory, in autocommit mode."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


def merge_in_table(raw: sqlite3.Connection, table: Table[Any], *values: object) -> Any:
    """Return the value of a column after rows with these values were written one by one."""
    raw.execute('DROP TABLE IF EXISTS "t"')
    raw.execute(create_sql(table))
    for value in values:
        for statement in statements(table, WriteStep([(1, value)]), variables=999):
            raw.execute(statement.sql, statement.parameters)
    [(merged,)] = raw.execute('SELECT "v" FROM "t"')
    return merged


def table_of(kind: Any, rule: Merge) -> Table[tuple[Any, ...]]:
    """Return a table with one value column."""
    return Table.from_columns({"k": int, "v": kind}, name="t", key="k", merge=rule)


@pytest.mark.parametrize(
    ("kind", "rule", "values"),
    [
        *((int | None, rule, INTS) for rule in [Replace, Keep, Sum, Min, Max]),
        *((float | None, rule, FLOATS) for rule in [Replace, Keep, Sum, Min, Max]),
        *((str | None, rule, TEXTS) for rule in [Replace, Keep, Min, Max]),
        *((bytes | None, rule, BLOBS) for rule in [Replace, Keep, Min, Max]),
        *((Any, rule, ANYTHING) for rule in [Replace, Keep]),
    ],
)
def test_two_values_merge_in_memory_as_in_the_table(
    raw: sqlite3.Connection, kind: Any, rule: Merge, values: list[Any]
) -> None:
    """A rule has the same result in Python and in SQL: the same value of the same type."""
    table = table_of(kind, rule)
    pairs = [(old, new) for old in values for new in values]

    merged = [(old, new, RowMerger(table).merge((1, old), (1, new))[1]) for old, new in pairs]

    assert [
        (old, new, stored, type(stored))
        for old, new in pairs
        for stored in [merge_in_table(raw, table, old, new)]
    ] == [(*pair, one, int if one is True else type(one)) for *pair, one in merged]


@pytest.mark.parametrize(
    ("rule", "old", "new", "merged"),
    [
        (Replace, 1, 2, 2),
        (Replace, 1, None, None),
        (Keep, 1, 2, 1),
        (Keep, None, 2, None),
        (Sum, 1, 2, 3),
        (Sum, None, 2, 2),
        (Sum, 1, None, 1),
        (Sum, None, None, None),
        (Sum, LARGEST, 1, 2.0**63),
        (Sum, -LARGEST, -2, -(2.0**63)),
        (Sum, math.inf, -math.inf, math.inf),
        (Sum, -math.inf, math.inf, -math.inf),
        (Min, 1, 2, 1),
        (Min, 2, 1, 1),
        (Min, None, 1, 1),
        (Min, 1, None, 1),
        (Max, 1, 2, 2),
        (Max, "a", "B", "a"),
        (Max, None, b"", b""),
    ],
)
def test_combine(rule: Merge, old: Any, new: Any, merged: Any) -> None:
    """Each rule returns the documented value; `Sum`, `Min` and `Max` ignore None."""
    assert (merged, type(merged)) == (rule.combine(old, new), type(rule.combine(old, new)))


@pytest.mark.parametrize(("rule", "old", "new"), [(Min, 1, 1.0), (Max, 1, 1.0)])
def test_min_and_max_of_equal_values_of_two_types(
    raw: sqlite3.Connection, rule: Merge, old: Any, new: Any
) -> None:
    """Of 1 and 1.0, Python picks the one that SQLite picks in a column without a type."""
    for first, second in [(old, new), (new, old)]:
        [(expected,)] = raw.execute(f"SELECT {rule.value}(?, ?)", (first, second))

        assert type(expected) is type(rule.combine(first, second))


DYADIC = st.integers(-(2**20), 2**20).map(lambda n: n / 8)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**40), 2**40),
    float: DYADIC | st.sampled_from([math.inf, -math.inf]),
    str: st.text(max_size=3),
    bytes: st.binary(max_size=3),
}


@given(st.data())
def test_rules_are_associative(data: st.DataObject) -> None:
    """Rows may first merge in memory and then with the row in the table: the result is the same."""
    kind = data.draw(st.sampled_from([int, float, str, bytes]))
    rules = [Replace, Keep, Min, Max] + ([Sum] if kind in {int, float} else [])
    rule = data.draw(st.sampled_from(rules))
    a, b, c = (data.draw(st.none() | VALUES[kind]) for _ in range(3))

    left = rule.combine(rule.combine(a, b), c)

    assert left == rule.combine(a, rule.combine(b, c))


@given(st.data())
def test_any_two_values_merge_in_memory_as_in_the_table(data: st.DataObject) -> None:
    """The results in memory and in the table are the same for arbitrary values."""
    kind = data.draw(st.sampled_from([int, float, str, bytes]))
    rules = [Replace, Keep, Min, Max] + ([Sum] if kind in {int, float} else [])
    table = table_of(kind | None, data.draw(st.sampled_from(rules)))
    anything = {
        int: st.integers(-LARGEST - 1, LARGEST),
        float: st.floats(allow_nan=False),
        str: st.text(st.characters(exclude_categories=["Cs"])),
        bytes: st.binary(),
    }
    old, new = (data.draw(st.none() | anything[kind]) for _ in range(2))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as raw:
        expected = merge_in_table(raw, table, old, new)

    assert (expected,) == RowMerger(table).merge((1, old), (1, new))[1:]
