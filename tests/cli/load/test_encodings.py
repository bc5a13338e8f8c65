"""Inputs of any encoding become UTF-8."""

from __future__ import annotations

import codecs
import io
import os

import pytest

from forebay.cli._errors import InputError
from forebay.cli._load.encodings import Utf8Stream, is_text_encoding
from forebay.cli._load.lines import Lines

TEXT = "née,Łódź\r\n1,x\r\n"


def lines_of(data: bytes, encoding: str | None = None) -> Lines:
    return Lines(Utf8Stream(io.BytesIO(data), encoding), "it", 2**20)


@pytest.mark.parametrize("block", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TEXT.encode(), None),
        (TEXT.encode("utf-8-sig"), None),
        (TEXT.encode("utf-8-sig"), "utf-8"),
        (TEXT.encode("utf-16"), None),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), None),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "utf-16-be"),
        (TEXT.encode("utf-16-le"), "utf-16-le"),
        (TEXT.encode("utf-32"), "utf-32"),
        (TEXT.encode("cp1250"), "cp1250"),
        (TEXT.encode("gb18030"), "gb18030"),
        (TEXT.encode("utf-7"), "utf-7"),
    ],
)
def test_an_encoding_is_named_or_known_by_its_mark(
    data: bytes, encoding: str | None, block: int
) -> None:
    """No character is split between two reads, and the byte order mark is no part of the text."""
    stream = Utf8Stream(io.BytesIO(data), encoding)
    assert TEXT == b"".join(iter(lambda: stream.read1(block), b"")).decode()


@pytest.mark.parametrize(
    ("data", "encoding", "fault"),
    [
        (
            b"a\n\xc3\x81\x81\n",
            "cp1252",
            "the byte 0x81 after character 1 of the line is not cp1252",
        ),
        (
            b"a\nx\x82\n",
            "shift_jis",
            "the byte 0x82 after character 1 of the line is not shift_jis",
        ),
        (
            "a\nb".encode("utf-16") + b"c",
            None,
            "the byte 0x63 after character 1 of the line is not",
        ),
        ("a\n\ud800\n".encode("utf-16", "surrogatepass"), None, "the byte 0x00 after character 0"),
    ],
)
def test_bytes_that_are_not_text_are_a_fault_of_their_line(
    data: bytes, encoding: str | None, fault: str
) -> None:
    """The lines around it are read."""
    lines = lines_of(data, encoding)
    assert ("a\n", None) == (next(lines), lines.fault)
    next(lines)
    assert (lines.fault or "").startswith(fault)


def test_an_encoding_that_needs_a_mark_is_an_error_without_it() -> None:
    """The message names encodings that need none."""
    with pytest.raises(
        InputError,
        match="cannot be read: it does not begin with the byte order mark of utf-16; name",
    ):
        next(lines_of(b"abcd", "utf-16"))


def test_an_error_of_a_decoder_that_knows_no_bad_bytes_is_an_error_of_the_input() -> None:
    """Its own message is the reason."""
    with pytest.raises(InputError, match="cannot be read: Unsupported error handling"):
        next(lines_of(b"a\n", "idna"))


def test_a_mark_does_not_delay_a_row() -> None:
    """A row that is shorter than a mark, and does not begin as one, is returned at once."""
    inward, outward = os.pipe()
    with os.fdopen(inward, "rb") as stream, os.fdopen(outward, "wb", buffering=0) as writer:
        lines = Lines(Utf8Stream(stream, None), "it", 2**20)
        writer.write(b"a\n")
        assert "a\n" == next(lines)


@pytest.mark.parametrize("data", [b"\xef", b"\xef\xbb", b"\xff"])
def test_the_begin_of_a_mark_is_no_mark(data: bytes) -> None:
    """The input ends within it: its bytes are not text."""
    lines = lines_of(data, None)
    next(lines)
    assert (lines.fault or "").startswith(f"byte 1 of the line, 0x{data[0]:02x},")


@pytest.mark.parametrize(
    ("name", "known"),
    [("utf8", True), ("UTF-16", True), ("latin1", True), ("nope", False), ("base64", False)],
)
def test_only_encodings_of_text_are_accepted(name: str, known: bool) -> None:
    """Python has other codecs, too."""
    assert known == is_text_encoding(name)
