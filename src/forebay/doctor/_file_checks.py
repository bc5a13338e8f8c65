"""Checks of a database file from outside: the file itself, its WAL, its disk."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Final

from forebay.doctor._findings import Finding, Verdict
from forebay.stores.sqlite._inspector import beside

_LARGE_WAL: Final = 64 * 2**20
"""Bytes. SQLite makes a checkpoint every 1,000 pages, about 4 MB. If a WAL is much larger, a reader
prevents the checkpoints."""

_LITTLE_SPACE: Final = 100 * 2**20
"""Bytes. Less than this can be used up before somebody reads the finding."""


def check_file(file: Path) -> Finding:
    """Check that the path is that of a readable file with one name.

    It does not open the file: closing it again would end this process's locks on it
    (https://sqlite.org/howtocorrupt.html, section 2.2).
    """
    name = repr(str(file))
    try:
        status = file.stat()
    except FileNotFoundError:
        wal = beside(file, "-wal")
        advice = (
            f". But there is its WAL {str(wal)!r}, which has transactions that the file may lack: "
            f"keep it, and put the file back beside it"
            if wal.exists()
            else ""
        )
        return _problem(f"there is no file {name}{advice}")
    except OSError as error:
        return _problem(f"{name} cannot be examined: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return _problem(f"{name} is not a regular file")
    if not os.access(file, os.R_OK):
        return _problem(f"{name} is not readable for this user")
    if status.st_nlink > 1:
        return _problem(
            f"{name} has {status.st_nlink} names (hard links). SQLite keeps a WAL beside each name,"
            f" so programs that use different names corrupt the file: remove all names but one"
        )
    return Finding("file", Verdict.OK, f"{status.st_size:,} bytes", {"bytes": status.st_size})


def _problem(message: str) -> Finding:
    return Finding("file", Verdict.PROBLEM, message)


def _wal_size(file: Path) -> int:
    try:
        return beside(file, "-wal").stat().st_size
    except OSError:
        return 0


def check_wal(file: Path) -> Finding:
    """Check the size of the WAL."""
    size = _wal_size(file)
    if size <= _LARGE_WAL:
        return Finding("wal", Verdict.OK, f"the WAL has {size:,} bytes", {"bytes": size})
    return Finding(
        "wal",
        Verdict.ADVICE,
        f"the WAL has {size:,} bytes: a reader is, or was, open for long, so that SQLite could not "
        f"copy the WAL into the file. It shrinks when the last program closes the file",
        {"bytes": size},
    )


def check_disk(file: Path) -> Finding:
    """Check the free space of the disk that the file is on."""
    try:
        free = shutil.disk_usage(file.parent).free
    except OSError as error:
        return Finding(
            "disk",
            Verdict.PROBLEM,
            f"the free space of the disk of {str(file.parent)!r} is unknown: {error.strerror}",
        )
    values = {"free_bytes": free}
    message = f"{free:,} bytes are free on the disk of the file"
    if free >= max(_LITTLE_SPACE, _wal_size(file)):
        return Finding("disk", Verdict.OK, message, values)
    return Finding(
        "disk",
        Verdict.PROBLEM,
        f"{message}: free some space. On a full disk the buffers fill up, and producers wait",
        values,
    )
