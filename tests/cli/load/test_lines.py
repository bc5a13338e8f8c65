"""A stream of bytes is split into lines of text."""

from __future__ import annotations

import io
import os
from io import BufferedIOBase

import pytest

from forebay.cli._errors import InputError
from forebay.cli._load import lines as lines_module
from forebay.cli._load.encodings import Utf8Stream
from forebay.cli._load.lines import Lines
from forebay.cli._load.records import RowTooLongError


def lines_of(stream: BufferedIOBase, source: str, limit: int = 2**20) -> Lines:
    return Lines(Utf8Stream(stream, None), source, limit)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\nb\n", ["a\n", "b\n"]),
        (b"a\r\nb", ["a\r\n", "b"]),
        (b"a\rb\r", ["a\r", "b\r"]),
        (b"\n\n", ["\n", "\n"]),
        (b"\xef\xbb\xbfa\n", ["a\n"]),
        (b"\xef\xbb\xbf", []),
        ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d\n"]),
    ],
)
def test_only_line_ends_end_a_line(data: bytes, lines: list[str]) -> None:
    r"""A line ends at \n, \r\n and \r only, and a byte order mark is skipped."""
    assert lines == list(lines_of(io.BytesIO(data), "it"))


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_lines_do_not_depend_on_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines are the same for every size of a block: no line end and no letter is split."""
    monkeypatch.setattr(lines_module, "BLOCK_BYTES", block)
    data = "é,1\r\n\r\n\ufeffü\nx".encode()
    assert ["é,1\r\n", "\r\n", "\ufeffü\n", "x"] == list(lines_of(io.BytesIO(data), "it"))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"a\xffb\n", "byte 2 of the line, 0xff, is not UTF-8"),
        (b"a\0b\n", "character 2 of the line is NUL"),
    ],
)
def test_a_line_that_is_not_text_is_returned_with_its_fault(data: bytes, fault: str) -> None:
    """The reader sees every line."""
    lines = lines_of(io.BytesIO(b"ok\n" + data), "it")
    faults = [(lines.fault or "").partition(";")[0] for _ in lines]
    assert (2, ["", fault]) == (lines.number, faults)


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_past_the_limit_is_an_error(
    block: int, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line without an end does not fill the memory, and blocks do not matter."""
    monkeypatch.setattr(lines_module, "BLOCK_BYTES", block)
    for length, fits in ((100, True), (101, False)):
        text = b"x" * (length - len(end)) + end
        lines = lines_of(io.BytesIO(b"a\n" + text + (b"b\n" if end else b"")), "it", limit=100)
        assert "a\n" == next(lines)
        lines.begin_row()
        if fits:
            assert text.decode() == next(lines)
        else:
            with pytest.raises(InputError, match="it, line 2: the line is longer than 100 bytes"):
                next(lines)


def test_a_row_past_the_limit_ends_with_its_line() -> None:
    """The next row begins with the line after it."""
    lines = lines_of(io.BytesIO(b"xxxx\n" * 30), "it", limit=100)
    lines.begin_row()
    with pytest.raises(RowTooLongError, match="the row is longer than 100 bytes"):
        list(lines)
    assert 21 == lines.number
    lines.begin_row()
    assert 9 == len(list(lines))


def test_a_row_of_too_many_lines_ends_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line needs memory and time, however short it is."""
    monkeypatch.setattr(lines_module, "MOST_LINES", 20)
    lines = lines_of(io.BytesIO(b"\n" * 30), "it")
    lines.begin_row()
    with pytest.raises(RowTooLongError, match="the row has more than 20 lines"):
        list(lines)
    assert 21 == lines.number
    lines.begin_row()
    assert 9 == len(list(lines))


def test_a_line_is_returned_before_the_next_one_arrives() -> None:
    """A read returns what a pipe holds, and `waiting` is true if the next line may block."""
    inward, outward = os.pipe()
    with os.fdopen(inward, "rb") as stream, os.fdopen(outward, "wb", buffering=0) as writer:
        lines = lines_of(stream, "it")
        writer.write(b"a\nb\nc")
        assert ("a\n", False) == (next(lines), lines.waiting)
        assert ("b\n", True) == (next(lines), lines.waiting)
        writer.close()
        assert ["c"] == list(lines)
