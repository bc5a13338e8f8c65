"""Open an input: a file or standard input, plain, gzipped, or in a zip archive."""

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
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader
from pathlib import Path, PurePath
from typing import IO, cast

from forebay.cli._errors import InputError
from forebay.cli._output import printable

STANDARD_INPUT = "-"

# The first bytes show whether a file is compressed, more reliably than its name: RFC 1952 (gzip),
# APPNOTE.TXT 4.3.7 and 4.3.16 (zip; an empty archive has only the second).
_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


class Format(enum.Enum):
    """The format of an input's rows."""

    CSV = "csv"
    TSV = "tsv"
    NDJSON = "ndjson"


_FORMATS = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
}


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
    """Return the format for a file's extension, or None; a final `.gz` or `.zip` is ignored."""
    path = PurePath(name.lower())
    if path.suffix in {".gz", ".zip"}:
        path = path.with_suffix("")
    return _FORMATS.get(path.suffix)


@contextmanager
def open_source(path: str, declared: Format | None) -> Generator[Source]:
    """Open an input, and decompress it if it is compressed.

    Args:
        path: a file, or `-` for standard input.
        declared: the format. None means the format of the file's extension, and CSV for standard
            input.

    Raises:
        InputError: the input cannot be opened, is a zip archive that does not hold exactly one
            file, or has an unknown extension and no declared format.
    """
    name = source_name(path)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(_open_file(path))
            stream, inner = _decompress(name, file, stack)
        except (OSError, RuntimeError, zipfile.BadZipFile) as error:
            # zipfile raises RuntimeError for an encrypted member and an unknown method.
            raise InputError(name, _reason(error)) from error
        found = declared or format_of(inner)
        if found is None and path == STANDARD_INPUT:
            found = Format.CSV
        if found is None:
            raise InputError(
                name,
                f"the format is unknown, since the name {PurePath(inner).name!r} ends in none of "
                f"{', '.join(_FORMATS)}; name the format with --format",
            )
        yield Source(name, found, stream, file)


def _open_file(path: str) -> BufferedReader:
    if path == STANDARD_INPUT:
        if sys.__stdin__ is None:  # closed at the start, so descriptor 0 is now another file
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        # Not sys.stdin.buffer: a thread that waits in a read of it holds its lock, and Python
        # aborts when it finds that lock held at exit.
        return open(0, "rb", closefd=False)
    return Path(path).open("rb")


def _decompress(name: str, file: BufferedReader, stack: ExitStack) -> tuple[BufferedIOBase, str]:
    """Return the decompressed bytes, and the name whose extension shows their format."""
    start = file.peek(4)[:4]
    if start.startswith(_GZIP):
        return stack.enter_context(gzip.GzipFile(fileobj=file)), name
    if not start.startswith(_ZIP):
        return file, name
    archive = stack.enter_context(zipfile.ZipFile(_seekable(file, stack)))
    # Finder adds a shadow file below __MACOSX for each file in the archive.
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        raise InputError(name, f"a zip archive of {len(members)} files; expected exactly one file")
    member = stack.enter_context(archive.open(members[0]))
    return cast(BufferedIOBase, member), members[0].filename


def _seekable(file: BufferedReader, stack: ExitStack) -> IO[bytes]:
    """Return a file that can be read from its end, where a zip archive has its directory."""
    if file.seekable():
        return file
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
    shutil.copyfileobj(file, copy)
    return copy


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror is not None:
        return f"cannot be read: {error.strerror}"
    return f"cannot be read: {error}"
