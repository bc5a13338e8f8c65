"""Lines of CSV are parsed into rows, and malformed rows into messages."""

from __future__ import annotations

import io
from typing import Any

import pytest

from forebay.cli._errors import InputError
from forebay.cli._load.csv_rows import MISSING_CELL, parse_csv
from forebay.cli._load.encodings import Utf8Stream
from forebay.cli._load.lines import Lines
from forebay.cli._load.options import InputOptions
from forebay.cli._load.sources import Format


def parsed(
    data: str | bytes, form: Format = Format.CSV, limit: int = 2**26, **options: Any
) -> tuple[Any, list[Any]]:
    raw = data if isinstance(data, bytes) else data.encode()
    lines = Lines(Utf8Stream(io.BytesIO(raw), None), "it", limit)
    records = parse_csv(lines, "it", form, InputOptions(**options))
    return records.header, list(records.rows)


def test_csv_has_a_header_and_rows() -> None:
    """Quoted cells keep delimiters, quotes and line ends. A row is numbered by its first line."""
    header, records = parsed('a,b\n1,"x, ""y"""\n2,"two\r\nlines"\n\n3,\n')
    assert ("a", "b") == header
    assert [
        (2, ["1", 'x, "y"']),
        (3, ["2", "two\r\nlines"]),
        (5, None),
        (6, ["3", ""]),
    ] == records


def test_tsv_is_split_at_tabs() -> None:
    """In TSV a comma is text."""
    assert (("a", "b"), [(2, ["1,5", "x"])]) == parsed("a\tb\n1,5\tx\n", Format.TSV)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_ends_a_row(end: str) -> None:
    """Files of every system are read alike."""
    assert (("a", "b"), [(2, ["1", "2"])]) == parsed(end.join(["a,b", "1,2", ""]))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "1\n",
            "the row has 1 cell; expected 2, as in the header; --short-rows pad fills it with NULL",
        ),
        (
            "1,2,3\n",
            "the row has 3 cells; expected 2, as in the header; a cell with ',' in it must",
        ),
        ('1,"2\n', "a quote is opened and never closed; add the closing quote"),
        ('1,"2"3\n', "',' expected after '\"'"),
    ],
)
def test_a_malformed_csv_row_has_a_message(text: str, problem: str) -> None:
    """It names what was found and what was expected. The rows before it are parsed."""
    [good, (line, message)] = parsed("a,b\n0,0\n" + text)[1]
    assert ((2, ["0", "0"]), 3) == (good, line)
    assert message.startswith(problem)


@pytest.mark.parametrize("bad", ['1,"2"3', "1,2,3", "1,\0", "1,\udcff"])
def test_the_row_after_a_malformed_one_is_read(bad: str) -> None:
    """A bad row costs no other row."""
    data = f"a,b\n{bad}\n3,4\n".encode(errors="surrogateescape")
    assert (3, ["3", "4"]) == parsed(data)[1][-1]


def test_a_row_with_a_bad_line_is_refused_as_a_whole() -> None:
    """The rest of a row that spans lines is not read as new rows."""
    _, records = parsed(b'a,b\n1,"x\n\xff\n5,6"\n3,4\n')
    [(line, message), good] = records
    assert (2, (5, ["3", "4"])) == (line, good)
    assert message.startswith("byte 1 of the line, 0xff, is not UTF-8; ")


def test_a_huge_cell_is_read() -> None:
    """A cell may hold a document."""
    document = "x" * 1_000_000
    assert [(2, [document])] == parsed(f"a\n{document}\n")[1]


def test_a_row_past_the_limit_is_refused() -> None:
    """After a quote that is never closed, the file is not read into memory as one cell."""
    _, records = parsed('a\n"' + "x\n" * 60 + '"\n5\n', limit=100)
    line, message = records[0]
    assert 2 == line
    assert message.startswith("the row is longer than 100 bytes, the limit of --max-line-bytes;")
    assert message.endswith("is a closing quote missing?")


@pytest.mark.parametrize("cells", [32_767, 32_768])
def test_a_row_of_too_many_cells_is_refused(cells: int) -> None:
    """Each cell needs memory, many times that of its text; commas in quotes are text."""
    width = 2**20 // cells + 1
    row = ",".join(["1" * width] * cells)
    quoted = f'"{row}",{row}'
    for text, refused in ((row, cells > 32_767), (quoted, cells >= 32_767)):
        [(line, record)] = parsed(f"a\n{text}\n")[1]
        assert 2 == line
        assert refused == (record == "the row has more than 32,767 cells")


def test_columns_without_a_name_get_one() -> None:
    """Some programs write a column of row numbers without a name."""
    assert ("untitled_1", "a", "untitled_3") == parsed(",a,\n")[0]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it: the input is empty; expected a header with column names"),
        (b"\n\n", "it: the input is empty; expected a header with column names"),
        (b"a,A\n", "it, line 1: column 'A' repeats column 'a'; name each column once"),
        (b'"a,b\n', "it, line 1: a quote is opened and never closed; add the closing quote"),
        (b"a\xff\n", "it, line 1: byte 2 of the line, 0xff, is not UTF-8"),
    ],
)
def test_a_malformed_header_ends_the_reading(data: bytes, problem: str) -> None:
    """Without a header no row can be loaded."""
    with pytest.raises(InputError) as caught:
        parsed(data)
    assert str(caught.value).startswith(problem)


def test_short_rows_are_padded_on_request() -> None:
    """Long rows are refused all the same."""
    header, [short, full, (line, message)] = parsed("a,b\n1\n1,2\n1,2,3\n", pad_short_rows=True)
    assert (("a", "b"), (2, ["1", MISSING_CELL]), (3, ["1", "2"])) == (header, short, full)
    assert 4 == line
    assert message.startswith("the row has 3 cells; expected 2, as in the header; a cell with ','")


@pytest.mark.parametrize(
    ("data", "options", "header", "rows"),
    [
        ("1;'x;y'\n", {"delimiter": ";", "quotechar": "'"}, ("1", "x;y"), []),
        ('1\t"x\n', {"delimiter": "\t", "quotechar": ""}, ("1", '"x'), []),
        ("1,x\n2,y\n", {"has_header": False}, ("column1", "column2"), [["1", "x"], ["2", "y"]]),
        ("\n1\n", {"has_header": False}, ("column1",), [["1"]]),
        ("1,x\n", {"has_header": False, "header": ["id", "v"]}, ("id", "v"), [["1", "x"]]),
        ("sep=;\r\na;b\r\n1;2\r\n", {}, ("a", "b"), [["1", "2"]]),
        ("sep=;\na,b\n1,2\n", {"delimiter": ","}, ("a", "b"), [["1", "2"]]),
        ("a;b\n1,5;2\n2,5;3\n", {"sniff": True}, ("a", "b"), [["1,5", "2"], ["2,5", "3"]]),
        ("name\nada\n", {"sniff": True}, ("name",), [["ada"]]),
    ],
)
def test_the_dialect_of_an_input(
    data: str, options: dict[str, Any], header: tuple[str, ...], rows: list[list[str]]
) -> None:
    """The options come first, then the line `sep=`, then what the format says."""
    found, records = parsed(data, **options)
    assert (header, rows) == (found, [row for _, row in records])


def test_a_row_is_numbered_after_skipped_lines() -> None:
    """The line `sep=` and blank lines count."""
    assert [(4, ["1", "2"])] == parsed("sep=;\n\na;b\n1;2\n")[1]


@pytest.mark.parametrize(
    ("data", "options", "problem"),
    [
        ("<!DOCTYPE html>\n<html>", {}, "the input is HTML or XML"),
        ("a;b\n1;2\n", {}, "there is one column, named 'a;b'"),
        ("a b:c\nd\ne:f\n", {"sniff": True}, "the delimiter cannot be detected"),
        ("", {"has_header": False}, "the input is empty; expected rows"),
        ("1,\xff\0\n", {"has_header": False}, "character 4 of the line is NUL"),
    ],
)
def test_an_input_in_another_dialect_is_refused(
    data: str, options: dict[str, Any], problem: str
) -> None:
    """The message says which option helps."""
    with pytest.raises(InputError) as caught:
        parsed(data, **options)
    assert caught.value.problem.startswith(problem)


def test_a_row_is_compared_with_the_header_that_the_user_gave() -> None:
    """The message says where the expected number is from."""
    [(_, message)] = parsed("1,2,3\n", header=("a", "b"))[1]
    assert message.startswith("the row has 3 cells; expected 2, as --header has; ")


def test_a_row_that_is_too_long_without_a_quote_character_names_the_option() -> None:
    """Its cells may be in quotes that are read as text."""
    [(_, message)] = parsed("a,b\n1,'x,y'\n", quotechar="")[1]
    assert message.endswith(
        "; --quotechar names the quote character of cells with a delimiter in them"
    )
