"""Split a stream of bytes into lines of text, with one block of the stream in memory at a time."""

from __future__ import annotations

import codecs
import zipfile
import zlib
from io import BufferedIOBase

from forebay.cli._errors import InputError

BLOCK_BYTES = 64 * 1024
LONGEST_LINE = 64 * 1024 * 1024


class Lines:
    """An iterator over the lines of a stream, with their line ends.

    A line that is not UTF-8 or contains a NUL is returned too, and `fault` describes it. A reader
    whose rows span lines must see every line: it would read the rest of a bad row as new rows.

    Attributes:
        number: the number of lines returned so far.
        characters: the number of characters returned so far.
        fault: what is wrong with a line that was returned since a caller last set this to None.
    """

    def __init__(self, stream: BufferedIOBase, source: str) -> None:
        self.number = 0
        self.characters = 0
        self.fault: str | None = None
        self._stream = stream
        self._source = source
        self._ready: list[bytes] = []  # in reverse order
        self._rest = b""
        self._ended = False
        self._begun = False

    @property
    def waiting(self) -> bool:
        """Whether the next line must be read from the stream, which may block for any time."""
        return not self._ready

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        if not self._ready:
            self._fill()
        text = self._decode(self._ready.pop())
        self.number += 1
        self.characters += len(text)
        return text

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
        while not self._ended:
            block = self._read()
            self._ended = not block
            parts.append(block)
            size += len(block)
            if b"\n" in block:
                break
            if size > LONGEST_LINE:
                raise InputError(
                    self._source,
                    f"the line is longer than {LONGEST_LINE // 2**20} MiB; expected lines of text",
                    line=self.number + 1,
                )
        data = b"".join(parts)
        if not self._begun:
            self._begun = True
            data = data.removeprefix(codecs.BOM_UTF8)
        end = len(data) if self._ended else data.rindex(b"\n") + 1
        self._rest = data[end:]
        # bytes.splitlines splits at \n, \r and \r\n only; str.splitlines at eight others, too.
        self._ready = data[:end].splitlines(keepends=True)
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
