"""What a failed transaction means, by SQLite's result codes and Python's exception types.

Never by message text: messages change, and say "database is locked" and "Database busy" for one
and the same thing. The codes: https://sqlite.org/rescode.html
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from forebay._errors import StoreError
from forebay.stores import FailureKind

_KINDS: Final = {
    sqlite3.SQLITE_BUSY: FailureKind.TRANSIENT,
    sqlite3.SQLITE_LOCKED: FailureKind.TRANSIENT,
    sqlite3.SQLITE_PROTOCOL: FailureKind.TRANSIENT,
    sqlite3.SQLITE_FULL: FailureKind.TRANSIENT,
    sqlite3.SQLITE_IOERR: FailureKind.TRANSIENT,
    sqlite3.SQLITE_NOMEM: FailureKind.TRANSIENT,
    sqlite3.SQLITE_CANTOPEN: FailureKind.TRANSIENT,
    sqlite3.SQLITE_SCHEMA: FailureKind.TRANSIENT,
    sqlite3.SQLITE_INTERRUPT: FailureKind.TRANSIENT,
    sqlite3.SQLITE_CONSTRAINT: FailureKind.ROW,
    sqlite3.SQLITE_MISMATCH: FailureKind.ROW,
    sqlite3.SQLITE_TOOBIG: FailureKind.ROW,
    sqlite3.SQLITE_RANGE: FailureKind.ROW,
}
"""By primary result code; all that is not here (no such table, read-only, corrupt) is fatal."""

_ROW_EXCEPTIONS: Final = (
    OverflowError,
    UnicodeEncodeError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
)
"""What Python's sqlite3 raises for a value it cannot bind, without a result code."""

SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What sqlite3 raises for an answer of SQLite's. One that quotes a damaged schema may be no UTF-8,
and all that is left of it then is that it could not be decoded."""

_DOUBTFUL_IN_COMMIT: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL})
"""After these COMMIT may have left the whole transaction in the file, for a recovery to find."""

_NAMES: Final = {3091: "SQLITE_CONSTRAINT_DATATYPE", 8714: "SQLITE_IOERR_IN_PAGE"}
"""Codes that are younger than Python's own list of names, which calls them `unknown`."""

LOCKED: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
"""The codes of a lock that somebody else has."""


def failure_code(error: BaseException) -> int | None:
    """Give the primary result code of an exception; None where it is not SQLite's own."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def failure_kind(error: BaseException, *, in_commit: bool = False) -> FailureKind:
    """Tell what an exception from a transaction means for its rows.

    Args:
        error: what sqlite3 raised.
        in_commit: whether COMMIT raised it.
    """
    code = failure_code(error)
    if code is None:
        return FailureKind.ROW if isinstance(error, _ROW_EXCEPTIONS) else FailureKind.FATAL
    if in_commit and code in _DOUBTFUL_IN_COMMIT:
        return FailureKind.IN_DOUBT
    return _KINDS.get(code, FailureKind.FATAL)


def refuses_rows(error: BaseException) -> bool:
    """Tell whether a statement failed for one of its rows."""
    return failure_kind(error) is FailureKind.ROW


def code_name(error: BaseException) -> str:
    """Name an error for metrics: SQLite's code, or else the exception's type."""
    name = str(getattr(error, "sqlite_errorname", type(error).__name__))
    if name != "unknown":
        return name
    code = int(getattr(error, "sqlite_errorcode", 0))
    return _NAMES.get(code, f"SQLITE_{code}")


@contextmanager
def store_errors(path: str) -> Generator[None, None, None]:
    """Raise what SQLite raises as a `StoreError` that names the file."""
    try:
        yield
    except SQLITE_ERRORS as error:
        raise StoreError(f"{path!r}: {error} ({code_name(error)})") from error
