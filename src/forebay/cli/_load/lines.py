"""Cuts a stream of bytes into lines of text, one block of the stream in memory at a time."""

from __future__ import annotations

import codecs
import zipfile
import zlib
from io import BufferedIOBase

from forebay.cli._errors import InputError

BLOCK_BYTES = 64 * 1024
LONGEST_LINE = 64 * 1024 * 1024


class Lines:
    """An iterator over a stream's lines, their ends kept.

    A line that is not UTF-8, or has a NUL in it, is passed on all the same, and `fault` says what
    is wrong with it: a reader whose rows may span lines must see all of them, lest it take the
    rest of a bad row for rows.

    Attributes:
        number: how many lines were passed on.
        fault: what was wrong with lines passed on since this was last set to None.
    """

    def __init__(self, stream: BufferedIOBase, source: str) -> None:
        self.number = 0
        self.fault: str | None = None
        self._stream = stream
        self._source = source
        self._ready: list[bytes] = []  # the last one comes first
        self._rest = b""
        self._ended = False
        self._begun = False

    @property
    def waiting(self) -> bool:
        """Whether the next line must be read from the stream, which may take any time."""
        return not self._ready

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        if not self._ready:
            self._fill()
        raw = self._ready.pop()
        self.number += 1
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            self.fault = f"byte 0x{raw[error.start]:02x} at {error.start + 1} is not UTF-8 text"
            return raw.decode(errors="replace")
        if "\0" in text:
            self.fault = f"a NUL character at {text.index(chr(0)) + 1}; expected text"
        return text

    def _fill(self) -> None:
        """Take whole lines from the stream: as many as one read brings, and at least one."""
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
                    f"a line of more than {LONGEST_LINE // 2**20} MiB; expected lines of text",
                    line=self.number + 1,
                )
        data = b"".join(parts)
        if not self._begun:
            self._begun = True
            data = data.removeprefix(codecs.BOM_UTF8)
        end = len(data) if self._ended else data.rindex(b"\n") + 1
        self._rest = data[end:]
        # Of bytes, this splits at \n, \r and \r\n alone; of str, at eight other characters too.
        self._ready = data[:end].splitlines(keepends=True)
        self._ready.reverse()
        if not self._ready:
            raise StopIteration

    def _read(self) -> bytes:
        try:
            # read1 returns what is there: a row need not wait in a pipe for the rows after it.
            return self._stream.read1(BLOCK_BYTES)
        except (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
            raise InputError(
                self._source,
                f"cannot be read past line {self.number}: {error}",
                line=self.number + 1,
            ) from error
