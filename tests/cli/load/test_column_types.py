"""Which texts are numbers, and which type a column has for them."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.cli._load.column_types import (
    ColumnType,
    DetectedType,
    Number,
    TypeDetector,
    equal_number,
    exact_number,
    reads_as_number,
)
from tests.cli.load.ways import WAYS

TEXTS = st.text(alphabet="0123456789+-.eE_ \tx", max_size=24) | st.floats().map(repr)


def stored(value: object, declared: str) -> Any:
    """Return the value that SQLite stores in a column with this declaration."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE t (c {declared})")
        connection.execute("INSERT INTO t VALUES (?)", (value,))
        [(result,)] = connection.execute("SELECT c FROM t")
    return result


def detected(*texts: str) -> DetectedType:
    detector = TypeDetector()
    for text in texts:
        detector.add(exact_number(text))
    return detector.detected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("12", 12),
        ("-3", -3),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("0.5", 0.5),
        ("1.0", 1.0),
        ("-73.985", -73.985),
        ("0.30000000000000004", 0.1 + 0.2),
        ("1.5e-07", 1.5e-07),
        ("0.00000015", 1.5e-07),
        ("1e-05", 1e-05),
        ("1e+16", 1e16),
        ("10000000000000000.0", 1e16),
        ("1.7976931348623157e+308", 1.7976931348623157e308),
        (f"0.{'0' * 323}5", 5e-324),
    ],
)
def test_a_text_that_is_a_number(text: str, number: float) -> None:
    """64-bit integers and floats, in each way in which programs write them."""
    exact = exact_number(text)
    assert exact is not None
    assert (number, type(number)) == (exact.value, type(exact.value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "007",
        "-0",
        "-0.0",
        "+5",
        " 5",
        "5 ",
        "1_000",
        "1,5",
        "0x10",
        "\u0663",
        "1e5",
        "12E4",
        "1e-5",
        "1.5E-07",
        "5.",
        ".5",
        "0.50",
        "12.50",
        "1.10",
        "00.5",
        "nan",
        "inf",
        "-inf",
        "9223372036854775808",
        "100000000000000000000",
        "0.1234567890123456789",
        "1.5e+999",
        "1e-999",
        ".01000000011E-301",
        "9" * 5000,
    ],
)
def test_a_text_that_is_not_a_number(text: str) -> None:
    """No number is written as this text."""
    assert exact_number(text) is None


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_integer_of_sqlite_is_a_number(integer: int) -> None:
    """It is stored unchanged."""
    number = exact_number(str(integer))
    assert number is not None
    assert (integer, integer) == (number.value, stored(number.value, "INTEGER"))


@pytest.mark.parametrize("way", WAYS)
@given(number=st.floats(allow_nan=False, allow_infinity=False))
@example(number=1.5)
@example(number=9.5046e-304)  # SQLite 3.40.1 reads this decimal as another float than Python
def test_every_number_comes_back_as_its_text(way: str, number: float) -> None:
    """A float that is read from its text and stored by SQLite is written as the same text."""
    text = WAYS[way](number)
    exact = exact_number(text)
    if exact is None or isinstance(exact.value, int):
        integer = text.lstrip("-").isdigit()
        assert integer or text in ("-0.0", "-0"), "every float has a text that is a number"
        return
    assert text == WAYS[way](stored(exact.value, "REAL"))


@given(TEXTS)
@example(".01000000011E-301")
@example("1.10")
def test_a_text_that_is_a_number_comes_back_in_some_way(text: str) -> None:
    """If a text is a number, one of the ways to write the stored number gives the text."""
    exact = exact_number(text)
    if exact is not None and isinstance(exact.value, int):
        assert text == str(stored(exact.value, "INTEGER"))
    elif exact is not None:
        value = stored(exact.value, "REAL")
        assert isinstance(value, float)
        assert text in [write(value) for write in WAYS.values()]


@given(TEXTS)
@example("5\x0b")
@example("0x10")
@example("1e")
def test_the_texts_that_sqlite_converts_are_known(text: str) -> None:
    """All other texts are stored unchanged in a column of numbers."""
    converted = [not isinstance(stored(text, kind), str) for kind in ("INTEGER", "REAL", "NUMERIC")]
    assert [reads_as_number(text)] * 3 == converted


@given(TEXTS)
@example("1e5")
@example(".50")
def test_a_declared_number_is_equal_to_its_text(text: str) -> None:
    """In a declared column the number counts, not how it is written."""
    number = equal_number(text)
    if number is not None:
        assert Decimal(repr(number)) == Decimal(text)
        assert number == stored(number, "NUMERIC")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], ColumnType.TEXT),
        (["1", "2"], ColumnType.INTEGER),
        (["1", "0.5"], ColumnType.REAL),
        (["0.5"], ColumnType.REAL),
        (["1.0", "2.5"], ColumnType.REAL),
        (["1e-05", "1e+16", "2.0"], ColumnType.REAL),
        (["0.00001", "2"], ColumnType.REAL),
        (["1", "x"], ColumnType.TEXT),
        (["x"], ColumnType.TEXT),
        (["1", "1.0", "2"], ColumnType.TEXT),
        (["2", "1.0"], ColumnType.TEXT),
        (["1e-05", "0.00001"], ColumnType.TEXT),
        (["1e-05", "0.00002"], ColumnType.TEXT),
        (["1.1", "1.10"], ColumnType.TEXT),
        ([str(2**53), "0.5"], ColumnType.REAL),
        ([str(2**53 + 1), "0.5"], ColumnType.TEXT),
        ([str(2**53 + 1)], ColumnType.INTEGER),
    ],
)
def test_a_column_has_a_type_that_gives_back_its_texts(
    texts: list[str], expected: ColumnType
) -> None:
    """INTEGER for integers, REAL for numbers that are written in one way, otherwise TEXT."""
    for seed in range(5):
        random.Random(seed).shuffle(texts)
        assert expected is detected(*texts).type


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_different_texts_of_a_column_are_different_numbers(numbers: list[float]) -> None:
    """No two texts of a REAL column are one number, however they are written."""
    texts = {write(number) for number in numbers for write in WAYS.values()}
    if detected(*texts).type is ColumnType.REAL:
        values = {float(text) for text in texts}
        assert len(texts) == len(values)


def test_equal_numbers_do_not_hide_each_other() -> None:
    """1 and 1.0 are equal to Python; both count, in any order."""
    for values in ((1, 1.0), (1.0, 1)):
        detector = TypeDetector()
        for value in values:
            detector.add(Number(value, 0b1111))
        assert ColumnType.REAL is detector.detected.type
