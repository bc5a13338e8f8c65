"""Rows that were read become rows of a table, or misfits."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.cli._errors import InputError
from forebay.cli._load import convert
from forebay.cli._load.column_types import JsonType, Kind, reads_as_number
from forebay.cli._load.convert import Converter, MisfitError, TargetColumn

INTEGER, REAL, TEXT = Kind.INTEGER, Kind.REAL, Kind.TEXT


def converted(
    kind: Kind,
    value: Any,
    *,
    in_key: bool = False,
    nulls: tuple[str, ...] = (),
    declared: bool = False,
    json: JsonType | None = None,
) -> Any:
    """The value of a column, from a cell of text or, in a list of one, from JSON."""
    column = TargetColumn("c", kind, in_key, "as told", declared=declared, json=json)
    converter = Converter([column], nulls)
    if isinstance(value, list):
        (result,) = converter.bind("it", None)({"c": value[0]})
    else:
        (result,) = converter.bind("it", ["c"])([value])
    return result


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        (INTEGER, "12", 12),
        (INTEGER, "2.5", 2.5),
        (INTEGER, "", None),
        (INTEGER, "n/a", "n/a"),
        (INTEGER, "0x10", "0x10"),
        (REAL, "12", 12.0),
        (REAL, "2.50", 2.5),
        (REAL, "", None),
        (REAL, "nan", "nan"),
        (TEXT, "12", "12"),
        (TEXT, "007", "007"),
        (TEXT, "", ""),
    ],
)
def test_a_cell_becomes_what_its_column_holds(kind: Kind, cell: str, value: Any) -> None:
    """Numbers where they say the same, NULL for an empty cell of numbers, else the text."""
    result = converted(kind, cell)
    assert (value, type(value)) == (result, type(result))


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        (INTEGER, 12, 12),
        (INTEGER, True, 1),
        (INTEGER, 2.5, 2.5),
        (INTEGER, None, None),
        (INTEGER, "n/a", "n/a"),
        (INTEGER, [1], "[1]"),
        (REAL, 12, 12.0),
        (REAL, False, 0.0),
        (TEXT, "12", "12"),
        (TEXT, 12, "12"),
        (TEXT, 2**70, str(2**70)),
        (TEXT, 0.1, "0.1"),
        (TEXT, {"a": ["é"]}, '{"a": ["é"]}'),
    ],
)
def test_a_json_value_becomes_what_its_column_holds(kind: Kind, value: Any, result: Any) -> None:
    """Numbers are kept, truth is 1 or 0, nested values are JSON text."""
    actual = converted(kind, [value])
    assert (result, type(result)) == (actual, type(actual))


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("value", ["NA", ["NA"], "-", ["-"]])
def test_a_text_for_null_is_null_in_any_column(kind: Kind, value: Any) -> None:
    """--null holds for texts and JSON texts, whatever the column holds."""
    assert converted(kind, value, nulls=("NA", "-")) is None


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (INTEGER, "007", "'007' in column 'c', where SQLite would change it; expected an integer"),
        (INTEGER, " 5", "' 5' in column 'c', where SQLite would change it"),
        (INTEGER, "9223372036854775808", "'9223372036854775808' in column 'c', where SQLite would"),
        (INTEGER, [2**63], "9223372036854775808 in column 'c', too large for it"),
        (INTEGER, ["007"], "'007' in column 'c', where SQLite would change it"),
        (REAL, "1e5", "'1e5' in column 'c', where SQLite would change it; expected a number"),
        (REAL, "9007199254740993", "9007199254740993 in column 'c', too large for it"),
        (REAL, [2**53 + 1], "9007199254740993 in column 'c', too large for it"),
    ],
)
def test_a_value_that_sqlite_would_change_is_a_misfit(kind: Kind, value: Any, problem: str) -> None:
    """Nothing is stored as another value than it was."""
    with pytest.raises(MisfitError) as caught:
        converted(kind, value)
    assert str(caught.value).startswith(problem)
    assert str(caught.value).endswith(", as told")


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (INTEGER, "x", "'x' in key column 'c'; expected an integer, as told"),
        (INTEGER, "2.5", "2.5 in key column 'c'; expected an integer, as told"),
        (INTEGER, "", "nothing in key column 'c'; expected an integer, as told"),
        (INTEGER, "NA", "nothing in key column 'c'; expected an integer, as told"),
        (REAL, "x", "'x' in key column 'c'; expected a number, as told"),
        (TEXT, "NA", "nothing in key column 'c'; expected a text, as told"),
        (TEXT, [None], "nothing in key column 'c'; expected a text, as told"),
        (TEXT, ["x" * 99], None),
        (INTEGER, ["x" * 99], f"'{'x' * 59}... in key column 'c'; expected an integer, as told"),
    ],
)
def test_a_key_column_holds_one_type(kind: Kind, value: Any, problem: str | None) -> None:
    """A key that is missing or of another type is a misfit: rows could not be told apart by it."""
    if problem is None:
        assert "x" * 99 == converted(kind, value, in_key=True, nulls=("NA",))
        return
    with pytest.raises(MisfitError) as caught:
        converted(kind, value, in_key=True, nulls=("NA",))
    assert problem == str(caught.value)


@pytest.mark.parametrize(
    ("kind", "json", "value"),
    [
        (TEXT, JsonType.TEXT, True),
        (TEXT, JsonType.TEXT, 1),
        (TEXT, JsonType.TEXT, [1]),
        (TEXT, JsonType.NUMBER, "1"),
        (TEXT, JsonType.NESTED, "[1]"),
        (INTEGER, JsonType.NUMBER, True),
        (INTEGER, JsonType.BOOLEAN, 1),
    ],
)
def test_keys_of_two_json_types_do_not_meet(kind: Kind, json: JsonType, value: Any) -> None:
    """They would be one key in the table, so that one row would take the place of another."""
    with pytest.raises(MisfitError, match="in key column 'c', where keys of two types meet; expec"):
        converted(kind, [value], in_key=True, json=json)


@pytest.mark.parametrize(
    ("kind", "json", "value", "expected"),
    [
        (TEXT, JsonType.TEXT, "1", "1"),
        (TEXT, JsonType.NUMBER, 1, "1"),
        (INTEGER, JsonType.NUMBER, 1, 1),
        (INTEGER, JsonType.BOOLEAN, True, 1),
        (TEXT, JsonType.NESTED, [1], "[1]"),
    ],
)
def test_keys_of_one_json_type_are_taken(
    kind: Kind, json: JsonType, value: Any, expected: Any
) -> None:
    """Whichever it is."""
    assert expected == converted(kind, [value], in_key=True, json=json)


@pytest.mark.parametrize("kind", [INTEGER, REAL])
@pytest.mark.parametrize(
    ("text", "expected"),
    [("1e3", 1000.0), ("-2.5E3", -2500.0), ("1e+3", 1000.0), ("1.0", 1.0), ("5e-1", 0.5)],
)
def test_a_declared_number_may_be_written_with_an_exponent(
    kind: Kind, text: str, expected: float
) -> None:
    """As `1.0` may: the table says that it is a number, and nobody's name."""
    assert expected == converted(kind, text, declared=True)


@pytest.mark.parametrize(
    "text", ["007e3", "1e999", "+1e3", "1e", "123456789012345678901e1", "1e-999"]
)
def test_what_is_no_number_exactly_stays_refused(text: str) -> None:
    """Declared or not."""
    if reads_as_number(text):
        with pytest.raises(MisfitError):
            converted(REAL, text, declared=True)
    else:
        assert text == converted(REAL, text, declared=True)


def test_columns_are_matched_by_name() -> None:
    """Another input may have the columns in another order."""
    converter = Converter(
        [TargetColumn("a", INTEGER, False, ""), TargetColumn("b", TEXT, False, "")], ()
    )
    assert [(1, "x"), (1, "x"), (1, None), (None, None)] == [
        converter.bind("it", ("a", "b"))(["1", "x"]),
        converter.bind("it", ("b", "a"))(["x", "1"]),
        converter.bind("it", None)({"a": 1, "c": None}),
        converter.bind("it", None)({}),
    ]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (("a",), "it, line 1: no column 'b'; expected those of the first input: a, b"),
        (("a", "b", "c"), "it, line 1: a column 'c'; expected those of the first input: a, b"),
    ],
)
def test_an_input_with_other_columns_is_refused(header: tuple[str, ...], problem: str) -> None:
    """Columns are not made up, and not dropped."""
    converter = Converter(
        [TargetColumn("a", TEXT, False, ""), TargetColumn("b", TEXT, False, "")], ()
    )
    with pytest.raises(InputError) as caught:
        converter.bind("it", header)
    assert problem == str(caught.value)


def test_a_key_that_no_column_has_is_a_misfit() -> None:
    """A value of a later object is not dropped for want of a column."""
    convert = Converter([TargetColumn("a", TEXT, False, "")], ()).bind("it", None)
    with pytest.raises(MisfitError, match="a key 'new'; expected keys of the first rows"):
        convert({"a": "x", "new": 0})


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column of unique or long values does not fill the memory, and stays right."""
    monkeypatch.setattr(convert, "_REMEMBERED", 10)
    monkeypatch.setattr(convert, "_REMEMBERED_LENGTH", 3)
    turned: list[str] = []

    def turn(text: str) -> int:
        turned.append(text)
        return int(text)

    memo = convert._Memo(turn)
    for text in [*map(str, range(25)), "1000", "1000"]:
        assert int(text) == memo[text]
        assert len(memo) <= 10
    assert ["1000", "1000"] == turned[-2:]
