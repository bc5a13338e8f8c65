"""Tells the rows in lines of text: CSV, TSV, and one JSON object a line."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, cast

from forebay.cli._errors import InputError
from forebay.cli._load.column_names import duplicate
from forebay.cli._load.lines import LONGEST_LINE, Lines
from forebay.cli._load.sources import Format

# The line that a row starts in, and its values: cells of text, or an object; or in words what is
# wrong with it; or None for a blank line, which is no row.
Record = tuple[int, list[str] | dict[str, Any] | str | None]


def parse(
    lines: Lines, source: str, form: Format
) -> tuple[tuple[str, ...] | None, Iterator[Record]]:
    """Begin to parse an input.

    Args:
        lines: the input's lines.
        source: its name, for errors.
        form: how its rows are written.

    Returns:
        The columns of its header, or None where it has no header, and its rows.

    Raises:
        InputError: there is no header, or not one that names each column once.
    """
    if form is Format.NDJSON:
        return None, _ndjson_records(lines)
    # The limit is the process's; the one it starts with is too small for a document.
    csv.field_size_limit(LONGEST_LINE)
    dialect = csv.excel_tab if form is Format.TSV else csv.excel
    reader = csv.reader(lines, dialect, strict=True)
    header = _read_header(reader, lines, source)
    return header, _csv_records(reader, lines, len(header))


def _read_header(reader: Iterator[list[str]], lines: Lines, source: str) -> tuple[str, ...]:
    try:
        names = next(filter(None, reader), None)  # a blank line is no row
    except csv.Error as error:
        raise InputError(source, _csv_problem(error), line=1) from error
    if lines.fault is not None:
        raise InputError(source, lines.fault, line=lines.number)
    if names is None:
        raise InputError(source, "empty; expected a header with the columns' names")
    # Programs that write a column of row numbers often leave its name out.
    header = tuple(name or f"untitled_{place}" for place, name in enumerate(names, 1))
    problem = duplicate(header)
    if problem is not None:
        raise InputError(source, problem, line=lines.number)
    return header


def _csv_records(reader: Iterator[list[str]], lines: Lines, width: int) -> Iterator[Record]:
    while True:
        start = lines.number + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield start, _csv_problem(error)
            continue
        finally:
            fault, lines.fault = lines.fault, None
        if row is None:
            return
        if fault is not None:
            yield start, fault
        elif len(row) == width:
            yield start, row
        elif row:
            yield start, f"{len(row)} cells; expected {width}, as in the header"
        else:
            yield start, None


def _csv_problem(error: csv.Error) -> str:
    problem = str(error)
    if problem.startswith("unexpected end of data"):
        return "a quote is opened and never closed; expected a closing quote"
    if problem.startswith("field larger"):
        return f"a cell of more than {LONGEST_LINE // 2**20} MiB; is a closing quote missing?"
    return problem


def _ndjson_records(lines: Lines) -> Iterator[Record]:
    decode = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_float).decode
    for text in lines:
        fault, lines.fault = lines.fault, None
        if fault is not None:
            yield lines.number, fault
        elif text.isspace():
            yield lines.number, None
        else:
            yield lines.number, _parse_object(text, decode)


def _parse_object(text: str, decode: Callable[[str], Any]) -> dict[str, Any] | str:
    """The object that `text` is, or what is wrong with it."""
    try:
        row: object = decode(text)
        if not isinstance(row, dict):
            return f"{_JSON_NAMES.get(type(row), 'a number')}; expected one object a line"
        if "\\u" in text:  # an escape may stand for half a character, which is no text
            json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at {error.colno}; expected one object a line"
    except UnicodeEncodeError:
        return "half of a surrogate pair; expected text"
    except ValueError as error:
        return f"not JSON: {error}"
    except RecursionError:
        return "values nested too deep"
    return cast("dict[str, Any]", row)


_JSON_NAMES: dict[type, str] = {
    list: "an array",
    str: "a string",
    bool: "a boolean",
    type(None): "null",
}


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is more than a number of 64 bits holds")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
