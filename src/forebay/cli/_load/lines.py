"""Split a stream of bytes into lines of text, with one block of the stream in memory at a time."""

from __future__ import annotations

import codecs

from forebay.cli._errors import InputError
from forebay.cli._load.encodings import Utf8Stream, describe_bad_byte
from forebay.cli._load.limits import LONG, MOST_LINES
from forebay.cli._load.records import RowTooLongError
from forebay.cli._load.sources import READ_ERRORS, read_problem

_MARK = "\ufeff"
BLOCK_BYTES = 128 * 1024

ENCODING_ADVICE = "; if the input has another encoding, name it with --encoding, such as cp1252"
_NUL_ADVICE = (
    "; if the input has another encoding, name it with --encoding, such as utf-16-le or utf-16-be"
)
_MARK_ADVICE = (
    "; were files joined? load each of them: forebay load FILE FILE ..., or remove the mark: "
    "sed 's/^\\xEF\\xBB\\xBF//' FILE | forebay load - ..."
)


class Lines:
    """An iterator over the lines of a stream, with their line ends.

    A line that is not text, contains a NUL or begins with a byte order mark, which nobody sees, is
    returned too, and `fault` describes it. A reader whose rows span lines must see every line: it
    would read the rest of a bad row as new rows.

    Args:
        stream: the bytes, in UTF-8.
        source: the input's name, for errors.
        limit: the maximum length of a line, and of a row of several lines, in bytes.

    Attributes:
        number: the number of lines returned so far.
        characters: the number of characters returned so far.
        fault: what is wrong with a line that was returned since a caller last set this to None.
        limit: the maximum length of a line.
    """

    def __init__(self, stream: Utf8Stream, source: str, limit: int) -> None:
        self.number = 0
        self.characters = 0
        self.fault: str | None = None
        self.limit = limit
        self._stream = stream
        self._source = source
        self._block = b""  # lines that are not split yet, all before `_rest`
        self._ready: list[bytes] = []  # in reverse order, all before `_block`
        self._rest = b""
        self._ended = False
        self._row_bytes = 0
        self._row: list[bytes] = []

    @property
    def waiting(self) -> bool:
        """Whether the next line must be read from the stream, which may block for any time."""
        return not (self._ready or self._block)

    def __iter__(self) -> Lines:
        return self

    @property
    def row_text(self) -> str:
        """The lines since `begin_row`, without the last line end."""
        return b"".join(self._row).decode(errors="backslashreplace").rstrip("\r\n")

    def begin_row(self) -> None:
        """Begin a row, and to count its bytes."""
        self._row_bytes = 0
        self._row.clear()

    def peek(self, characters: int = 1) -> list[str]:
        """Return the next lines, without moving on.

        Args:
            characters: how many characters to read; fewer if the input ends.

        Raises:
            InputError: the stream cannot be read, or a line is too long.
        """
        self._split()
        while sum(map(len, self._ready)) < characters and not self._ended:
            self._fill()
            self._split()
        return [raw.decode(errors="replace") for raw in reversed(self._ready)]

    def peek_block(self) -> str | None:
        """Return the next lines, those of one read, without moving on.

        Returns:
            The lines, together no longer than a line may be; None if they are longer, one of them
            may have a fault, or the input ends.

        Raises:
            InputError: the stream cannot be read, or a line is too long.
        """
        if self._ready:
            self._block = b"".join([*reversed(self._ready), self._block])
            self._ready.clear()
        if not self._block:
            self._fill()
        if not 0 < len(self._block) <= min(self.limit, LONG):
            return None
        if b"\0" in self._block or codecs.BOM_UTF8 in self._block:
            return None
        try:
            return self._block.decode()
        except UnicodeDecodeError:
            return None

    def skip_block(self, lines: int, characters: int) -> None:
        """Move on past the lines of `peek_block`, with these numbers of lines and characters."""
        self._block = b""
        self.number += lines
        self.characters += characters

    def __next__(self) -> str:
        """Return the next line.

        Raises:
            InputError: the stream cannot be read, or the line is too long.
            RowTooLongError: the row is too long. It ends with this line.
        """
        if not self._ready:
            if not self._block:
                self._fill()
            self._split()
            if not self._ready:
                raise StopIteration
        raw = self._ready.pop()
        self.number += 1
        if len(raw) > self.limit:
            raise self._line_too_long(self.number)
        self._row_bytes += len(raw)
        if self._row_bytes > self.limit:
            raise RowTooLongError(
                f"the row is longer than {self.limit:,} bytes, the limit of --max-line-bytes; is a "
                f"closing quote missing?"
            )
        self._row.append(raw)
        if len(self._row) > MOST_LINES:
            raise RowTooLongError(
                f"the row has more than {MOST_LINES:,} lines; is a closing quote missing?"
            )
        text = self._decode(raw)
        self.characters += len(text)
        return text

    def _line_too_long(self, number: int) -> InputError:
        problem = f"the line is longer than {self.limit:,} bytes; expected lines of text, or a"
        return InputError(self._source, f"{problem} larger --max-line-bytes", line=number)

    def _decode(self, raw: bytes) -> str:
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            self.fault = self._describe(raw, error.start)
            return raw.decode("latin-1")  # the reader needs the delimiters, quotes and line ends
        if "\0" in text:
            place = text.index("\0") + 1
            self.fault = f"character {place} of the line is NUL; expected text{_NUL_ADVICE}"
        if text.startswith(_MARK):
            self.fault = f"the line begins with a byte order mark{_MARK_ADVICE}"
        return text

    def _describe(self, raw: bytes, start: int) -> str:
        """Describe the byte of a line that is not text."""
        place = f"byte {start + 1} of the line, 0x{raw[start]:02x},"
        if self._stream.encoding != "UTF-8":
            before = raw[:start].decode()
            byte = describe_bad_byte(raw.decode("utf-8", "surrogatepass"))
            place = f"the byte {byte} after character {len(before)} of the line"
        return f"{place} is not {self._stream.encoding}{ENCODING_ADVICE}"

    def _fill(self) -> None:
        """Read complete lines from the stream: those of one read, and at least one line."""
        parts = [self._rest]
        size = len(self._rest)
        self._rest = b""
        while not self._ended:
            block = read_block(self._stream, self._source, self.number + len(self._ready))
            self._ended = not block
            end = block.rfind(b"\n") + 1
            parts.append(block[:end] if end else block)
            if end:
                self._rest = block[end:]
                break
            size += len(block)
            if size > self.limit:
                raise self._line_too_long(self.number + len(self._ready) + 1)
        self._block += b"".join(parts)

    def _split(self) -> None:
        """Split the block into lines."""
        # bytes.splitlines splits at \n, \r and \r\n only; str.splitlines at eight others, too.
        lines = self._block.splitlines(keepends=True)
        self._block = b""
        lines.reverse()
        self._ready = lines + self._ready


def read_block(stream: Utf8Stream, source: str, line: int) -> bytes:
    """Return what one read of an input gives: what a pipe holds now, so that no row waits.

    Args:
        stream: the input.
        source: its name, for errors.
        line: the number of the last line that has been read.

    Raises:
        InputError: the input cannot be read.
    """
    try:
        return stream.read1(BLOCK_BYTES)
    except READ_ERRORS as error:
        place = f" after line {line}" if line else ""
        problem = f"the input cannot be read{place}: {read_problem(error)}"
        raise InputError(source, problem, line=line + 1) from error
