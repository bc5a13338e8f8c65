"""Lines of JSON are parsed into rows, and malformed rows into messages."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from forebay.cli._load.column_types import RoundedFloat
from forebay.cli._load.encodings import Utf8Stream
from forebay.cli._load.json_rows import parse_ndjson
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
