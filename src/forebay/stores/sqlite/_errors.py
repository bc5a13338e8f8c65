"""The meaning of a failed transaction, by SQLite's result codes and Python's exception types.

Messages are never compared: they change, and "database is locked" and "Database busy" mean the
same. The codes: https://sqlite.org/rescode.html
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from forebay._errors import StoreError
from forebay.sqlite import CommitError
from forebay.stores import BatchError, FailureKind, Outcome

_KINDS: Final = {
    # Another connection has a lock, recovers the WAL after a crash (SQLITE_BUSY_RECOVERY), or has
    # written since this transaction began to read (SQLITE_BUSY_SNAPSHOT). That passes.
    sqlite3.SQLITE_BUSY: FailureKind.TRANSIENT,
    sqlite3.SQLITE_LOCKED: FailureKind.TRANSIENT,
    # Two connections began to use the WAL at the same moment, again and again.
    sqlite3.SQLITE_PROTOCOL: FailureKind.TRANSIENT,
    # Another connection changed the schema again and again while the statement was compiled.
    sqlite3.SQLITE_SCHEMA: FailureKind.TRANSIENT,
    # Another thread interrupted the statement.
    sqlite3.SQLITE_INTERRUPT: FailureKind.TRANSIENT,
    # The machine lacks something, which it may have later: space, memory, file descriptors, a disk
    # that answers. No row is the cause.
    sqlite3.SQLITE_FULL: FailureKind.TRANSIENT,
    sqlite3.SQLITE_NOMEM: FailureKind.TRANSIENT,
    sqlite3.SQLITE_CANTOPEN: FailureKind.TRANSIENT,
    sqlite3.SQLITE_IOERR: FailureKind.TRANSIENT,
    # The table or SQLite refuses a value.
    sqlite3.SQLITE_CONSTRAINT: FailureKind.ROW,
    sqlite3.SQLITE_MISMATCH: FailureKind.ROW,
    sqlite3.SQLITE_TOOBIG: FailureKind.ROW,
    sqlite3.SQLITE_RANGE: FailureKind.ROW,
}
"""The kinds by primary result code. Every other code (no such table, read-only, …) is fatal."""

_RECOVERABLE: Final = frozenset(
    {
        *(code for code, kind in _KINDS.items() if kind is FailureKind.TRANSIENT),
        sqlite3.SQLITE_ERROR,  # such as a table or column that is missing
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
    }
)
"""The primary result codes of failures whose cause somebody may remove while the file is open."""

_ROW_EXCEPTIONS: Final = (
    OverflowError,
    UnicodeEncodeError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)
"""Exceptions without a result code that Python's sqlite3 raises for a value it cannot bind."""

SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""The exceptions that sqlite3 raises for an error of SQLite.

An error message that quotes a damaged schema may be invalid UTF-8. sqlite3 then raises
UnicodeDecodeError instead of the error.
"""

_IN_DOUBT_CODES: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL})
"""If COMMIT fails with one of these codes, a recovery may find the transaction in the file."""

_NAMES: Final = {3091: "SQLITE_CONSTRAINT_DATATYPE", 8714: "SQLITE_IOERR_IN_PAGE"}
"""The names of codes that Python does not know and calls `unknown`."""

LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
"""The primary codes of a conflict with another connection, which passes: see `_KINDS`."""

FILE_FAILURES: Final = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
"""The primary codes of a failure of a file, whose name SQLite's message does not have."""


def failure_code(error: BaseException) -> int | None:
    """Return the primary result code of an exception, or None if it has no code."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def failure_kind(error: BaseException, *, in_commit: bool = False) -> FailureKind:
    """Return what an exception means for the rows of its transaction.

    Args:
        error: the exception that sqlite3 raised.
        in_commit: whether COMMIT raised it.
    """
    code = failure_code(error)
    if code is None:
        return FailureKind.ROW if isinstance(error, _ROW_EXCEPTIONS) else FailureKind.FATAL
    if in_commit and code in _IN_DOUBT_CODES:
        return FailureKind.IN_DOUBT
    return _KINDS.get(code, FailureKind.FATAL)


def refuses_rows(error: BaseException) -> bool:
    """Return whether a statement failed because of one of its rows."""
    return failure_kind(error) is FailureKind.ROW


def code_name(error: BaseException) -> str:
    """Return the name of an error for metrics: SQLite's code, or the type of the exception."""
    name = str(getattr(error, "sqlite_errorname", type(error).__name__))
    if name != "unknown":
        return name
    code = int(getattr(error, "sqlite_errorcode", 0))
    return _NAMES.get(code, f"SQLITE_{code}")


def batch_error(
    error: Exception, *, settled: int = 0, outcome: Outcome | None = None, in_doubt: bool = False
) -> BatchError:
    """Return the `BatchError` for an exception of a transaction, which becomes its `__cause__`.

    Args:
        error: the exception.
        settled: as for `BatchError`.
        outcome: as for `BatchError`.
        in_doubt: as for `BatchError`.
    """
    code = code_name(error)
    if isinstance(error, StoreError):
        # A part that was committed to a lost file is lost with the file.
        message, settled, outcome = str(error), 0, None
    else:
        message = f"{code}: {error}"
    found = BatchError(
        message,
        kind=failure_kind(error, in_commit=isinstance(error, CommitError)),
        code=code,
        settled=settled,
        outcome=outcome,
        in_doubt=in_doubt,
        recoverable=failure_code(error) in _RECOVERABLE
        and getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_DBMOVED,
    )
    found.__cause__ = error
    return found


@contextmanager
def store_errors(path: str) -> Generator[None, None, None]:
    """Convert an error of SQLite into a `StoreError` that names the file."""
    try:
        yield
    except SQLITE_ERRORS as error:
        raise StoreError(f"{path!r}: {error} ({code_name(error)})") from error
