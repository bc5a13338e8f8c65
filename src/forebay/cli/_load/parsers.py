"""Parse lines of text into rows: CSV, TSV, and one JSON object per line."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, cast

from forebay.cli._errors import InputError
from forebay.cli._load.column_names import describe_duplicate
from forebay.cli._load.column_types import RoundedFloat, is_exact
from forebay.cli._load.lines import Lines, RowTooLongError
from forebay.cli._load.sources import Format

Record = tuple[int, list[str] | dict[str, Any] | str | None]
"""The line in which a row starts, and the row.

The row is its cells, or its object, or a message if it is malformed, or None for a blank line.
"""


def parse(
    lines: Lines, source: str, form: Format
) -> tuple[tuple[str, ...] | None, Iterator[Record]]:
    """Parse the header of an input, and return an iterator over its rows.

    Args:
        lines: the input's lines.
        source: its name, for errors.
        form: the format of its rows.

    Returns:
        The columns in the header, or None if the format has no header, and the rows.

    Raises:
        InputError: the header is missing or malformed, or names a column twice.
    """
    if form is Format.NDJSON:
        return None, _ndjson_records(lines)
    # This limit holds for the process. Lines have a limit of their own, with an option.
    csv.field_size_limit(sys.maxsize)
    dialect = csv.excel_tab if form is Format.TSV else csv.excel
    reader = csv.reader(_CsvLines(lines, dialect.delimiter), dialect, strict=True)
    header = _read_header(reader, lines, source)
    return header, _csv_records(reader, lines, len(header))


def _read_header(reader: Iterator[list[str]], lines: Lines, source: str) -> tuple[str, ...]:
    try:
        names = next(filter(None, reader), None)  # blank lines are skipped
    except (csv.Error, RowTooLongError) as error:
        raise InputError(source, _csv_problem(error), line=1) from error
    if lines.fault is not None:
        raise InputError(source, lines.fault, line=lines.number)
    if names is None:
        raise InputError(source, "the input is empty; expected a header with column names")
    # Programs that write a column of row numbers often write no name for it.
    header = tuple(name or f"untitled_{place}" for place, name in enumerate(names, 1))
    problem = describe_duplicate(header)
    if problem is not None:
        raise InputError(source, problem, line=lines.number)
    return header


def _csv_records(reader: Iterator[list[str]], lines: Lines, width: int) -> Iterator[Record]:
    while True:
        start = lines.number + 1
        lines.begin_row()
        try:
            row = next(reader, None)
        except (csv.Error, RowTooLongError) as error:
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
            yield start, f"the row has {len(row)} cells; expected {width}, as in the header"
        else:
            yield start, None


def _csv_problem(error: csv.Error | RowTooLongError) -> str:
    problem = str(error)
    if problem.startswith("unexpected end of data"):
        return "a quote is opened and never closed; add the closing quote"
    return problem


class _CsvLines:
    """The lines for a CSV reader, which would make a list of any number of cells."""

    def __init__(self, lines: Lines, delimiter: str) -> None:
        self._lines = lines
        self._delimiter = delimiter

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        text = next(self._lines)
        if len(text) > _LONG and _count_outside(_CSV_QUOTED, text, self._delimiter) >= _MOST_CELLS:
            raise RowTooLongError(f"the row has more than {_MOST_CELLS:,} cells")
        return text


_LONG = 1024 * 1024
"""Characters. In a shorter line the number of cells or values needs no check."""
_MOST_CELLS = 32_767
"""The largest number of columns for which SQLite can be compiled: https://sqlite.org/limits.html."""
_MOST_VALUES = 1_000_000
"""In a JSON object, with the nested ones. Python needs up to some 200 bytes for each."""
_CSV_QUOTED = re.compile('"[^"]*"')
_JSON_QUOTED = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


def _count_outside(quoted: re.Pattern[str], text: str, characters: str) -> int:
    """Count characters in a text, without those in quotes."""
    if sum(map(text.count, characters)) < min(_MOST_CELLS, _MOST_VALUES):
        return 0
    unquoted = quoted.sub("", text)
    return sum(map(unquoted.count, characters))


def _ndjson_records(lines: Lines) -> Iterator[Record]:
    decode = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_float).decode
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
        elif len(text) > _LONG and _count_outside(_JSON_QUOTED, text, ",[{") > _MOST_VALUES:
            yield lines.number, f"the object has more than {_MOST_VALUES:,} values"
        else:
            yield lines.number, _parse_object(text, decode)


def _parse_object(text: str, decode: Callable[[str], Any]) -> dict[str, Any] | str:
    """Return the object, or a message if the line is malformed."""
    try:
        row: object = decode(text)
        if not isinstance(row, dict):
            found = _JSON_NAMES.get(type(row), "a number")
            return f"the line is {found}; expected one object per line"
        if "\\u" in text:  # an escape may be one half of a surrogate pair, which is not text
            json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        problem = f"{error.msg} at character {error.colno}"
        return f"the line is not JSON: {problem}; expected one object per line"
    except UnicodeEncodeError:
        return "a string contains half of a surrogate pair; expected text"
    except ValueError as error:
        return f"the line is not JSON: {error}"
    except RecursionError:
        return "the values are nested too deeply"
    return cast("dict[str, Any]", row)


_JSON_NAMES: dict[type, str] = {
    list: "an array",
    str: "a string",
    bool: "a boolean",
    type(None): "null",
}


_EXACT_LENGTH = 16
"""The characters of fifteen digits, which floats hold exactly, and a point."""


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text} does not fit into a 64-bit float")
    if len(text) <= _EXACT_LENGTH and "e" not in text and "E" not in text:
        return value
    if not is_exact(value, text):
        value = RoundedFloat(value)
        value.text = text
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
