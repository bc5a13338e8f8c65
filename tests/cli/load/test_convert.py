"""Rows of the inputs are converted to rows of the table, or do not fit it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.cli._errors import InputError
from forebay.cli._load import cells
from forebay.cli._load.column_types import (
    ColumnType,
    JsonType,
    RoundedFloat,
    reads_as_number,
)
from forebay.cli._load.convert import Converter
from forebay.cli._load.target_columns import COMPUTED, MisfitError, TargetColumn

INTEGER, REAL, TEXT = ColumnType.INTEGER, ColumnType.REAL, ColumnType.TEXT


def column_of(kind: ColumnType, name: str = "c", **options: Any) -> TargetColumn:
    return TargetColumn(name=name, type=kind, reason="as stated", **options)


def converted(
    kind: ColumnType,
    value: Any,
    *,
    in_key: bool = False,
    nulls: tuple[str, ...] = (),
    declared: bool = False,
    holds_others: bool = False,
    json: JsonType | None = None,
) -> Any:
    """Return the value of a column for a cell of text, or for a JSON value in a list."""
    column = column_of(kind, in_key=in_key, declared=declared, holds_others=holds_others, json=json)
    converter = Converter([column], nulls)
    if isinstance(value, list):
        (result,) = converter.bind("it", None).convert({"c": value[0]})
    else:
        (result,) = converter.bind("it", ["c"]).convert([value])
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
        (REAL, "2.5", 2.5),
        (REAL, "", None),
        (REAL, "nan", "nan"),
        (TEXT, "12", "12"),
        (TEXT, "007", "007"),
        (TEXT, "", ""),
    ],
)
def test_a_cell_is_converted(kind: ColumnType, cell: str, value: Any) -> None:
    """A number, NULL for an empty cell in a column of numbers, or the text."""
    result = converted(kind, cell, holds_others=True)
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
def test_a_json_value_is_converted(kind: ColumnType, value: Any, result: Any) -> None:
    """Numbers stay, booleans are 1 or 0, and nested values are JSON text."""
    actual = converted(kind, [value], holds_others=True)
    assert (result, type(result)) == (actual, type(actual))


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (INTEGER, "2.5", "2.5"),
        (INTEGER, "n/a", "'n/a'"),
        (INTEGER, [2.5], "2.5"),
        (INTEGER, ["n/a"], "'n/a'"),
        (INTEGER, [[1]], "'[1]'"),
        (REAL, "nan", "'nan'"),
        (REAL, [{}], "'{}'"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: ColumnType, value: Any, found: str) -> None:
    """Unless the column holds values of other types too."""
    with pytest.raises(MisfitError) as caught:
        converted(kind, value)
    assert str(caught.value).startswith(f"column 'c' has the value {found}; expected ")


def test_a_whole_number_of_json_is_an_integer() -> None:
    """SQLite stores 2.0 as 2 in a column of integers."""
    actual = converted(INTEGER, [2.0])
    assert (2, int) == (actual, type(actual))


@pytest.mark.parametrize("value", ["NA", [None], [{}]])
def test_a_column_that_is_not_null_refuses_null(value: Any) -> None:
    """The error names the column, and not only the constraint."""
    column = TargetColumn(name="c", type=TEXT, reason="as stated", not_null=True)
    converter = Converter([column], ("NA",))
    with pytest.raises(MisfitError, match="column 'c' is NOT NULL and has no value"):
        if isinstance(value, str):
            converter.bind("it", ["c"]).convert([value])
        else:
            converter.bind("it", None).convert({} if value == [{}] else {"c": value[0]})


@pytest.mark.parametrize("kind", list(ColumnType))
@pytest.mark.parametrize("value", ["NA", ["NA"], "-", ["-"]])
def test_a_text_for_null_is_null_in_any_column(kind: ColumnType, value: Any) -> None:
    """--null applies to cells and JSON strings, in columns of all types."""
    assert converted(kind, value, nulls=("NA", "-")) is None


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (INTEGER, "007", "SQLite would change '007' in column 'c'; expected an integer"),
        (INTEGER, " 5", "SQLite would change ' 5' in column 'c'"),
        (INTEGER, "9223372036854775808", "SQLite would change '9223372036854775808' in column 'c'"),
        (INTEGER, [2**63], "9223372036854775808 is too large for column 'c'"),
        (INTEGER, ["007"], "SQLite would change '007' in column 'c'"),
        (REAL, "1e5", "SQLite would change '1e5' in column 'c'; expected a number"),
        (REAL, "9007199254740993", "9007199254740993 is too large for column 'c'"),
        (REAL, [2**53 + 1], "9007199254740993 is too large for column 'c'"),
    ],
)
def test_a_value_that_sqlite_would_change_is_refused(
    kind: ColumnType, value: Any, problem: str
) -> None:
    """No value is stored as another value."""
    with pytest.raises(MisfitError) as caught:
        converted(kind, value)
    assert str(caught.value).startswith(problem)
    assert str(caught.value).endswith(", as stated")


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (INTEGER, "x", "key column 'c' has the value 'x'; expected an integer, as stated"),
        (INTEGER, "2.5", "key column 'c' has the value 2.5; expected an integer, as stated"),
        (INTEGER, "", "key column 'c' has no value"),
        (INTEGER, "NA", "key column 'c' has no value"),
        (REAL, "x", "key column 'c' has the value 'x'; expected a number, as stated"),
        (TEXT, "NA", "key column 'c' has no value"),
        (TEXT, [None], "key column 'c' has no value"),
        (TEXT, ["x" * 99], None),
        (
            INTEGER,
            ["x" * 99],
            f"key column 'c' has the value '{'x' * 59}...; expected an integer, as stated",
        ),
    ],
)
def test_a_key_column_holds_one_type(kind: ColumnType, value: Any, problem: str | None) -> None:
    """A missing value or one of another type cannot identify a row."""
    if problem is None:
        assert "x" * 99 == converted(kind, value, in_key=True, nulls=("NA",))
        return
    with pytest.raises(MisfitError) as caught:
        converted(kind, value, in_key=True, nulls=("NA",))
    assert str(caught.value).startswith(problem)
    assert problem.endswith("no value") or str(caught.value).endswith(", as stated")


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
def test_keys_of_two_json_types_are_refused(kind: ColumnType, json: JsonType, value: Any) -> None:
    """They could be one key in the table, and one row would replace another."""
    with pytest.raises(
        MisfitError, match=r"key column 'c' has the value .*; expected .*, as in the first rows"
    ):
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
def test_keys_of_one_json_type_are_accepted(
    kind: ColumnType, json: JsonType, value: Any, expected: Any
) -> None:
    """Of each type."""
    assert expected == converted(kind, [value], in_key=True, json=json)


@pytest.mark.parametrize("kind", [INTEGER, REAL])
@pytest.mark.parametrize(
    ("text", "expected"),
    [("1e3", 1000.0), ("-2.5E3", -2500.0), ("1e+3", 1000.0), ("1.0", 1.0), ("5e-1", 0.5)],
)
def test_a_declared_number_may_be_written_with_an_exponent(
    kind: ColumnType, text: str, expected: float
) -> None:
    """The table declares that the text is a number."""
    assert expected == converted(kind, text, declared=True, holds_others=True)


@pytest.mark.parametrize(
    "text", ["007e3", "1e999", "+1e3", "1e", "123456789012345678901e1", "1e-999"]
)
def test_a_text_that_is_not_exactly_a_number_is_refused(text: str) -> None:
    """Also in a declared column, if SQLite would change it."""
    if reads_as_number(text):
        with pytest.raises(MisfitError):
            converted(REAL, text, declared=True)
    else:
        assert text == converted(REAL, text, declared=True, holds_others=True)


@pytest.mark.parametrize(
    ("texts", "refused"),
    [
        (["1.5", "2", "2.0"], "2.0"),
        (["1.5", "2.0", "2"], "2"),
        (["1e-05", "0.00001"], "0.00001"),
        (["1.5", "1.50"], "1.50"),
        (["0.0", "-0.0"], "-0.0"),
    ],
)
@pytest.mark.parametrize("in_key", [True, False])
def test_no_two_texts_become_one_number(texts: list[str], refused: str, in_key: bool) -> None:
    """The first numbers show how floats are written, and others are refused; so are 1.10, -0.0."""
    convert = Converter([column_of(REAL, in_key=in_key)], ()).bind("it", ["c"]).convert
    *accepted, last = texts
    assert refused == last
    assert [(float(text),) for text in accepted] == [convert([text]) for text in accepted]
    with pytest.raises(MisfitError, match=f"'{refused}' in column 'c'"):
        convert([refused])


NUMBERS = st.floats(allow_nan=True).map(repr) | st.integers(-(2**64), 2**64).map(str)
CELLS = st.sampled_from(
    ["1.5", "2.0", "2", "1e-05", "0.00001", "", "x", "NA", "-0.0", "007", "1_0", " 5", "1"]
)


@given(
    st.lists(
        st.tuples(CELLS | NUMBERS, CELLS | NUMBERS, st.sampled_from(["a", "", "NA"])).map(list),
        max_size=9,
    )
    | st.lists(
        st.tuples(st.floats(0, 9).map(repr), st.integers().map(str), st.just("a")).map(list),
        max_size=9,
    ),
    st.lists(st.integers(1, 4), max_size=4),
    st.permutations(["r", "i", "t"]),
)
def test_rows_are_converted_together_as_one_by_one(
    rows: list[list[str]], sizes: list[int], header: list[str]
) -> None:
    """If one does not fit, nothing is learned from the rows after it."""
    columns = [column_of(REAL, name="r"), column_of(INTEGER, name="i"), column_of(TEXT, name="t")]

    def outcome(convert: Callable[[list[str]], Any], row: list[str]) -> Any:
        try:
            return convert(row)
        except MisfitError as misfit:
            return str(misfit)

    alone = Converter(columns, ("NA",)).bind("it", header)
    expected = [outcome(alone.convert, row) for row in rows]
    together = Converter(columns, ("NA",)).bind("it", header)
    actual: list[Any] = []
    for size in [*sizes, len(rows)]:
        part, rows = rows[:size], rows[size:]
        done = together.convert_all(part)
        actual += [outcome(together.convert, row) for row in part] if done is None else done
    assert list(map(repr, expected)) == list(map(repr, actual))


@pytest.mark.parametrize(
    ("kind", "cells", "values"),
    [
        (INTEGER, ["100", "-7", "0"], [100, -7, 0]),
        (INTEGER, ["100", ""], [100, None]),
        (INTEGER, ["100", "007"], None),
        (INTEGER, ["100", "1_0"], None),
        (INTEGER, ["100", "-0"], None),
        (INTEGER, ["100", str(2**63)], None),
        (REAL, ["0.25", "-7.75"], [0.25, -7.75]),
        (REAL, ["0.25", "1e+16"], [0.25, 1e16]),
        (REAL, ["0.25", "7"], [0.25, 7.0]),
        (REAL, ["0.25", "-0.0"], None),
        (REAL, ["0.25", "nan"], None),
        (REAL, ["0.25", "inf"], None),
        (REAL, ["0.25", "1.50"], None),
        (REAL, ["7", "2.0"], None),
        (REAL, ["2.0", "7"], None),
    ],
)
def test_values_that_vary_are_converted_as_others(
    kind: ColumnType, cells: list[str], values: list[Any] | None
) -> None:
    """After a block whose values differ, numbers are converted without being remembered."""
    rows = Converter([column_of(kind)], ()).bind("it", ["c"])
    varied = [[f"{number}.5" if kind is REAL else f"{number}"] for number in range(50)]
    assert rows.convert_all(varied) is not None
    for _ in range(2):
        done = rows.convert_all([[cell] for cell in cells])
        assert (None if values is None else [(value,) for value in values]) == done


def test_numbers_that_vary_are_written_in_one_way() -> None:
    """A block may have 2.0, and the next one 2, but not both."""
    rows = Converter([column_of(REAL)], ()).bind("it", ["c"])
    assert rows.convert_all([[f"{number}.5"] for number in range(50)]) is not None
    assert rows.convert_all([[f"{number}.0"] for number in range(50)]) is not None
    assert rows.convert_all([[f"{number}.5"] for number in range(50)]) is not None
    with pytest.raises(MisfitError, match="'7' in column 'c' is written differently"):
        rows.convert(["7"])


@pytest.mark.parametrize(("kind", "text"), [(INTEGER, "1.0"), (INTEGER, "1e+16"), (REAL, "1.10")])
def test_a_declared_key_gives_back_its_texts(kind: ColumnType, text: str) -> None:
    """A text that another text would equal is refused in the key, and accepted elsewhere."""
    assert float(text) == converted(kind, text, declared=True)
    with pytest.raises(MisfitError, match=f"SQLite would change '{re.escape(text)}'"):
        converted(kind, text, in_key=True, declared=True)


@pytest.mark.parametrize("digits", ["0.1234567890123456789", "1e-400"])
def test_a_json_number_that_no_float_holds_keeps_its_digits(digits: str) -> None:
    """As a text; a column of numbers refuses it."""
    number = RoundedFloat(digits)
    number.text = digits
    assert digits == converted(TEXT, [number])
    with pytest.raises(MisfitError, match="SQLite would change '"):
        converted(REAL, [number])


@pytest.mark.parametrize(
    ("default", "expected"), [(None, None), (7, 7), ("x", "x"), (b"\0", b"\0")]
)
def test_a_missing_key_of_an_object_is_the_default(default: object, expected: object) -> None:
    """A null is NULL."""
    convert = Converter([column_of(INTEGER, default=default)], ()).bind("it", None).convert
    assert [(expected,), (None,), (1,)] == [convert({}), convert({"c": None}), convert({"c": 1})]


def test_a_missing_key_with_a_computed_default_is_refused() -> None:
    """SQLite computes it for each row, and the buffer cannot."""
    convert = Converter([column_of(INTEGER, default=COMPUTED)], ()).bind("it", None).convert
    assert (1,) == convert({"c": 1})
    with pytest.raises(MisfitError, match="key 'c' is missing; expected a value"):
        convert({})


def test_columns_are_matched_by_name() -> None:
    """Inputs may have the columns in different orders."""
    converter = Converter([column_of(INTEGER, name="a"), column_of(TEXT, name="b")], ())
    assert [(1, "x"), (1, "x"), (1, None), (None, None)] == [
        converter.bind("it", ("a", "b")).convert(["1", "x"]),
        converter.bind("it", ("b", "a")).convert(["x", "1"]),
        converter.bind("it", None).convert({"a": 1, "c": None}),
        converter.bind("it", None).convert({}),
    ]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (("a",), "column 'b' is missing"),
        (("a", "b", "c"), "column 'c' is unknown"),
    ],
)
def test_an_input_with_other_columns_is_refused(header: tuple[str, ...], problem: str) -> None:
    """No column is added or dropped."""
    converter = Converter([column_of(TEXT, name="a"), column_of(TEXT, name="b")], ())
    with pytest.raises(InputError) as caught:
        converter.bind("it", header)
    expected = "expected the columns of the first input: a, b"
    assert str(caught.value).startswith(f"it, line 1: {problem}; {expected}")


def test_a_key_without_a_column_is_refused() -> None:
    """The value of a later object is not dropped because there is no column for it."""
    convert = Converter([column_of(TEXT, name="a")], ()).bind("it", None).convert
    with pytest.raises(MisfitError, match="key 'new' is unknown; expected keys of the first rows"):
        convert({"a": "x", "new": 0})


def test_the_memory_of_converted_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unique and long values do not fill the memory, and are converted correctly."""
    monkeypatch.setattr(cells, "_REMEMBERED_LENGTH", 3)
    converted_texts: list[str] = []

    def to_int(text: str) -> int:
        converted_texts.append(text)
        return int(text)

    memo = cells._Memo(to_int, bound=10)
    for text in [*map(str, range(25)), "1000", "1000"]:
        assert int(text) == memo[text]
        assert len(memo) <= 10
    assert ["1000", "1000"] == converted_texts[-2:]


@pytest.mark.parametrize(
    ("second", "text", "problem"),
    [
        (column_of(INTEGER, name="b"), "x", "column 'b' has the value 'x'"),
        (column_of(INTEGER, name="b", not_null=True), "", "column 'b' is NOT NULL"),
        (column_of(INTEGER, name="b", in_key=True), "", "key column 'b' has no value"),
        (column_of(INTEGER, name="b"), "1e3", "SQLite would change '1e3' in column 'b'"),
    ],
)
def test_columns_of_integers_that_share_a_memory_keep_their_own_rules(
    second: TargetColumn, text: str, problem: str
) -> None:
    """What the first column has taken is refused by the second, in an error that names it."""
    first = column_of(INTEGER, name="a", holds_others=text == "x", declared=text == "1e3")
    bound = Converter([first, second], ()).bind("it", ["a", "b"])
    rows = [["7", "7"], [text, text]]
    assert bound.convert_all(rows[:1]) == [(7, 7)]
    assert bound.convert_all(rows) is None
    with pytest.raises(MisfitError, match=re.escape(problem)):
        bound.convert(rows[1])
    assert bound.convert(["7", "7"]) == (7, 7)


def test_a_misfit_names_its_own_column_among_columns_that_share_a_memory() -> None:
    """The memory belongs to no column."""
    columns = [column_of(INTEGER, name="a"), column_of(INTEGER, name="b")]
    bound = Converter(columns, ()).bind("it", ["a", "b"])
    with pytest.raises(MisfitError, match="column 'b' has the value 'x'"):
        bound.convert(["7", "x"])


def test_a_value_that_is_too_deep_to_be_written_as_json_is_refused() -> None:
    """The decoder may have read it: it has another limit. Since 3.12, C code has its own."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    bound = Converter([column_of(TEXT)], ()).bind("it", None)
    with pytest.raises(MisfitError, match="the values are nested too deeply"):
        bound.convert({"c": value})
    assert bound.convert_all([{"c": value}]) is None
