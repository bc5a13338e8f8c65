"""Split a stream of bytes into lines of text, with one block of the stream in memory at a time."""

from __future__ import annotations

import codecs
import zipfile
import zlib
from io import BufferedIOBase

from forebay.cli._errors import InputError

BLOCK_BYTES = 64 * 1024


class RowTooLongError(Exception):
    """A row of several lines is longer than a line may be. Its message is for the person."""


class Lines:
    """An iterator over the lines of a stream, with their line ends.

    A line that is not UTF-8 or contains a NUL is returned too, and `fault` describes it. A reader
    whose rows span lines must see every line: it would read the rest of a bad row as new rows.

    Args:
        stream: the bytes.
        source: the input's name, for errors.
        limit: the maximum length of a line, and of a row of several lines, in bytes.

    Attributes:
        number: the number of lines returned so far.
        characters: the number of characters returned so far.
        fault: what is wrong with a line that was returned since a caller last set this to None.
        limit: the maximum length of a line.
    """

    def __init__(self, stream: BufferedIOBase, source: str, limit: int) -> None:
        self.number = 0
        self.characters = 0
        self.fault: str | None = None
        self.limit = limit
        self._stream = stream
        self._source = source
        self._ready: list[bytes] = []  # in reverse order
        self._rest = b""
        self._ended = False
        self._begun = False
        self._row_bytes = 0

    @property
    def waiting(self) -> bool:
        """Whether the next line must be read from the stream, which may block for any time."""
        return not self._ready

    def __iter__(self) -> Lines:
        return self

    def begin_row(self) -> None:
        """Begin to count the bytes of a row."""
        self._row_bytes = 0

    def __next__(self) -> str:
        """Return the next line.

        Raises:
            InputError: the stream cannot be read, or the line is too long.
            RowTooLongError: the row is too long. It ends with this line.
        """
        if not self._ready:
            self._fill()
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
            byte = f"byte {error.start + 1} of the line, 0x{raw[error.start]:02x},"
            self.fault = f"{byte} is not UTF-8"
            return raw.decode("latin-1")  # the reader needs the delimiters, quotes and line ends
        if "\0" in text:
            self.fault = f"character {text.index(chr(0)) + 1} of the line is NUL; expected text"
        return text

    def _fill(self) -> None:
        """Read complete lines from the stream: those of one read, and at least one line."""
        parts = [self._rest]
        size = len(self._rest)
        self._rest = b""
        while not self._ended:
            block = self._read()
            self._ended = not block
            end = block.rfind(b"\n") + 1
            parts.append(block[:end] if end else block)
            if end:
                self._rest = block[end:]
                break
            size += len(block)
            if size > self.limit:
                raise self._line_too_long(self.number + 1)
        data = b"".join(parts)
        del parts  # a long line would be in memory once more
        if not self._begun:
            self._begun = True
            data = data.removeprefix(codecs.BOM_UTF8)
        # bytes.splitlines splits at \n, \r and \r\n only; str.splitlines at eight others, too.
        self._ready = data.splitlines(keepends=True)
        self._ready.reverse()
        if not self._ready:
            raise StopIteration

    def _read(self) -> bytes:
        try:
            # read1 returns what a pipe holds now, so a row does not wait for the rows after it.
            return self._stream.read1(BLOCK_BYTES)
        except (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
            raise InputError(
                self._source,
                f"the input cannot be read after line {self.number}: {error}",
                line=self.number + 1,
            ) from error
