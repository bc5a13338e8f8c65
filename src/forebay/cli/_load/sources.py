"""Open an input: a file or standard input, plain, compressed, or in a zip archive."""

from __future__ import annotations

import enum
import errno
import gzip
import os
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path, PurePath
from typing import IO, cast

from forebay._errors import format_count
from forebay.cli._errors import InputError
from forebay.cli._output import printable

STANDARD_INPUT = "-"

# The first bytes show whether a file is compressed, more reliably than its name: RFC 1952 (gzip),
# RFC 8878 (zstd), APPNOTE.TXT 4.3.7 and 4.3.16 (zip; an empty archive has only the second).
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OTHER_FILES = {
    b"SQLi": "an SQLite database; open it, or export its table as CSV",
    b"PAR1": "a Parquet file; export it as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
    b"BZh": "compressed by bzip2; decompress it with bzcat",
    b"\xfd7zX": "compressed by xz; decompress it with xzcat",
}
"""Files that people take for text, by their first bytes."""
_WORKBOOK_MEMBERS = {"[Content_Types].xml", "mimetype"}  # of Office Open XML, and of OpenDocument


class Format(enum.Enum):
    """The format of an input's rows."""

    CSV = "csv"
    TSV = "tsv"
    NDJSON = "ndjson"
    JSON = "json"


_FORMATS = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".json": Format.JSON,
}
_COMPRESSED = {".gz", ".zip", ".zst"}


@dataclass(frozen=True)
class Source:
    """An open input.

    Attributes:
        name: the input's name, as messages show it.
        format: the format of its rows.
        stream: its bytes, decompressed.
        file: its bytes as they are on the disk; its position shows the progress.
    """

    name: str
    format: Format
    stream: BufferedIOBase
    file: IO[bytes]


def source_name(path: str) -> str:
    """Return the name of an input, as messages show it."""
    return "standard input" if path == STANDARD_INPUT else printable(path)


def source_size(path: str) -> int | None:
    """Return the size of an input in bytes, or None if it is not a regular file."""
    try:
        status = os.fstat(0) if path == STANDARD_INPUT else Path(path).stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def format_of(name: str) -> Format | None:
    """Return the format for a file's extension, or None, without that of its compression."""
    path = PurePath(name.lower())
    if path.suffix in _COMPRESSED:
        path = path.with_suffix("")
    return _FORMATS.get(path.suffix)


def open_file(path: str) -> BufferedReader:
    """Open an input.

    Args:
        path: a file, or `-` for standard input.

    Raises:
        OSError: the file cannot be opened.
    """
    if path == STANDARD_INPUT:
        if sys.__stdin__ is None:  # closed at the start, so descriptor 0 is now another file
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        # Not sys.stdin.buffer: a thread that waits in a read of it holds its lock, and Python
        # aborts when it finds that lock held at exit.
        return open(0, "rb", closefd=False)
    return Path(path).open("rb")


@contextmanager
def open_source(
    path: str,
    declared: Format | None,
    usual: Format | None,
    open_file: Callable[[str], BufferedReader] = open_file,
) -> Generator[Source]:
    """Open an input, and decompress it if it is compressed.

    Args:
        path: a file, or `-` for standard input.
        declared: the format. None means the format of the file's extension.
        usual: the format of a file whose extension shows none. Standard input is CSV.
        open_file: opens the path.

    Raises:
        InputError: the input cannot be opened, is a zip archive that does not hold exactly one
            file, or has an unknown extension and no declared format.
    """
    name = source_name(path)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_file(path))
            stream, inner = _decompress(name, file, stack)
        except READ_ERRORS as error:
            raise InputError(name, f"cannot be read: {read_problem(error)}") from error
        found = declared or format_of(inner) or usual
        if found is None and path == STANDARD_INPUT:
            found = Format.CSV
        if found is None:
            raise InputError(
                name,
                f"the format is unknown, since the name {PurePath(inner).name!r} ends in none of "
                f"{', '.join(_FORMATS)}; name the format with --format",
            )
        yield Source(name, found, stream, file)


def _decompress(name: str, file: BufferedReader, stack: ExitStack) -> tuple[BufferedIOBase, str]:
    """Return the decompressed bytes, and the name whose extension shows their format."""
    start = file.peek(4)[:4]
    if start.startswith(_GZIP):
        return stack.enter_context(gzip.GzipFile(fileobj=file)), name
    if start.startswith(_ZSTD):
        try:
            return stack.enter_context(_open_zstd(file)), name
        except ModuleNotFoundError as error:
            raise InputError(
                name,
                "the input is compressed by zstd, and the package backports.zstd is missing; to "
                "install it, run: pip install 'forebay[cli]'",
            ) from error
    if start.startswith(_ZIP):
        return _open_member(name, _seekable(file, stack), stack)
    for magic, what in _OTHER_FILES.items():
        if start.startswith(magic):
            raise InputError(name, f"the input is {what}")
    return file, name


def _open_zstd(file: IO[bytes]) -> BufferedIOBase:
    """Return the decompressed bytes, whose read errors are OSError."""
    if sys.version_info >= (3, 14):  # pragma: no cover  # newer Python
        from compression import zstd  # noqa: PLC0415  # few inputs need it
    else:
        from backports import zstd  # noqa: PLC0415  # few inputs need it

    class File(zstd.ZstdFile):
        def read1(self, size: int | None = -1) -> bytes:
            try:
                return super().read1(size)
            except zstd.ZstdError as error:
                raise OSError(str(error)) from error

    return cast(BufferedIOBase, File(file))


def _open_member(name: str, file: IO[bytes], stack: ExitStack) -> tuple[BufferedIOBase, str]:
    """Return the only file in a zip archive, and its name."""
    archive = stack.enter_context(zipfile.ZipFile(file))
    # Finder adds a shadow file below __MACOSX for each file in the archive.
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if _WORKBOOK_MEMBERS.intersection(member.filename for member in members):
        raise InputError(name, "the input is a spreadsheet; save the sheet as CSV")
    if len(members) != 1:
        count = format_count(len(members), "file")
        advice = "expected exactly one file; extract the files, and load them"
        raise InputError(name, f"a zip archive of {count}; {advice}")
    member = stack.enter_context(archive.open(members[0]))
    return cast(BufferedIOBase, member), members[0].filename


def _seekable(file: BufferedReader, stack: ExitStack) -> IO[bytes]:
    """Return a file that can be read from its end, where a zip archive has its directory."""
    if file.seekable():
        return file
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
    shutil.copyfileobj(file, copy)
    return copy


# zipfile raises RuntimeError for an encrypted member and an unknown method.
READ_ERRORS = (OSError, EOFError, RuntimeError, UnicodeError, zlib.error, zipfile.BadZipFile)
"""What reading an input raises."""


def read_problem(error: Exception) -> str:
    """Return the reason why an input cannot be read."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
