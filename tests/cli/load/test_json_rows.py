"""Lines of JSON are parsed into rows, and malformed rows into messages."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.cli._load.column_types import RoundedFloat
from forebay.cli._load.encodings import Utf8Stream
from forebay.cli._load.json_rows import _new_line_decoder, as_row, new_decoder, parse_ndjson
from forebay.cli._load.lines import Lines
from forebay.cli._load.options import InputOptions


def parsed(data: str, **options: Any) -> list[Any]:
    lines = Lines(Utf8Stream(io.BytesIO(data.encode()), None), "it", 2**26)
    return list(parse_ndjson(lines, InputOptions(**options)).rows)


@pytest.mark.parametrize("values", ["{},", "[],", "1,", '"a",'])
def test_an_object_of_too_many_values_is_refused(values: str) -> None:
    """Each value needs memory, many times that of its text; commas in strings are text."""
    many = values * 1_000_000
    text = f'{{"a": [{many}1]}}\n{{"a": {json.dumps(many)}}}\n'
    [(_, refused), (_, record)] = parsed(text)
    assert "the object has more than 1,000,000 values" == refused
    assert {"a": many} == record


def test_ndjson_has_one_object_per_line() -> None:
    """Values keep their types, and blank lines are skipped."""
    records = parsed('{"a": 1, "b": [null]}\n\n{"a": 0.5}\n')
    assert [(1, {"a": 1, "b": [None]}), (2, None), (3, {"a": 0.5})] == records


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "the line is not JSON: Expecting property name enclosed in double quotes at"),
        ('{"a":', "the line is not JSON: Expecting value at character 6;"),
        ('{"a":  x}', "the line is not JSON: Expecting value at character 8;"),
        ("[1]", "the line is an array; expected one object per line"),
        ('"x"', "the line is a string;"),
        ("7", "the line is a number;"),
        ("true", "the line is a boolean;"),
        ("null", "the line is null;"),
        ('{"a": NaN}', "the line is not JSON: NaN is not a JSON number"),
        ('{"a": 1e400}', "the line is not JSON: the number 1e400 does not fit into a 64-bit float"),
        ('{"a": "\\ud800"}', "a string contains half of a surrogate pair; expected text"),
        ('{"a": ' + "1" * 5000 + "}", "the line is not JSON: Exceeds the limit (4300 digits)"),
        ('{"a": ' + "[" * 100_000 + "}", "the values are nested too deeply"),
        ('{"a": "\0"}', "character 8 of the line is NUL; expected text"),
    ],
    ids=lambda text: text[:20],
)
def test_a_malformed_json_line_has_a_message(text: str, problem: str) -> None:
    """It names what was found and what was expected. The line after it is parsed."""
    records = parsed(text + '\n{"a": 1}\n')
    assert [1, 2] == [line for line, _ in records]
    assert records[0][1].startswith(problem)
    assert {"a": 1} == records[1][1]


@pytest.mark.parametrize(
    ("text", "is_rounded"),
    [
        ("0.1", False),
        ("1.10", False),
        ("1e2", False),
        ("-123456789.012345", False),
        ("0.30000000000000004", False),
        ("0.1234567890123456789", True),
        ("12345678901234567.5", True),
        ("1e-400", True),
    ],
)
def test_json_numbers_that_no_float_holds_keep_their_digits(text: str, is_rounded: bool) -> None:
    """Others are floats."""
    [(_, row)] = parsed(f'{{"a": {text}}}\n')
    assert float(text) == row["a"]
    assert is_rounded == isinstance(row["a"], RoundedFloat)
    assert text == getattr(row["a"], "text", text)


def test_whole_surrogate_pairs_are_text() -> None:
    """A character may be written as two escapes."""
    letter = "\U0001f600"
    assert [(1, {"a": letter})] == parsed(json.dumps({"a": letter}) + "\n")


@pytest.mark.parametrize(
    ("text", "options"), [("\\u00e9", InputOptions()), ("", InputOptions(flatten=True))]
)
def test_an_object_that_is_too_deep_for_a_check_is_malformed(
    text: str, options: InputOptions
) -> None:
    """The decoder may have read it: it has another limit. Since 3.12, C code has its own."""
    value: dict[str, Any] = {}
    for _ in range(100_000):
        value = {"a": value}
    assert "the values are nested too deeply" == as_row(value, text, options)


def lines_of_json() -> st.SearchStrategy[str]:
    """JSON as programs write it, and what is nearly JSON."""
    numbers = st.one_of(
        st.integers().map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.decimals(allow_nan=False, allow_infinity=False).map(str),
        st.sampled_from(
            ["-0", "1E5", "01", "1.", ".5", "+1", "1e400", "NaN", "-Infinity", "-", ""]
        ),
    )
    texts = st.one_of(
        st.text().map(json.dumps),
        st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: f'"{text}"'),
        st.sampled_from(['"\\ud800"', '"\\ude00\\ud83d"', '"\\x"', '"\t"', '"\\u00"', '"', "'a'"]),
    )
    values = st.recursive(
        st.one_of(numbers, texts, st.sampled_from(["true", "false", "null", "tru", "None"])),
        lambda inner: st.one_of(
            st.lists(inner).map(lambda items: f"[{', '.join(items)}]"),
            objects(st.sampled_from(['"a"', '"b"', '"\\u0061"', "a"]), inner),
        ),
        max_leaves=8,
    )
    return st.tuples(
        st.sampled_from(["", " ", ",", "\ufeff"]), values, st.sampled_from(["", " ", ","])
    ).map("".join)


def objects(keys: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Objects, in which a key may be repeated."""
    pairs = st.lists(st.tuples(keys, values).map(": ".join))
    return pairs.map(lambda members: "{" + ", ".join(members) + "}")


def outcome(decode: Callable[[str], Any], text: str) -> str:
    """Return the value, with its types and the digits of its numbers, or the error."""
    try:
        return repr(shown(decode(text)))
    except ValueError as error:
        return str(error)


def shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return list(map(shown, value))
    return type(value), getattr(value, "text", value)


@given(text=lines_of_json())
@example(text="1" * 5000)
@example(text='{"a": 12345678901234567890123, "b": 0.1000000000000000055511151231257827}')
@example(text='{"b": {"c": 1, "c": 2}, "a": 1, "b": 3}')
def test_a_line_is_decoded_as_the_json_module_decodes_it(text: str) -> None:
    """The same values of the same types, or an error in the same words."""
    expected = outcome(new_decoder(raise_value_error).decode, text)
    assert expected == outcome(_new_line_decoder(), text)


def raise_value_error(problem: str) -> NoReturn:
    raise ValueError(problem)
