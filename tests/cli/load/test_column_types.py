"""Which texts are numbers, and which type a column has for them."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.cli._load.column_types import Kind, kind_of, number_of, reads_as_number

TEXTS = st.text(alphabet="0123456789+-.eE_ \tx", max_size=24) | st.floats().map(repr)


def stored(text: str, declared: str) -> object:
    """Return the value that SQLite stores for a text in a column with this declaration."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE t (c {declared})")
        connection.execute("INSERT INTO t VALUES (?)", (text,))
        [(value,)] = connection.execute("SELECT c FROM t")
    return value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("12", 12),
        ("-3", -3),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("0.5", 0.5),
        ("12.50", 12.5),
        (".5", 0.5),
        ("-73.985", -73.985),
        ("0.30000000000000004", 0.1 + 0.2),
        ("1.5e-07", 1.5e-07),
        ("1e-05", 1e-05),
        ("1e+16", 1e16),
    ],
)
def test_a_text_that_is_a_number(text: str, number: float) -> None:
    """64-bit integers, and decimals that a float holds exactly."""
    assert (number, type(number)) == (number_of(text), type(number_of(text)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "007",
        "-0",
        "+5",
        " 5",
        "5 ",
        "1_000",
        "1,5",
        "0x10",
        "\u0663",
        "1e5",
        "12E4",
        "5.",
        "00.5",
        "nan",
        "inf",
        "-inf",
        "9223372036854775808",
        "100000000000000000000",
        "0.1234567890123456789",
        "1.5e999",
        "1e-999",
        "9" * 5000,
    ],
)
def test_a_text_that_is_not_a_number(text: str) -> None:
    """A number would not be printed as this text."""
    assert number_of(text) is None


@given(TEXTS)
@example("5\x0b")
@example("0x10")
@example("1e")
def test_the_texts_that_sqlite_converts_are_known(text: str) -> None:
    """All other texts are stored unchanged in a column of numbers."""
    converted = [not isinstance(stored(text, kind), str) for kind in ("INTEGER", "REAL", "NUMERIC")]
    assert [reads_as_number(text)] * 3 == converted


@given(TEXTS)
def test_every_number_is_the_one_that_sqlite_makes(text: str) -> None:
    """A text that becomes a number here would become the same one in SQLite."""
    number = number_of(text)
    if number is not None:
        assert (number, number) == (stored(text, "INTEGER"), stored(text, "NUMERIC"))


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([], Kind.TEXT),
        ([1, 2], Kind.INTEGER),
        ([1, 0.5], Kind.REAL),
        ([0.5], Kind.REAL),
        ([1, None], Kind.TEXT),
        ([None], Kind.TEXT),
        ([2**53, 0.5], Kind.REAL),
        ([2**53 + 1, 0.5], Kind.TEXT),
        ([2**53 + 1], Kind.INTEGER),
    ],
)
def test_a_column_has_the_narrowest_type_for_its_values(
    numbers: list[int | float | None], kind: Kind
) -> None:
    """INTEGER for integers, REAL for numbers that are all floats, otherwise TEXT."""
    assert kind is kind_of(numbers)
