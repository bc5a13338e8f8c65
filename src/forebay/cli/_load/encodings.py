"""Convert an input of any encoding to UTF-8, with one block in memory at a time.

What follows reads UTF-8 only: a line ends at the same bytes in every input, and a limit in bytes
means the same for all.
"""

from __future__ import annotations

import codecs
from io import BufferedIOBase

_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MARKS = (codecs.BOM_UTF8, *_UTF_16_MARKS)
_BAD_BYTES = 0xDC00
"""A byte that is not text becomes this code point plus its value, as in PEP 383."""


def is_text_encoding(name: str) -> bool:
    """Return whether Python has an encoding of text with this name."""
    try:
        codecs.getincrementaldecoder(name)()
        b" ".decode(name, "replace")
    except (LookupError, UnicodeError, TypeError, ValueError):
        return False
    return True


def _keep_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(_BAD_BYTES + byte) for byte in bad), error.end


codecs.register_error("forebay.bytes", _keep_bytes)


def describe_bad_byte(text: str) -> str | None:
    """Return the first byte that is not text in a decoded text, such as `0x81`, or None."""
    for character in text:
        if _BAD_BYTES <= ord(character) < _BAD_BYTES + 256:
            return f"0x{ord(character) - _BAD_BYTES:02x}"
    return None


class Utf8Stream:
    """The bytes of an input in UTF-8, without a byte order mark.

    Bytes that are not text in the input's encoding become surrogates, which are not text in UTF-8
    either: a reader of lines finds them, and knows their line.

    Args:
        stream: the bytes of the input.
        encoding: the name of its encoding; None for UTF-8, or for UTF-16 if it begins with the
            byte order mark of UTF-16.

    Attributes:
        encoding: the name of the encoding, as messages show it.
    """

    def __init__(self, stream: BufferedIOBase, encoding: str | None) -> None:
        self._stream = stream
        self._declared = encoding
        self._decoder: codecs.IncrementalDecoder | None = None
        self._begun = False
        self._ended = False
        self._mark = "\ufeff"
        self.encoding = "UTF-8"

    def read1(self, size: int) -> bytes:
        """Return what one read of the input gives, in UTF-8; nothing at its end.

        Raises:
            Exception: the input cannot be read.
            UnicodeError: it has no byte order mark, which its encoding needs.
        """
        while not self._ended:
            block = self._stream.read1(size)
            self._ended = not block
            if not self._begun:
                block = self._begin(block)
            if self._decoder is not None:
                text = self._decode(self._decoder, block)
                if text:
                    text, self._mark = text.removeprefix(self._mark), ""
                block = text.encode("utf-8", "surrogatepass")
            if block:
                return block
        return b""

    def _decode(self, decoder: codecs.IncrementalDecoder, block: bytes) -> str:
        try:
            return decoder.decode(block, final=self._ended)
        except UnicodeError as error:
            if "BOM" not in str(error):
                raise
            raise UnicodeError(
                f"it does not begin with the byte order mark of {self.encoding}; name its encoding "
                f"with --encoding, such as utf-8, utf-16-le or utf-16-be"
            ) from error

    def _begin(self, block: bytes) -> bytes:
        """Find out the encoding, and remove the byte order mark of UTF-8."""
        while block and any(mark != block and mark.startswith(block) for mark in _MARKS):
            more = self._stream.read1(1)
            if not more:
                break
            block += more
        self._begun = True
        encoding = self._declared
        if encoding is None and block.startswith(_UTF_16_MARKS):
            encoding = "UTF-16"
        if encoding is None or codecs.lookup(encoding).name in {"utf-8", "utf-8-sig"}:
            return block.removeprefix(codecs.BOM_UTF8)
        self.encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("forebay.bytes")
        return block
