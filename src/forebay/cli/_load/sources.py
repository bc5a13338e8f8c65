"""Opens an input: a file or standard input, plain or packed, and tells its format by its name."""

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

# A file says by its first bytes whether it is packed, and is right more often than its name:
# RFC 1952 (gzip), APPNOTE.TXT 4.3.7 and 4.3.16 (zip; an empty archive has only the second).
_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


class Format(enum.Enum):
    """How rows are written in an input."""

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
        name: what messages call it.
        format: how its rows are written.
        stream: its bytes, unpacked.
        file: its bytes as they lie on the disk, to tell how far the reading has come.
    """

    name: str
    format: Format
    stream: BufferedIOBase
    file: IO[bytes]


def name_of(path: str) -> str:
    """What messages call the input at `path`."""
    return "standard input" if path == STANDARD_INPUT else printable(path)


def size_of(path: str) -> int | None:
    """How many bytes there are to read, or None where only the end of the input will tell."""
    try:
        status = os.fstat(0) if path == STANDARD_INPUT else Path(path).stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def format_of(name: str) -> Format | None:
    """The format that a file's name tells, a final `.gz` or `.zip` aside."""
    path = PurePath(name.lower())
    if path.suffix in {".gz", ".zip"}:
        path = path.with_suffix("")
    return _FORMATS.get(path.suffix)


@contextmanager
def open_source(path: str, declared: Format | None) -> Generator[Source]:
    """Open the input at `path`, unpacking it where it is packed.

    Args:
        path: a file, or `-` for standard input.
        declared: the format, where the name is not to tell it. Standard input, which has no
            name, is CSV unless this says otherwise.

    Raises:
        InputError: it cannot be opened, is a zip archive of other than one file, or has a name
            that does not tell its format.
    """
    name = name_of(path)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(_open_file(path))
            stream, inner = _unpack(name, file, stack)
        except (OSError, RuntimeError, zipfile.BadZipFile) as error:
            # A zip archive that asks for a password or an unknown method is a RuntimeError.
            raise InputError(name, _reason(error)) from error
        found = declared or format_of(inner)
        if found is None and path == STANDARD_INPUT:
            found = Format.CSV
        if found is None:
            known = ", ".join(_FORMATS)
            raise InputError(
                name,
                f"the name {PurePath(inner).name!r} does not tell the format (it would by "
                f"ending in one of {known}); say it with --format",
            )
        yield Source(name, found, stream, file)


def _open_file(path: str) -> BufferedReader:
    if path == STANDARD_INPUT:
        if sys.__stdin__ is None:  # it was closed at the start; descriptor 0 is another file now
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        # Not sys.stdin.buffer: a thread that waits in a read of it holds its lock, and Python
        # aborts when it finds that lock held at exit.
        return open(0, "rb", closefd=False)
    return Path(path).open("rb")


def _unpack(name: str, file: BufferedReader, stack: ExitStack) -> tuple[BufferedIOBase, str]:
    """The unpacked bytes, and the file name that tells their format."""
    start = file.peek(4)[:4]
    if start.startswith(_GZIP):
        return stack.enter_context(gzip.GzipFile(fileobj=file)), name
    if not start.startswith(_ZIP):
        return file, name
    archive = stack.enter_context(zipfile.ZipFile(_seekable(file, stack)))
    # Finder adds a shadow file under __MACOSX for each file it packs.
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        raise InputError(
            name, f"a zip archive of {len(members)} files; expected one of exactly one file"
        )
    member = stack.enter_context(archive.open(members[0]))
    return cast(BufferedIOBase, member), members[0].filename


def _seekable(file: BufferedReader, stack: ExitStack) -> IO[bytes]:
    """The same bytes in a file that can be read from its end, where a zip has its directory."""
    if file.seekable():
        return file
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    shutil.copyfileobj(file, copy)
    return copy


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror is not None:
        return f"cannot be read: {error.strerror}"
    return f"cannot be read: {error}"
