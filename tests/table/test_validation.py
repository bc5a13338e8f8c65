"""What callers hand in: what is taken, as what, and what is refused to the caller alone."""

from __future__ import annotations

import dataclasses
import enum
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from forebay import Keep, Max, Min, Sum, Table
from forebay._table.validation import RowValidator

LARGEST = 2**63 - 1


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not this"


class Number(int):
    def __int__(self) -> int:
        return -1


class Fraction(float):
    def __float__(self) -> float:
        return -1.0


class Blob(bytes):
    pass


def any_table(**arguments: Any) -> Table[tuple[Any, ...]]:
    """A table that stores whatever SQLite takes."""
    return Table.from_columns({"k": str, "v": Any}, name="t", **arguments)


def taken(table: Table[tuple[Any, ...]], *row: object) -> tuple[Any, ...]:
    """The one row as the table takes it."""
    [values] = RowValidator(table).validate_rows([row])
    return tuple(values)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        ("a", "a"),
        ("", ""),
        ("a\0b", "a\0b"),
        (1, 1),
        (LARGEST, LARGEST),
        (-LARGEST - 1, -LARGEST - 1),
        (True, True),
        (1.5, 1.5),
        (math.inf, math.inf),
        (b"a", b"a"),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Text("a"), "a"),
        (Number(3), 3),
        (Fraction(3.5), 3.5),
        (Blob(b"a"), b"a"),
        (bytearray(b"a"), b"a"),
        (memoryview(b"a"), b"a"),
    ],
)
def test_a_value_is_taken_as_the_plain_type_that_sqlite_stores(value: Any, plain: Any) -> None:
    """Enums, subclasses and mutable bytes become plain values; what they override is not asked."""
    [_, actual] = taken(any_table(), "k", value)

    assert (type(plain), plain) == (type(actual), actual)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1], TypeError, "SQLite cannot take [1] of type list; expected a value or None"),
        (1j, TypeError, "SQLite cannot take 1j of type complex; expected a value or None"),
        (
            dataclasses,
            TypeError,
            f"SQLite cannot take {dataclasses!r} of type module; expected a value or None",
        ),
        (
            math.nan,
            ValueError,
            (
                "SQLite would store NaN as NULL; pass None where the column allows it, which "
                "nan_as_null=True in the table's declaration does by itself"
            ),
        ),
        (
            Fraction("nan"),
            ValueError,
            (
                "SQLite would store NaN as NULL; pass None where the column allows it, which "
                "nan_as_null=True in the table's declaration does by itself"
            ),
        ),
        (
            Number(LARGEST + 1),
            ValueError,
            "SQLite holds integers of 64 bits, which 9223372036854775808 is past",
        ),
    ],
)
def test_a_value_that_sqlite_cannot_hold_is_refused(
    value: Any, error: type[Exception], message: str
) -> None:
    """The error names table, column, value and what was expected."""
    table = any_table(key="k")
    message = f"table 't', column 'v': {message}"
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        RowValidator(table).validate_rows([("a", 1), ("k", value)])
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        RowValidator(table).validate_update({"v": value})


def test_none_is_refused_where_the_annotation_does_not_allow_it() -> None:
    """A row that a NOT NULL column would refuse is refused to the one who hands it in."""
    table = Table.from_columns({"k": str, "n": int, "v": str | None}, name="t")

    assert ("a", 1, None) == taken(table, "a", 1, None)
    message = "table 't', column 'n': expected int, got None; where that is meant, declare"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        RowValidator(table).validate_rows([("a", None, None)])


STRICT = {"s": str, "i": int, "f": float, "b": bytes}


@pytest.mark.parametrize(
    "arguments",
    [
        {"key": ("s", "i", "f", "b")},
        {"key": "s", "merge": {"i": Sum, "f": Sum, "b": Min}},
        {"key": "f", "merge": {"s": Max, "b": Max, "i": Min}},
        {"key": "i", "merge": {"f": Max, "s": Max, "b": Max}},
        {"key": "b", "merge": {"f": Max, "s": Max, "i": Max}},
    ],
)
@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("s", 1, "str, got 1 of type int"),
        ("s", b"a", "str, got b'a' of type bytes"),
        ("i", 1.0, "int, got 1.0 of type float"),
        ("i", "1", "int, got '1' of type str"),
        ("f", "1", "float, got '1' of type str"),
        ("b", "a", "bytes, got 'a' of type str"),
    ],
)
def test_a_column_that_is_compared_or_added_takes_its_one_type(
    arguments: dict[str, Any], column: str, value: object, expected: str
) -> None:
    """In keys and under `Sum`, `Min` and `Max` a value of another type is refused."""
    table = Table.from_columns(STRICT, name="t", **arguments)
    row = {"s": "a", "i": 1, "f": 1.0, "b": b"a", column: value}
    message = f"table 't', column '{column}': expected {expected}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        RowValidator(table).validate_rows([tuple(row.values())])


@pytest.mark.parametrize("rule", [Sum, Min, Max])
@pytest.mark.parametrize("value", [LARGEST + 1, -LARGEST - 2, 10**400])
def test_an_integer_past_64_bits_is_refused_where_python_would_compute_with_it(
    rule: Any, value: int
) -> None:
    """In memory it would add up and compare, but SQLite never could have held it."""
    table = Table.from_columns(
        {"k": int, "n": int | None, "f": float}, name="t", key="k", merge=rule
    )

    assert (1, None, 2.0) == taken(table, 1, None, 2.0)
    for row in [(value, 1, 1.0), (1, value, 1.0), (1, 1, value)]:
        with pytest.raises(ValueError, match=r"SQLite holds integers of 64 bits"):
            RowValidator(table).validate_rows([(0, 0, 0.0), row])


def test_an_int_in_a_float_key_becomes_a_float() -> None:
    """Two ints past 53 bits may be one REAL in the table, so they are one key in memory."""
    table = Table.from_columns({"k": float}, name="t", key="k")

    rows = RowValidator(table).validate_rows([(2**53,), (2**53 + 1,), (True,)])

    assert [(2.0**53,), (2.0**53,), (1.0,)] == rows
    assert {float} == {type(value) for [value] in rows}
    assert float is type(RowValidator(table).validate_key(1))


def test_nan_is_taken_as_none_where_the_table_says_so() -> None:
    """`nan_as_null` turns NaN into None, in columns that allow None."""
    table = Table.from_columns(
        {"k": float, "n": float | None}, name="t", key="k", nan_as_null=True, delete_by="n"
    )

    assert (1.0, None) == taken(table, 1.0, math.nan)
    assert {"n": None} == RowValidator(table).validate_update({"n": math.nan})
    with pytest.raises(ValueError, match=r"column 'k': SQLite would store NaN as NULL"):
        RowValidator(table).validate_rows([(math.nan, 1.0)])
    with pytest.raises(TypeError, match=r"delete by None matches nothing"):
        RowValidator(table).validate_delete_by(math.nan)


class Hit(NamedTuple):
    url: str
    payload: bytes


class LongHit(Hit):
    """A row of a subclass."""


@dataclasses.dataclass
class Open:
    url: str
    payload: Any


@dataclasses.dataclass
class Longer(Open):
    more: int = 0


HITS = Table(Hit, name="hits", key="url")
OPEN = Table(Open, name="open", key="url")


def test_what_happens_to_a_row_later_does_not_reach_the_buffer() -> None:
    """Values are taken as they are: neither the object nor its bytes are kept."""
    payload = bytearray(b"a")
    row = Open("u", payload)

    rows = RowValidator(OPEN).validate_rows([row])
    row.url = "v"
    payload[:] = b"b"

    assert [("u", b"a")] == rows


def test_a_mutable_value_in_a_tuple_is_copied_too() -> None:
    """A NamedTuple cannot change, but a bytearray in it can."""
    payload = bytearray(b"a")

    rows = RowValidator(HITS).validate_rows([Hit("u", payload)])  # type: ignore[arg-type]  # on purpose
    payload[:] = b"b"

    assert [("u", b"a")] == rows


@pytest.mark.parametrize(
    ("table", "row"), [(HITS, LongHit("u", b"a")), (OPEN, Longer("u", b"a", 1))]
)
def test_a_row_of_a_subclass_gives_the_columns_of_the_table(table: Table[Any], row: Any) -> None:
    """What a subclass adds is left out."""
    assert [("u", b"a")] == RowValidator(table).validate_rows([row])


def test_what_a_row_raises_reaches_the_caller() -> None:
    """A property that raises is the caller's affair, and so it is the caller's error."""

    class Lazy(Open):
        def __getattribute__(self, name: str) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        RowValidator(OPEN).validate_rows([Lazy("u", 1)])


@pytest.mark.parametrize(
    ("table", "row", "error", "message"),
    [
        (HITS, ("u", b"a"), TypeError, "table 'hits' takes rows of Hit, not ('u', b'a')"),
        (HITS, None, TypeError, "table 'hits' takes rows of Hit, not None"),
        (OPEN, Hit("u", b""), TypeError, "table 'open' takes rows of Open, not Hit("),
        (any_table(), ["u", 1], TypeError, "table 't' takes rows of tuple, not ['u', 1]"),
        (
            any_table(),
            ("u", 1, 2),
            ValueError,
            "table 't' has 2 columns, but this row has 3 values: ('u', 1, 2)",
        ),
        (
            any_table(),
            ("u",),
            ValueError,
            "table 't' has 2 columns, but this row has 1 values: ('u',)",
        ),
    ],
)
def test_what_is_no_row_of_the_table_is_refused(
    table: Table[Any], row: Any, error: type[Exception], message: str
) -> None:
    """The error names the table, what it takes and what it got."""
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        RowValidator(table).validate_rows([row])


PAIRS = Table.from_columns({"a": str, "n": int, "b": int}, name="p", key=("b", "a"))


@pytest.mark.parametrize(
    ("table", "key", "checked"),
    [
        (HITS, "u", "u"),
        (HITS, Colour.RED, "red"),
        (PAIRS, (1, "x"), (1, "x")),
        (PAIRS, (Level.LOW, Colour.RED), (1, "red")),
    ],
)
def test_a_key_is_taken_as_the_buffer_compares_it(
    table: Table[Any], key: Any, checked: Any
) -> None:
    """A value for one key column, a tuple in the declared order for several."""
    actual = RowValidator(table).validate_key(key)

    assert (checked, type(checked)) == (actual, type(actual))


@pytest.mark.parametrize(
    ("table", "key", "error", "message"),
    [
        (any_table(), "k", TypeError, "table 't' has no key: its rows can only be appended"),
        (HITS, 5, TypeError, "table 'hits', column 'url': expected str, got 5 of type int"),
        (HITS, None, TypeError, "table 'hits', column 'url': expected str, got None"),
        (HITS, ("u",), TypeError, "table 'hits', column 'url': SQLite cannot take ('u',) of type"),
        (PAIRS, "x", ValueError, "table 'p': the key is a tuple (b, a), not 'x'"),
        (PAIRS, [1, "x"], ValueError, "table 'p': the key is a tuple (b, a), not [1, 'x']"),
        (PAIRS, (1,), ValueError, "table 'p': the key is a tuple (b, a), not (1,)"),
        (PAIRS, ("x", 1), TypeError, "table 'p', column 'b': expected int, got 'x' of type str"),
    ],
)
def test_what_is_no_key_of_the_table_is_refused(
    table: Table[Any], key: Any, error: type[Exception], message: str
) -> None:
    """The error names the table, the key's columns and what it got."""
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        RowValidator(table).validate_key(key)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "table 'p': an update names columns outside the key (n), not none"),
        ({"x": 1, "n": 2}, "table 'p': an update names columns outside the key (n), not 'x'"),
        ({"a": "x"}, "table 'p': an update names columns outside the key (n), not 'a'"),
    ],
)
def test_an_update_of_what_is_no_column_outside_the_key_is_refused(
    columns: Mapping[str, object], message: str
) -> None:
    """The error names the columns that can be set, and those that cannot."""
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        RowValidator(PAIRS).validate_update(columns)


def test_a_delete_by_a_column_takes_its_one_type() -> None:
    """The value is taken as SQLite compares it; what could match nothing is refused."""
    table = Table.from_columns({"k": str, "n": int | None}, name="t", key="k", delete_by="n")

    assert 1 == RowValidator(table).validate_delete_by(Level.LOW)
    for value, message in [
        ("1", "table 't', column 'n': expected int or None, got '1' of type str"),
        (
            None,
            (
                "table 't': delete by None matches nothing, as NULLs are never equal in SQL; set "
                "the column to a value that can be looked for"
            ),
        ),
    ]:
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            RowValidator(table).validate_delete_by(value)


def test_a_delete_by_needs_a_declared_column() -> None:
    """A table without `delete_by` says so."""
    with pytest.raises(TypeError, match=r"^table 't' declares no delete_by column$"):
        RowValidator(any_table(key="k", merge=Keep)).validate_delete_by(1)


def test_plain_rows_are_handed_on_as_they_are() -> None:
    """Rows that are tuples of plain values already cost no copy."""
    rows = [Hit("a", b"1"), Hit("b", b"2")]

    assert rows is RowValidator(HITS).validate_rows(rows)


class Reading(NamedTuple):
    sensor: str
    count: int | None  # type: ignore[assignment]  # a column may well be called as a method of tuples
    level: float = 0.0


READINGS = Table(Reading, name="readings", key="sensor", merge={"count": Sum})


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (Reading("a", 2**63), ValueError),
        (Reading("a", 1, math.nan), ValueError),
        (Reading("a", 1.5), TypeError),  # type: ignore[arg-type]
        (Reading(None, 1), TypeError),  # type: ignore[arg-type]
        (tuple.__new__(Reading, ("a", 1)), ValueError),
    ],
)
def test_one_row_is_checked_as_many_are(bad: Reading, error: type[Exception]) -> None:
    """That rows of the same types passed before says nothing of a value, or of other types."""
    good = [Reading("a", 1), Reading("b", None, 2.5), Reading("c", LARGEST)]
    for row in (*good, *good):
        assert row == RowValidator(READINGS).validate_row(row)
    with pytest.raises(error, match="table 'readings'"):
        RowValidator(READINGS).validate_row(bad)


def test_one_row_is_taken_as_plain_values() -> None:
    """What is no plain value becomes one, each time, and so does a row that is an object."""

    @dataclasses.dataclass
    class Lamp:
        name: str
        colour: Any

    lamps = Table(Lamp, name="lamps", key="name")
    for colour in (Colour.RED, "red", Colour.RED, Text("red")):
        [_, plain] = RowValidator(lamps).validate_row(Lamp("a", colour))
        assert (str, "red") == (type(plain), plain)
