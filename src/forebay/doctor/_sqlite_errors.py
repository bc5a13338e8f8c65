"""An error that SQLite raised in a check becomes a finding, with what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from forebay.doctor._findings import Finding, Verdict
from forebay.stores.sqlite._errors import code_name, failure_code

CORRUPT_ADVICE: Final = (
    "The file is corrupt. Stop the programs that write to it, keep a copy, then restore a backup, "
    "or see https://sqlite.org/recovery.html"
)

_ADVICE: Final[Mapping[int | None, str]] = {
    sqlite3.SQLITE_CORRUPT: CORRUPT_ADVICE,
    sqlite3.SQLITE_NOTADB: "The file is not a database, or is encrypted, or lost its first page",
    sqlite3.SQLITE_BUSY: "Another program has an exclusive lock on it: examine it again when that "
    "program has ended",
    sqlite3.SQLITE_CANTOPEN: "This user may not read the file or the -wal and -shm files beside "
    "it, or may not create them: run the doctor as the owner of the file",
    sqlite3.SQLITE_READONLY: "To read the file, SQLite must write to it, or to a file beside it, "
    "and this user may not: run the doctor as the owner of the file",
    sqlite3.SQLITE_READONLY_ROLLBACK: "A program died in the middle of a transaction. The next "
    "program that may write to the file rolls the transaction back",
    sqlite3.SQLITE_READONLY_RECOVERY: "A program died before it closed the file. The next program "
    "that may write to the file recovers its WAL",
    sqlite3.SQLITE_READONLY_DIRECTORY: "The file is in WAL mode. To read it, SQLite must create "
    "its -wal and -shm files, and this user may not write to the folder: run the doctor as the "
    "owner of the file",
    sqlite3.SQLITE_IOERR: "The disk failed: see the system's log",
}
"""By extended result code or, if that is not here, by primary result code."""


def finding_of(check: str, error: Exception) -> Finding:
    """Return the finding of an error.

    Args:
        check: the check that raised it.
        error: what SQLite raised, or what Python raised for an answer of SQLite.
    """
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    advice = _ADVICE.get(extended) or _ADVICE.get(failure_code(error), "")
    return Finding(
        check, Verdict.PROBLEM, f"{error}. {advice}".strip(), {"error_code": code_name(error)}
    )
