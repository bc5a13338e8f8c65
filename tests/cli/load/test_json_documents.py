"""Arrays of objects, and objects one after the other."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import pytest

from forebay.cli._errors import InputError
from forebay.cli._load.encodings import Utf8Stream
from forebay.cli._load.json_documents import parse_json
from forebay.cli._load.options import InputOptions

ROWS = [{"id": i, "v": f'é\\u00e9[]{{}},"{i}\n', "n": [i, {"x": i / 7}]} for i in range(50)]


def parsed(data: str | bytes, **options: Any) -> list[Any]:
    raw = data if isinstance(data, bytes) else data.encode()
    records = parse_json(Utf8Stream(io.BytesIO(raw), None), "it", InputOptions(**options))
    return [record for record in records.rows if record[1] is not None]


@pytest.mark.parametrize("block", [1, 7, 64, 100_000])
@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        json.dumps(ROWS, ensure_ascii=False, separators=(",", ":")),
        "\n".join(map(json.dumps, ROWS)),
        "".join(json.dumps(row, indent=1) for row in ROWS),
    ],
    ids=["line", "indented", "compact", "lines", "concatenated"],
)
def test_objects_are_found_however_they_are_written(
    text: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks in which they are read do not matter."""
    monkeypatch.setattr("forebay.cli._load.lines.BLOCK_BYTES", block)
    assert ROWS == [row for _, row in parsed(text)]


def test_each_object_has_the_line_in_which_it_begins() -> None:
    """An object may have several lines."""
    assert [(1, {"a": 1}), (2, {"a": [2]}), (6, {})] == parsed(
        '[{"a": 1},\n{"a":\n[2]\n}\n,\n{}]\n'
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1]", "the value is a number; expected objects"),
        ("[[1, 2]]", "the value is an array; expected objects; to load arrays as rows, run: jq -r"),
        ('[{"a": NaN}]', "the object is not JSON: NaN is not a JSON number"),
        ('[{"a": [1e400]}]', "the object is not JSON: the number 1e400 does not fit"),
        ('[{"a": "\\ud800"}]', "a string contains half of a surrogate pair"),
        (b'[{"a": "\xff"}]', "the object has bytes that are not UTF-8"),
    ],
)
def test_a_bad_object_costs_no_other(text: str | bytes, problem: str) -> None:
    """The object after it is read."""
    more = b', {"b": 1}]' if isinstance(text, bytes) else ', {"b": 1}]'
    [(_, message), (_, row)] = parsed(text[:-1] + more)  # type: ignore[operator]
    assert message.startswith(problem)
    assert {"b": 1} == row


@pytest.mark.parametrize("block", [1, 100_000])
@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ('[{"a": 1}\n{"a": 2}]', 2, "a comma is missing or too many"),
        ('[{"a": 1},\n]', 2, "a comma follows the last object"),
        ('{"a": 1},\n{"a": 2}', 2, "a comma is missing or too many"),
        ('[{"a": 1}]\n[{"a": 2}]', 2, "text follows the end of the array"),
        ('[{"a": 1},\n', 2, "the array does not end; is the file complete?"),
        ('[{"a": 1},\n{"a":\n"x', 3, "the input is not JSON: Unterminated string"),
        ('[{"a": 1},\n{"a": tru\n}]' + " " * 20, 2, "the input is not JSON: Expecting value"),
        ("[" * 100_000, 1, "the values are nested too deeply"),
        ('[{"a": 1' + "0" * 5000 + "}]", 1, "the input is not JSON: Exceeds the limit"),
    ],
)
def test_what_is_not_json_ends_the_input(
    text: str, line: int, problem: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has its line."""
    if len(text) > 1000 and block == 1:
        return
    monkeypatch.setattr("forebay.cli._load.lines.BLOCK_BYTES", block)
    with pytest.raises(InputError) as caught:
        parsed(text)
    assert line == caught.value.line
    assert caught.value.problem.startswith(problem)


def test_an_empty_array_has_no_rows() -> None:
    """Nor has an empty input."""
    assert [] == parsed(" [ ] ") == parsed("")


def test_a_long_object_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of a line is also that of an object, which may be one line."""
    monkeypatch.setattr("forebay.cli._load.lines.BLOCK_BYTES", 64)
    with pytest.raises(InputError, match="the object is longer than 100 characters"):
        parsed(json.dumps([{"a": "x" * 500}]), max_line_bytes=100)


@pytest.mark.parametrize("values", ["{},", '"a",'])
def test_an_object_of_too_many_values_is_refused(values: str) -> None:
    """Each value needs memory, many times that of its text."""
    with pytest.raises(InputError, match="the object has more than 1,000,000 values"):
        parsed('[{"a": [' + values * 2_000_000 + "1]}]")


def test_an_object_is_returned_before_the_next_one_arrives() -> None:
    """An object that arrives through a pipe does not wait for the end of the array."""
    inward, outward = os.pipe()
    with os.fdopen(inward, "rb") as stream, os.fdopen(outward, "wb", buffering=0) as writer:
        records = parse_json(Utf8Stream(stream, None), "it", InputOptions())
        writer.write(b'[{"a": 1}')
        found = next(row for _, row in records.rows if row is not None)
        assert {"a": 1} == found


def test_nested_objects_are_flattened_on_request() -> None:
    """Arrays and empty objects stay as they are, and two values never get the same key."""
    nested = {"a": {"b": 1, "c": {"d": [{"x": 2}]}}, "e": {}}
    text = json.dumps([nested, {"a_b": 1, "a": {"b": 2}}])
    [(_, row), (_, message)] = parsed(text, flatten=True)
    assert {"a_b": 1, "a_c_d": [{"x": 2}], "e": {}} == row
    assert "after --flatten, two values have the key 'a_b'" == message


@pytest.mark.parametrize(
    ("text", "objects"), [("[_]", 0), ("[_{}_,_{}_]_", 2), ("_{}_{}_", 2), ("_", 0)]
)
def test_spaces_between_objects_may_be_longer_than_an_object(
    text: str, objects: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No memory is needed for them, and the reading goes on after them."""
    monkeypatch.setattr("forebay.cli._load.lines.BLOCK_BYTES", 8)
    spaces = 50 * " " + 50 * "\n"
    assert objects == len(parsed(text.replace("_", spaces), max_line_bytes=10))
