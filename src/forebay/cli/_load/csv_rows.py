"""Parse CSV and TSV into rows.

The `csv` module parses; this module gives each row its line, an error of its own, and a limit.
pyarrow and duckdb parse faster but guess the types of the texts (007 becomes 7), need a whole block
of rows before they return one, and make Python's values more slowly than `csv` makes texts.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from typing import Any

from forebay._errors import format_count
from forebay.cli._errors import InputError
from forebay.cli._load.column_names import describe_duplicate, untitled
from forebay.cli._load.dialects import (
    Dialect,
    describe_delimiter,
    find_dialect,
    find_other_delimiter,
)
from forebay.cli._load.limits import LONG, MOST_CELLS, count_outside
from forebay.cli._load.lines import Lines
from forebay.cli._load.options import InputOptions
from forebay.cli._load.records import Record, Records, RowTooLongError
from forebay.cli._load.sources import Format

MISSING_CELL = "\0"
"""The text of a cell that a padded row does not have. Lines of the input never have this text."""


def parse_csv(lines: Lines, source: str, form: Format, options: InputOptions) -> Records:
    """Parse the header of an input, and return its rows.

    Args:
        lines: the input's lines.
        source: its name, for errors.
        form: CSV or TSV.
        options: how to read it.

    Raises:
        InputError: the header is missing or malformed, or names a column twice.
    """
    # This limit holds for the process. Lines have a limit of their own, with an option.
    csv.field_size_limit(sys.maxsize)
    dialect = find_dialect(lines, source, form, options)
    rows = _read_rows(csv.reader(_CsvLines(lines, dialect), **_format(dialect)), lines)
    first: Record | None = None
    if options.header is not None:
        header = tuple(options.header)
    else:
        line, names = _first_row(rows, source, options)
        if options.has_header:
            header = tuple(name or untitled(place) for place, name in enumerate(names, 1))
            problem = describe_duplicate(header)
            if problem is not None:
                problem += "; to name them, run: tail -n +2 FILE | forebay load - --header A,B ..."
            problem = problem or describe_delimiter(header, dialect)
            if problem is not None:
                raise InputError(source, problem, line=line)
        else:
            header = tuple(f"column{place}" for place in range(1, len(names) + 1))
            first = line, names
    blocks = _Blocks(lines, dialect, len(header), allowed=first is None)
    if first is not None:
        rows = _chain(first, rows, blocks)
    return Records(header, _fit_rows(rows, len(header), dialect, options), lines, blocks)


def _chain(first: Record, rows: Iterator[Record], blocks: _Blocks) -> Iterator[Record]:
    """Yield the first row, which has been read, and then the others, which may be in blocks."""
    yield first
    blocks.allowed = True
    yield from rows


def _format(dialect: Dialect) -> dict[str, Any]:
    """Return the arguments for `csv.reader`."""
    return {
        "delimiter": dialect.delimiter,
        "quotechar": dialect.quotechar or None,
        "quoting": csv.QUOTE_MINIMAL if dialect.quotechar else csv.QUOTE_NONE,
        "skipinitialspace": dialect.skips_spaces,
        "strict": True,
    }


def _first_row(rows: Iterator[Record], source: str, options: InputOptions) -> tuple[int, list[str]]:
    for line, row in rows:
        if isinstance(row, list):
            return line, row
        if isinstance(row, str):
            raise InputError(source, row, line=line)
    expected = "a header with column names" if options.has_header else "rows"
    raise InputError(source, f"the input is empty; expected {expected}")


def _read_rows(reader: Iterator[list[str]], lines: Lines) -> Iterator[Record]:
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
        yield start, fault or row or None


def _fit_rows(
    rows: Iterator[Record], width: int, dialect: Dialect, options: InputOptions
) -> Iterator[Record]:
    """Refuse or pad the rows that have another number of cells than the header."""
    padding = [MISSING_CELL] * width if options.pad_short_rows else []
    for record in rows:
        line, row = record
        if not isinstance(row, list) or len(row) == width:
            yield record
        elif padding and len(row) < width:
            yield line, row + padding[len(row) :]
        else:
            origin = "as in the header" if options.has_header else "as in the first row"
            if options.header is not None:
                origin = "as --header has"
            count = format_count(len(row), "cell")
            hint = _width_hint(row, width, dialect)
            yield line, f"the row has {count}; expected {width}, {origin}; {hint}"


def _width_hint(row: list[str], width: int, dialect: Dialect) -> str:
    """Return what to do about a row that has another number of cells than the header."""
    quote = dialect.quotechar
    if quote and any(cell.startswith(f" {quote}") for cell in row):
        return "a quote after a space does not begin a quoted cell; --sniff skips spaces"
    if len(row) < width:
        other = None if dialect.is_certain or len(row) > 1 else find_other_delimiter(row[0])
        if other is not None:
            return f"if the delimiter is {other}, name it: --delimiter {other}"
        return "--short-rows pad fills it with NULL"
    if not quote:
        return "--quotechar names the quote character of cells with a delimiter in them"
    return f"a cell with {dialect.delimiter!r} in it must be in quotes ({quote}), see --quotechar"


def _csv_problem(error: csv.Error | RowTooLongError) -> str:
    problem = str(error)
    if problem.startswith("unexpected end of data"):
        return "a quote is opened and never closed; add the closing quote"
    if " expected after " in problem:
        return f"{problem}; write a quote inside quotes twice, or use --quotechar ''"
    return problem


class _Blocks:
    """The rows of the lines that are in memory, if each is one line, and has all its cells.

    Args:
        lines: the input's lines.
        dialect: how they are written.
        width: the number of cells.
        allowed: whether the next row is in the lines. It may be set.

    Attributes:
        text: the text of the rows that `peek` returned last.
    """

    def __init__(self, lines: Lines, dialect: Dialect, width: int, *, allowed: bool) -> None:
        self._lines = lines
        self._dialect = dialect
        self._width = width
        self._rows = 0
        self.allowed = allowed
        self.text = ""

    def peek(self) -> list[list[str]]:
        text = self._lines.peek_block() if self.allowed else None
        if text is None:
            return []
        rows = self._split(text) or self._parse(text)
        if set(map(len, rows)) != {self._width}:
            return []
        self._rows, self.text = len(rows), text
        return rows

    def _split(self, text: str) -> list[list[str]]:
        """Return the rows of a text, faster than `csv`; none if that may differ from `csv`."""
        quotechar, delimiter = self._dialect.quotechar, self._dialect.delimiter
        # `csv` skips a blank line; here it would be the empty cell of a single column.
        if (quotechar and quotechar in text) or self._width == 1 or self._dialect.skips_spaces:
            return []
        if "\r" in text:
            text = text.replace("\r\n", "\n")
            if "\r" in text:
                return []
        return [line.split(delimiter) for line in text.removesuffix("\n").split("\n")]

    def _parse(self, text: str) -> list[list[str]]:
        """Return the rows of a text; none if one of them is malformed, or has several lines."""
        # With newline="" a line ends where it ends in `Lines`.
        reader = csv.reader(io.StringIO(text, newline=""), **_format(self._dialect))
        try:
            rows = list(reader)
        except csv.Error:
            return []
        return rows if reader.line_num == len(rows) else []

    def skip(self) -> range:
        first = self._lines.number + 1
        self._lines.skip_block(self._rows, len(self.text))
        return range(first, first + self._rows)


class _CsvLines:
    """The lines for a CSV reader, which would make a list of any number of cells."""

    def __init__(self, lines: Lines, dialect: Dialect) -> None:
        self._lines = lines
        self._delimiter = dialect.delimiter
        quote = re.escape(dialect.quotechar)
        self._quoted = re.compile(f"{quote}[^{quote}]*{quote}" if quote else "(?!)")

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        text = next(self._lines)
        if len(text) > LONG and count_outside(self._quoted, text, self._delimiter) >= MOST_CELLS:
            raise RowTooLongError(f"the row has more than {MOST_CELLS:,} cells")
        return text
