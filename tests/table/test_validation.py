"""Check values: which are valid, what they become, and the errors that the caller gets."""

from __future__ import annotations

import dataclasses
import enum
import math
import re
import tracemalloc
from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

import pytest

from forebay import Keep, Max, Min, Replace, Sum, Table
from forebay._table.validation import RowValidator

LARGEST = 2**63 - 1
EXPECTED = "expected str, int, float, bytes or None"


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
    """Return a table with a column for values of every type."""
    return Table.from_columns({"k": str, "v": Any}, name="t", **arguments)


def validated(table: Table[tuple[Any, ...]], *row: object) -> tuple[Any, ...]:
    """Return the values of one row after its validation."""
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
def test_a_value_becomes_a_plain_value(value: Any, plain: Any) -> None:
    """Enums, subclasses and mutable bytes become plain values; their overrides are not called."""
    [_, actual] = validated(any_table(), "k", value)

    assert (type(plain), plain) == (type(actual), actual)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1], TypeError, f"[1] of type list cannot be stored; {EXPECTED}"),
        (1j, TypeError, f"1j of type complex cannot be stored; {EXPECTED}"),
        (
            dataclasses,
            TypeError,
            f"{dataclasses!r} of type module cannot be stored; {EXPECTED}",
        ),
        (
            math.nan,
            ValueError,
            (
                "NaN cannot be stored; SQLite makes it NULL. Pass None, or declare the table with "
                "nan_as_null=True (in both cases the column must allow None)"
            ),
        ),
        (
            Fraction("nan"),
            ValueError,
            (
                "NaN cannot be stored; SQLite makes it NULL. Pass None, or declare the table with "
                "nan_as_null=True (in both cases the column must allow None)"
            ),
        ),
        (
            Number(LARGEST + 1),
            ValueError,
            (
                "9223372036854775808 does not fit into a 64-bit integer; "
                "store larger numbers as str or float"
            ),
        ),
    ],
)
def test_a_value_that_sqlite_cannot_store_is_refused(
    value: Any, error: type[Exception], message: str
) -> None:
    """The error names the table, the column and the value, and says what is valid."""
    table = any_table(key="k")
    message = f"table 't', column 'v': {message}"
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        RowValidator(table).validate_rows([("a", 1), ("k", value)])
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        RowValidator(table).validate_update({"v": value})


def test_none_is_refused_unless_the_annotation_allows_it() -> None:
    """The caller gets the error that a NOT NULL column would otherwise raise in the flush."""
    table = Table.from_columns({"k": str, "n": int, "v": str | None}, name="t")

    assert ("a", 1, None) == validated(table, "a", 1, None)
    message = "table 't', column 'n': expected int, got None; to allow None, declare"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        RowValidator(table).validate_rows([("a", None, None)])


STRICT = {"s": str, "i": int, "f": float, "b": bytes}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"merge": Keep, "key": "f"},
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
def test_a_column_allows_its_declared_type_only(
    arguments: dict[str, Any], column: str, value: object, expected: str
) -> None:
    """A value of another type is refused, whatever the column's role and rule are."""
    table = Table.from_columns(STRICT, name="t", **arguments)
    row = {"s": "a", "i": 1, "f": 1.0, "b": b"a", column: value}
    message = f"table 't', column '{column}': expected {expected}"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        RowValidator(table).validate_rows([tuple(row.values())])


_SAMPLES: dict[type, Any] = {str: "a", int: 1, float: 1.5, bytes: b"a", bool: True}


@pytest.mark.parametrize(
    ("annotation", "stored"),
    [
        (str, {str: "a"}),
        (int, {int: 1, bool: True}),
        (float, {int: 1.0, float: 1.5, bool: 1.0}),
        (bytes, {bytes: b"a"}),
        (bool, {bool: True}),
        (int | str, {str: "a", int: 1, bool: True}),
        (bool | str, {str: "a", bool: True}),
        (float | str, {str: "a", int: 1.0, float: 1.5, bool: 1.0}),
        (int | float, {int: 1.0, float: 1.5, bool: 1.0}),
        (int | float | bytes, {int: 1, float: 1.5, bytes: b"a", bool: True}),
        (Any, _SAMPLES),
        (object, _SAMPLES),
    ],
)
@pytest.mark.parametrize("nullable", [False, True])
def test_which_types_a_column_accepts(
    annotation: Any, stored: dict[type, Any], nullable: bool
) -> None:
    """Each plain type is accepted or refused, one by one and many at once, with other rows."""
    annotation = annotation | None if nullable else annotation
    validator = RowValidator(Table.from_columns({"c": annotation}, name="t"))
    for kind, value in _SAMPLES.items():
        if kind in stored:
            first, *others = [
                *validator.validate_row((value,)),
                *(row[0] for row in validator.validate_rows([(value,), (value,)])),
            ]
            assert {(type(stored[kind]), stored[kind])} == {(type(v), v) for v in (first, *others)}
            continue
        for check in (validator.validate_row, lambda row: validator.validate_rows([row])):
            with pytest.raises(TypeError, match="table 't', column 'c': expected "):
                check((value,))
    if nullable or annotation in (Any, object):
        assert (None,) == validator.validate_row((None,))
    else:
        with pytest.raises(TypeError, match="got None"):
            validator.validate_row((None,))


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (bool, "bool"),
        (bool | str | None, "str, bool or None"),
        (int | str, "str or int"),
        (int | float | None, "float or None"),
    ],
)
def test_the_error_names_all_types_that_the_column_accepts(annotation: Any, expected: str) -> None:
    """An int column accepts a bool, but the message names int alone."""
    message = f"table 't', column 'c': expected {expected}, got b'a' of type bytes"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        RowValidator(Table.from_columns({"c": annotation}, name="t")).validate_row((b"a",))


@pytest.mark.parametrize("rule", [Replace, Keep, Sum, Min, Max])
@pytest.mark.parametrize("value", [LARGEST + 1, -LARGEST - 2, 10**400])
def test_an_integer_beyond_64_bits_is_refused(rule: Any, value: int) -> None:
    """Python could add and compare such an integer, but SQLite cannot store it."""
    table = Table.from_columns(
        {"k": int, "n": int | None, "f": float}, name="t", key="k", merge=rule
    )

    assert (1, None, 2.0) == validated(table, 1, None, 2.0)
    for row in [(value, 1, 1.0), (1, value, 1.0), (1, 1, value)]:
        with pytest.raises(ValueError, match=r"does not fit into a 64-bit integer"):
            RowValidator(table).validate_rows([(0, 0, 0.0), row])


def test_an_int_in_a_float_key_becomes_a_float() -> None:
    """An int that no float equals is refused: another int would become the same float."""
    table = Table.from_columns({"k": float, "v": float | None}, name="t", key="k")
    validator = RowValidator(table)

    rows = validator.validate_rows([(2**53, 0), (-(2**63), LARGEST // 2 + 1), (True, None)])

    assert [(2.0**53, 0.0), (-(2.0**63), 2.0**62), (1.0, None)] == rows
    assert {float, type(None)} == {type(value) for row in rows for value in row}
    assert float is type(validator.validate_key(1))
    for row in [(2**53 + 1, 0.0), (0.0, LARGEST)]:
        with pytest.raises(ValueError, match="no float equals 9"):
            validator.validate_row(row)


@pytest.mark.parametrize("zero", [-0.0, Fraction(-0.0)])
def test_a_negative_zero_in_a_key_becomes_zero(zero: float) -> None:
    """It equals 0.0, so both are one key, which is stored in one form. Other columns keep it."""
    table = Table.from_columns({"a": float, "b": str, "v": float}, name="t", key=("b", "a"))
    validator = RowValidator(table)

    rows = [
        *validator.validate_rows([(zero, "x", -0.0), (1.0, "y", 2.0)]),
        validator.validate_row((zero, "x", -0.0)),
        validator.validate_row((zero, "x", -0.0)),
    ]

    zeros = "(0.0, 'x', -0.0)"
    assert [zeros, "(1.0, 'y', 2.0)", zeros, zeros] == [str(tuple(row)) for row in rows]
    assert "('x', 0.0)" == str(validator.validate_key(("x", zero)))
    single = RowValidator(Table.from_columns({"k": float}, name="t", key="k", delete_by="k"))
    assert "0.0" == str(single.validate_key(zero)) == str(single.validate_delete_by(zero))
    appended = RowValidator(Table.from_columns({"k": float}, name="t"))
    assert "-0.0" == str(appended.validate_row((-0.0,))[0])


def test_nan_as_null() -> None:
    """`nan_as_null` turns NaN into None in columns that allow None."""
    table = Table.from_columns(
        {"k": float, "n": float | None}, name="t", key="k", nan_as_null=True, delete_by="n"
    )

    assert (1.0, None) == validated(table, 1.0, math.nan)
    assert {"n": None} == RowValidator(table).validate_update({"n": math.nan})
    with pytest.raises(ValueError, match=r"column 'k': NaN cannot be stored"):
        RowValidator(table).validate_rows([(math.nan, 1.0)])
    with pytest.raises(TypeError, match=r"a delete by None matches no row"):
        RowValidator(table).validate_delete_by(math.nan)


class Hit(NamedTuple):
    url: str
    payload: bytes


class LongHit(Hit):
    """A subclass of a row type."""


@dataclasses.dataclass
class Open:
    url: str
    payload: Any


@dataclasses.dataclass
class Longer(Open):
    more: int = 0


HITS = Table(Hit, name="hits", key="url")
OPEN = Table(Open, name="open", key="url")


def test_later_changes_of_a_row_have_no_effect() -> None:
    """The validator copies the values: it keeps neither the row nor its mutable bytes."""
    payload = bytearray(b"a")
    row = Open("u", payload)

    rows = RowValidator(OPEN).validate_rows([row])
    row.url = "v"
    payload[:] = b"b"

    assert [("u", b"a")] == rows


def test_a_mutable_value_in_a_tuple_is_copied() -> None:
    """A NamedTuple is immutable, but a bytearray in it is not."""
    payload = bytearray(b"a")

    rows = RowValidator(HITS).validate_rows([Hit("u", payload)])  # type: ignore[arg-type]  # on purpose
    payload[:] = b"b"

    assert [("u", b"a")] == rows


@pytest.mark.parametrize(
    ("table", "row"), [(HITS, LongHit("u", b"a")), (OPEN, Longer("u", b"a", 1))]
)
def test_a_row_of_a_subclass_is_valid(table: Table[Any], row: Any) -> None:
    """Fields that the subclass adds are ignored."""
    assert [("u", b"a")] == RowValidator(table).validate_rows([row])


def test_an_exception_of_the_row_itself_reaches_the_caller() -> None:
    """A property of the caller's row may raise; the exception propagates unchanged."""

    class Lazy(Open):
        def __getattribute__(self, name: str) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        RowValidator(OPEN).validate_rows([Lazy("u", 1)])


@pytest.mark.parametrize(
    ("table", "row", "error", "message"),
    [
        (HITS, ("u", b"a"), TypeError, "table 'hits': expected a row of type Hit, got ('u', b'a')"),
        (HITS, None, TypeError, "table 'hits': expected a row of type Hit, got None"),
        (OPEN, Hit("u", b""), TypeError, "table 'open': expected a row of type Open, got Hit("),
        (any_table(), ["u", 1], TypeError, "table 't': expected a row of type tuple, got ['u', 1]"),
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
def test_an_invalid_row_is_refused(
    table: Table[Any], row: Any, error: type[Exception], message: str
) -> None:
    """The error names the table, the expected type and the value."""
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
def test_a_valid_key(table: Table[Any], key: Any, checked: Any) -> None:
    """A key is a value, or a tuple in the declared order if the key has several columns."""
    actual = RowValidator(table).validate_key(key)

    assert (checked, type(checked)) == (actual, type(actual))


@pytest.mark.parametrize(
    ("table", "key", "error", "message"),
    [
        (any_table(), "k", TypeError, "table 't' has no key: rows can only be appended"),
        (HITS, 5, TypeError, "table 'hits', column 'url': expected str, got 5 of type int"),
        (HITS, None, TypeError, "table 'hits', column 'url': expected str, got None"),
        (HITS, ("u",), TypeError, "table 'hits', column 'url': ('u',) of type"),
        (PAIRS, "x", ValueError, "table 'p': expected a key tuple (b, a), got 'x'"),
        (PAIRS, [1, "x"], ValueError, "table 'p': expected a key tuple (b, a), got [1, 'x']"),
        (PAIRS, (1,), ValueError, "table 'p': expected a key tuple (b, a), got (1,)"),
        (PAIRS, ("x", 1), TypeError, "table 'p', column 'b': expected int, got 'x' of type str"),
    ],
)
def test_an_invalid_key_is_refused(
    table: Table[Any], key: Any, error: type[Exception], message: str
) -> None:
    """The error names the table, the key's columns and the value."""
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        RowValidator(table).validate_key(key)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "table 'p': an update must name columns outside the key (n), got none"),
        ({"x": 1, "n": 2}, "table 'p': an update must name columns outside the key (n), got 'x'"),
        ({"a": "x"}, "table 'p': an update must name columns outside the key (n), got 'a'"),
    ],
)
def test_an_update_of_a_key_column_or_an_unknown_column_is_refused(
    columns: Mapping[str, object], message: str
) -> None:
    """The error names the columns that can be updated, and those that cannot."""
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        RowValidator(PAIRS).validate_update(columns)


def test_delete_by_allows_values_of_the_columns_type_only() -> None:
    """A value of another type, or None, would match no row and is refused."""
    table = Table.from_columns({"k": str, "n": int | None}, name="t", key="k", delete_by="n")

    assert 1 == RowValidator(table).validate_delete_by(Level.LOW)
    for value, message in [
        ("1", "table 't', column 'n': expected int or None, got '1' of type str"),
        (
            None,
            (
                "table 't': a delete by None matches no row, since NULLs are never equal in SQL; "
                "store another value in the rows to delete"
            ),
        ),
    ]:
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            RowValidator(table).validate_delete_by(value)


def test_delete_by_needs_a_declared_column() -> None:
    """The error names the table and the argument that declares the column."""
    with pytest.raises(TypeError, match=r"^table 't' has no delete_by column; declare one with"):
        RowValidator(any_table(key="k", merge=Keep)).validate_delete_by(1)


def test_tuples_of_plain_values_are_not_copied() -> None:
    """Rows that need no conversion are returned themselves."""
    rows = [Hit("a", b"1"), Hit("b", b"2")]

    assert rows is RowValidator(HITS).validate_rows(rows)


class Reading(NamedTuple):
    sensor: str
    count: int | None  # type: ignore[assignment]  # a column may have the name of a method of tuple
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
def test_validate_row_checks_like_validate_rows(bad: Reading, error: type[Exception]) -> None:
    """An invalid row is refused even if rows of the same types were valid before."""
    good = [Reading("a", 1), Reading("b", None, 2.5), Reading("c", LARGEST)]
    for row in (*good, *good):
        assert row == RowValidator(READINGS).validate_row(row)
    with pytest.raises(error, match="table 'readings'"):
        RowValidator(READINGS).validate_row(bad)


def test_validate_row_converts_to_plain_values() -> None:
    """Every row is converted, also after rows of the same types; a row may be any object."""

    @dataclasses.dataclass
    class Lamp:
        name: str
        colour: Any

    lamps = Table(Lamp, name="lamps", key="name")
    for colour in (Colour.RED, "red", Colour.RED, Text("red")):
        [_, plain] = RowValidator(lamps).validate_row(Lamp("a", colour))
        assert (str, "red") == (type(plain), plain)


def test_a_validator_keeps_nothing_of_the_rows() -> None:
    """Its memory stays the same, however many combinations of types the rows have."""
    table = Table.from_columns({f"c{i}": Any for i in range(8)}, name="t")
    validator = RowValidator(table)
    rows = list(product((None, 1, 1.5, "a", b"a"), repeat=8))[:50_000]
    tracemalloc.start()
    try:
        for row in rows:
            validator.validate_row(row)
        validator.validate_rows(rows)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000
