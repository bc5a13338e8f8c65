"""Bytes become lines of text."""

from __future__ import annotations

import io
import os

import pytest

from forebay.cli._errors import InputError
from forebay.cli._load import lines as lines_module
from forebay.cli._load.lines import Lines


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
def test_lines_end_at_line_ends_alone(data: bytes, lines: list[str]) -> None:
    r"""\n, \r\n and \r end a line, nothing else does; a byte order mark is not text."""
    assert lines == list(Lines(io.BytesIO(data), "it"))


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_lines_do_not_depend_on_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the bytes come, the lines are the same, line ends and letters whole."""
    monkeypatch.setattr(lines_module, "BLOCK_BYTES", block)
    data = "é,1\r\n\r\n\ufeffü\nx".encode()
    assert ["é,1\r\n", "\r\n", "\ufeffü\n", "x"] == list(Lines(io.BytesIO(data), "it"))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"a\xffb\n", "byte 0xff at 2 is not UTF-8 text"),
        (b"a\0b\n", "a NUL character at 2; expected text"),
    ],
)
def test_a_line_that_is_no_text_is_passed_on_with_its_fault(data: bytes, fault: str) -> None:
    """The reader sees every line, and what is wrong with it."""
    lines = Lines(io.BytesIO(b"ok\n" + data), "it")
    faults = [lines.fault for _ in lines]
    assert (2, [None, fault]) == (lines.number, faults)


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, whatever the input: a line past the limit ends the reading."""
    monkeypatch.setattr(lines_module, "LONGEST_LINE", 2**20)
    lines = Lines(io.BytesIO(b"a\n" + b"x" * 2**21), "it")
    assert next(lines) == "a\n"
    with pytest.raises(InputError, match="it, line 2: a line of more than 1 MiB"):
        next(lines)


def test_a_line_is_passed_on_before_the_next_one_is_there() -> None:
    """Reading takes from a pipe what is in it, and says where the next line must be waited for."""
    inward, outward = os.pipe()
    with os.fdopen(inward, "rb") as stream, os.fdopen(outward, "wb", buffering=0) as writer:
        lines = Lines(stream, "it")
        writer.write(b"a\nb\nc")
        assert ("a\n", False) == (next(lines), lines.waiting)
        assert ("b\n", True) == (next(lines), lines.waiting)
        writer.close()
        assert ["c"] == list(lines)
