"""Parse JSON into rows: one object per line. What makes an object a row is here too.

msgspec decodes a line three times as fast as the `json` module, to the same values. It cannot find
the end of an object among others, so `json` decodes arrays. ijson, which reads an array piece by
piece too, knows no lines, so that an error could not name one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import msgspec

from forebay.cli._load.column_types import RoundedFloat, is_exact
from forebay.cli._load.limits import MOST_VALUES, TOO_DEEP, has_too_many_values
from forebay.cli._load.lines import Lines
from forebay.cli._load.options import InputOptions
from forebay.cli._load.records import Record, Records

TOO_MANY_VALUES = f"the object has more than {MOST_VALUES:,} values"


def parse_ndjson(lines: Lines, options: InputOptions) -> Records:
    """Return the rows of an input with one object per line.

    Args:
        lines: the input's lines.
        options: how to read it.
    """
    return Records(None, _ndjson_rows(lines, options), lines)


def _ndjson_rows(lines: Lines, options: InputOptions) -> Iterator[Record]:
    decode = _new_line_decoder()
    while True:
        lines.begin_row()
        text = next(lines, None)
        if text is None:
            return
        fault, lines.fault = lines.fault, None
        if fault is not None:
            yield lines.number, fault
        elif text.isspace():
            yield lines.number, None
        elif has_too_many_values(text):
            yield lines.number, TOO_MANY_VALUES
        else:
            yield lines.number, _parse_line(text, decode, options)


def _parse_line(
    text: str, decode: Callable[[str], Any], options: InputOptions
) -> dict[str, Any] | str:
    """Return the object, or a message if the line is malformed."""
    try:
        value: object = decode(text)
    except json.JSONDecodeError as error:
        place = min(error.pos, len(text.rstrip("\r\n"))) + 1  # the text ends with a line end
        problem = f"{error.msg} at character {place}"
        return f"the line is not JSON: {problem}; {_NDJSON}"
    except ValueError as error:
        return f"the line is not JSON: {error}"
    except RecursionError:
        return TOO_DEEP
    if not isinstance(value, dict):
        return f"the line is {name_type(value)}; {_NDJSON}"
    return as_row(value, text, options)


def _new_line_decoder() -> Callable[[str], Any]:
    """Return a function that decodes a line as `new_decoder` does, and raises the same errors."""
    slow = new_decoder(_raise)
    fast = msgspec.json.Decoder(float_hook=slow.parse_float)

    def decode(text: str) -> Any:
        try:
            return fast.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return slow.decode(text)  # which also accepts half of a surrogate pair

    return decode


_NDJSON = "expected one object per line; --format json reads other JSON"


def as_row(value: dict[str, Any], text: str, options: InputOptions) -> dict[str, Any] | str:
    """Return an object as a row, or a message if it cannot be one.

    Args:
        value: the object.
        text: its JSON.
        options: whether to flatten it.
    """
    try:
        return _as_row(value, text, options)
    except RecursionError:
        return TOO_DEEP


def _as_row(value: dict[str, Any], text: str, options: InputOptions) -> dict[str, Any] | str:
    if "\\u" in text:  # an escape may be one half of a surrogate pair, which is not text
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return "a string contains half of a surrogate pair; expected text"
    if not options.flatten:
        return value
    row: dict[str, Any] = {}
    for name, leaf in _leaves(value, ""):
        if name in row:
            return f"after --flatten, two values have the key {name!r}"
        row[name] = leaf
    return row


def _leaves(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _leaves(inner, f"{prefix}{key}_")
        else:
            yield prefix + key, inner


def name_type(value: object) -> str:
    """Return what a JSON value that is not an object is, for a message."""
    return _JSON_NAMES.get(type(value), "a number")


_JSON_NAMES: dict[type, str] = {
    list: "an array",
    str: "a string",
    bool: "a boolean",
    type(None): "null",
}


def new_decoder(refuse: Callable[[str], Any]) -> json.JSONDecoder:
    """Return a decoder that keeps the digits of numbers.

    Args:
        refuse: called with the reason for a number that cannot be stored; its value is used.
    """

    def to_float(text: str) -> Any:
        value = float(text)
        if math.isinf(value):
            return refuse(f"the number {text} does not fit into a 64-bit float")
        if len(text) <= _EXACT_LENGTH and "e" not in text and "E" not in text:
            return value
        if not is_exact(value, text):
            value = RoundedFloat(value)
            value.text = text
        return value

    return json.JSONDecoder(
        parse_constant=lambda name: refuse(f"{name} is not a JSON number"), parse_float=to_float
    )


_EXACT_LENGTH = 16
"""The characters of fifteen digits, which floats hold exactly, and a point."""


def _raise(problem: str) -> NoReturn:
    raise ValueError(problem)
