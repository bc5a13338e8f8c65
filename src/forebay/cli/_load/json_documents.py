"""Parse an array of JSON objects, or one object after the other, with bounded memory.

An object may have any number of lines, and an array of many objects may be one line.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from forebay.cli._errors import InputError
from forebay.cli._load.encodings import Utf8Stream
from forebay.cli._load.json_rows import (
    TOO_MANY_VALUES,
    as_row,
    name_type,
    new_decoder,
)
from forebay.cli._load.limits import TOO_DEEP, has_too_many_values
from forebay.cli._load.lines import ENCODING_ADVICE, read_block
from forebay.cli._load.options import InputOptions
from forebay.cli._load.records import Record, Records

_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_TOKEN = 16
"""Characters. An error nearer to the end of what has been read may be a token that goes on."""
_STEP = 1024 * 1024
"""How many characters are added at most to an incomplete object, after its next brace, before it is
decoded again."""


def parse_json(stream: Utf8Stream, source: str, options: InputOptions) -> Records:
    """Return the rows of an input.

    Args:
        stream: the input's bytes, in UTF-8.
        source: its name, for errors.
        options: how to read it.
    """
    document = _Document(stream, source, options)
    return Records(None, document.rows(), document)


class _Document:
    """The objects of an input, and the text that is read and not yet decoded."""

    def __init__(self, stream: Utf8Stream, source: str, options: InputOptions) -> None:
        self._stream = stream
        self._source = source
        self._options = options
        self._decode_bytes = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._problems: list[str] = []
        self._decode = new_decoder(self._problems.append).raw_decode
        self._text = ""
        self._at = 0  # the next character of the text
        self._line = 1  # its line
        self._ended = False
        self.row_text = ""
        self.characters = 0
        self.waiting = True

    def rows(self) -> Iterator[Record]:
        """Yield the objects.

        Before a read that may block, a record without a row is yielded, and `waiting` is true.

        Raises:
            InputError: the input cannot be read, or is not JSON. The objects after the error are
                not found, since it does not say where the next one begins.
        """
        opened = closed = comma = False
        count = 0
        while True:
            space = _SPACE.match(self._text, self._at)
            self._advance(space.end() if space else self._at)
            following = self._text[self._at : self._at + 1]
            if not following:
                if self._ended:
                    break
                yield from self._wait(1)
                continue
            if closed:
                raise self._error("text follows the end of the array; expected one array")
            if following == "," and not comma:
                comma = True
                self._advance(self._at + 1)
            elif not opened and not count and not comma and following == "[":
                opened = True
                self._advance(self._at + 1)
            elif opened and not comma and following == "]":
                closed = True
                self._advance(self._at + 1)
            elif comma and opened and count and following == "]":
                raise self._error("a comma follows the last object; remove it")
            elif comma != (opened and count > 0) or following == "]":
                raise self._error("a comma is missing or too many between two objects")
            else:
                count += 1
                comma = False
                yield from self._object()
        if opened and not closed:
            raise self._error("the array does not end; is the file complete?")

    def _object(self) -> Iterator[Record]:
        """Yield the object that begins here."""
        while True:
            self._problems.clear()
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._is_final(error):
                    at_end = error.pos >= len(self._text.rstrip())
                    hint = "; is the file complete?" if at_end else ""
                    problem = f"the input is not JSON: {error.msg}{hint}"
                    raise self._error(problem, error.pos) from error
            except ValueError as error:
                raise self._error(f"the input is not JSON: {error}") from error
            except RecursionError as error:
                raise self._error(TOO_DEEP) from error
            else:
                if end < len(self._text) or self._ended or isinstance(value, dict):
                    break  # otherwise it may be a number that goes on
            length = len(self._text) - self._at
            if length > self._options.max_line_bytes:
                limit = f"{self._options.max_line_bytes:,} characters, the limit of"
                raise self._error(f"the object is longer than {limit} --max-line-bytes")
            yield from self._wait(min(length, _STEP), through="}")
            # What is before the next brace belongs to this object.
            if has_too_many_values(self._text[: self._text.find("}", length)]):
                raise self._error(TOO_MANY_VALUES)
        line = self._line
        self.row_text = self._text[self._at : end]
        self._advance(end)
        yield line, self._as_row(value)

    def _is_final(self, error: json.JSONDecodeError) -> bool:
        """Return whether more text could not correct the error."""
        if self._ended:
            return True
        is_near = error.pos > len(self._text) - _LONGEST_TOKEN
        return not is_near and not error.msg.startswith("Unterminated string")

    def _as_row(self, value: object) -> dict[str, Any] | str:
        if self._problems:
            return f"the object is not JSON: {self._problems[0]}"
        if not isinstance(value, dict):
            hint = ""
            if isinstance(value, list):
                hint = (
                    "; to load arrays as rows, run: jq -r '.[] | @csv' FILE | forebay load - "
                    "--no-headers ..."
                )
            return f"the value is {name_type(value)}; expected objects{hint}"
        if not self.row_text.isascii():
            try:
                self.row_text.encode()
            except UnicodeEncodeError:
                self.row_text = self.row_text.encode(errors="surrogateescape").decode(
                    errors="backslashreplace"
                )
                return f"the object has bytes that are not {self._stream.encoding}{ENCODING_ADVICE}"
        return as_row(value, self.row_text, self._options)

    def _advance(self, end: int) -> None:
        self._line += self._text.count("\n", self._at, end)
        self.characters += end - self._at
        self._at = end

    def _wait(self, characters: int, *, through: str = "") -> Iterator[Record]:
        """Read more text.

        Args:
            characters: how many characters to read; fewer if the input pauses or ends.
            through: what an object needs to be complete: without it, to decode again is in vain.
        """
        self.waiting = True
        yield self._line, None
        self.waiting = False
        parts = [self._text[self._at :]]
        size, limit = len(parts[0]), self._options.max_line_bytes
        characters += size
        found = not through
        while not self._ended and (size < characters or not found) and size <= limit:
            block = read_block(self._stream, self._source, self._line - 1)
            self._ended = not block
            parts.append(self._decode_bytes(block, final=self._ended))
            size += len(parts[-1])
            found = found or through in parts[-1]
            if found and block.rstrip().endswith((b"}", b"]")):
                break  # a pipe may have paused after an object
        self._text = "".join(parts)
        self._at = 0

    def _error(self, problem: str, place: int | None = None) -> InputError:
        start = self._at
        line = self._line + self._text.count("\n", start, start if place is None else place)
        return InputError(self._source, problem, line=line)
