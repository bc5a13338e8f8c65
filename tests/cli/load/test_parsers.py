"""Lines are parsed into rows, and malformed rows into messages."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from forebay.cli._errors import InputError
from forebay.cli._load.column_types import RoundedFloat
from forebay.cli._load.lines import Lines
from forebay.cli._load.parsers import parse
from forebay.cli._load.sources import Format


def parsed(
    data: str | bytes, form: Format = Format.CSV, limit: int = 2**26
) -> tuple[Any, list[Any]]:
    raw = data if isinstance(data, bytes) else data.encode()
    header, records = parse(Lines(io.BytesIO(raw), "it", limit), "it", form)
    return header, list(records)


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
        ("1\n", "the row has 1 cells; expected 2, as in the header"),
        ("1,2,3\n", "the row has 3 cells; expected 2, as in the header"),
        ('1,"2\n', "a quote is opened and never closed; add the closing quote"),
        ('1,"2"3\n', "',' expected after '\"'"),
    ],
)
def test_a_malformed_csv_row_has_a_message(text: str, problem: str) -> None:
    """It names what was found and what was expected. The rows before it are parsed."""
    assert [(2, ["0", "0"]), (3, problem)] == parsed("a,b\n0,0\n" + text)[1]


@pytest.mark.parametrize("bad", ['1,"2"3', "1,2,3", "1,\0", "1,\udcff"])
def test_the_row_after_a_malformed_one_is_read(bad: str) -> None:
    """A bad row costs no other row."""
    data = f"a,b\n{bad}\n3,4\n".encode(errors="surrogateescape")
    assert (3, ["3", "4"]) == parsed(data)[1][-1]


def test_a_row_with_a_bad_line_is_refused_as_a_whole() -> None:
    """The rest of a row that spans lines is not read as new rows."""
    _, records = parsed(b'a,b\n1,"x\n\xff\n5,6"\n3,4\n')
    assert [(2, "byte 1 of the line, 0xff, is not UTF-8"), (5, ["3", "4"])] == records


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


@pytest.mark.parametrize("values", ["{},", "[],", "1,", '"a",'])
def test_an_object_of_too_many_values_is_refused(values: str) -> None:
    """Each value needs memory, many times that of its text; commas in strings are text."""
    many = values * 1_000_000
    text = f'{{"a": [{many}1]}}\n{{"a": {json.dumps(many)}}}\n'
    [(_, refused), (_, record)] = parsed(text, Format.NDJSON)[1]
    assert "the object has more than 1,000,000 values" == refused
    assert {"a": many} == record


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
    assert problem == str(caught.value)


def test_ndjson_has_one_object_per_line() -> None:
    """Values keep their types, and blank lines are skipped."""
    header, records = parsed('{"a": 1, "b": [null]}\n\n{"a": 0.5}\n', Format.NDJSON)
    assert header is None
    assert [(1, {"a": 1, "b": [None]}), (2, None), (3, {"a": 0.5})] == records


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "the line is not JSON: Expecting property name enclosed in double quotes at"),
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
    _, records = parsed(text + '\n{"a": 1}\n', Format.NDJSON)
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
    [(_, row)] = parsed(f'{{"a": {text}}}\n', Format.NDJSON)[1]
    assert float(text) == row["a"]
    assert is_rounded == isinstance(row["a"], RoundedFloat)
    assert text == getattr(row["a"], "text", text)


def test_whole_surrogate_pairs_are_text() -> None:
    """A character may be written as two escapes."""
    letter = "\U0001f600"
    assert [(1, {"a": letter})] == parsed(json.dumps({"a": letter}) + "\n", Format.NDJSON)[1]
