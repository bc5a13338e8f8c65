"""Read inputs twice, also those that can be read only once, such as standard input."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import ExitStack
from io import BufferedReader
from typing import IO, TYPE_CHECKING, Self

from forebay.cli._load.sources import STANDARD_INPUT, open_file, source_size

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK_BYTES = 64 * 1024


class KeptInputs:
    """Opens inputs any number of times.

    What is read of standard input, or of a pipe, is kept in a temporary file, which has no name and
    is removed in any case when the program ends. As a context manager, it removes the files.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._kept: dict[str, _KeptInput] = {}
        self._keeps = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def open(self, path: str) -> BufferedReader:
        """Open an input at its beginning.

        Args:
            path: a file, or `-` for standard input.

        Raises:
            OSError: the file cannot be opened.
        """
        if path != STANDARD_INPUT and source_size(path) is not None:
            return open_file(path)
        if path not in self._kept:
            if not self._keeps:
                return open_file(path)
            source = self._stack.enter_context(open_file(path))
            copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # the stack closes it
            self._kept[path] = _KeptInput(source, self._stack.enter_context(copy))
        return BufferedReader(_KeptReader(self._kept[path]))

    def stop_keeping(self) -> None:
        """Keep nothing of what is read from now on: no input is opened again."""
        self._keeps = False
        for kept in self._kept.values():
            kept.keeps = False


class _KeptInput:
    """What has been read of an input, in a temporary file.

    Args:
        source: the input.
        file: the temporary file, which is empty.

    Attributes:
        keeps: whether to keep what is read from now on.
    """

    def __init__(self, source: BufferedReader, file: IO[bytes]) -> None:
        self.keeps = True
        self._source = source
        self._file = file
        self._size = 0

    def read(self, position: int, size: int) -> bytes:
        """Return some bytes of the input from a position; nothing at its end.

        Raises:
            OSError: the input cannot be read, or the file cannot be written.
        """
        if position < self._size:
            return os.pread(self._file.fileno(), size, position)
        block = self._source.read1(_BLOCK_BYTES if self.keeps else size)
        if not self.keeps:
            return block
        rest = memoryview(block)
        while rest:
            try:
                rest = rest[os.write(self._file.fileno(), rest) :]
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"{error.strerror} in {tempfile.gettempdir()}, where --alter keeps what it "
                    f"reads from a pipe, to read it twice; TMPDIR names another folder",
                ) from error
        self._size += len(block)
        return block[:size]


class _KeptReader(io.RawIOBase):
    """Reads an input from its beginning."""

    def __init__(self, kept: _KeptInput) -> None:
        super().__init__()
        self._kept = kept
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._kept.read(self._position, len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
