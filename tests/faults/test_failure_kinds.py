"""The kind of a failed commit depends on the code or the type of the error, never on its text."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from forebay import StoreError
from forebay.stores import FailureKind
from forebay.stores.sqlite._errors import batch_error, code_name, failure_kind

TRANSIENT, ROW = FailureKind.TRANSIENT, FailureKind.ROW
FATAL, IN_DOUBT = FailureKind.FATAL, FailureKind.IN_DOUBT


def error_of(code: int) -> sqlite3.Error:
    """Return an error with this code, and with a text that is wrong."""
    error = sqlite3.OperationalError("no such table: database disk image is malformed")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("name", "kind", "in_commit"),
    [
        ("SQLITE_BUSY", TRANSIENT, TRANSIENT),
        ("SQLITE_BUSY_SNAPSHOT", TRANSIENT, TRANSIENT),
        ("SQLITE_BUSY_RECOVERY", TRANSIENT, TRANSIENT),
        ("SQLITE_LOCKED_SHAREDCACHE", TRANSIENT, TRANSIENT),
        ("SQLITE_PROTOCOL", TRANSIENT, TRANSIENT),
        ("SQLITE_NOMEM", TRANSIENT, TRANSIENT),
        ("SQLITE_FULL", TRANSIENT, IN_DOUBT),
        ("SQLITE_IOERR_READ", TRANSIENT, IN_DOUBT),
        ("SQLITE_IOERR_WRITE", TRANSIENT, IN_DOUBT),
        ("SQLITE_IOERR_FSYNC", TRANSIENT, IN_DOUBT),
        ("SQLITE_CONSTRAINT_NOTNULL", ROW, ROW),
        ("SQLITE_CONSTRAINT_UNIQUE", ROW, ROW),
        ("SQLITE_CONSTRAINT_CHECK", ROW, ROW),
        ("SQLITE_CONSTRAINT_FOREIGNKEY", ROW, ROW),
        ("SQLITE_MISMATCH", ROW, ROW),
        ("SQLITE_TOOBIG", ROW, ROW),
        ("SQLITE_ERROR", FATAL, FATAL),
        ("SQLITE_READONLY_DBMOVED", FATAL, FATAL),
        ("SQLITE_CORRUPT_VTAB", FATAL, FATAL),
        ("SQLITE_NOTADB", FATAL, FATAL),
        ("SQLITE_AUTH", FATAL, FATAL),
    ],
)
def test_the_code_of_an_error_decides_its_kind(
    name: str, kind: FailureKind, in_commit: FailureKind
) -> None:
    """An extended code has the kind of its primary code. An I/O error of COMMIT is a doubt."""
    error = error_of(getattr(sqlite3, name))
    assert (kind, in_commit) == (failure_kind(error), failure_kind(error, in_commit=True))


def test_the_code_of_a_strict_table_has_a_name(tmp_path: Path) -> None:
    """Python's list of names lacks it."""
    with closing(sqlite3.connect(tmp_path / "a.db")) as raw:
        raw.execute("CREATE TABLE a (x INT) STRICT")
        with pytest.raises(sqlite3.IntegrityError) as raised:
            raw.execute("INSERT INTO a VALUES ('text')")
    assert "SQLITE_CONSTRAINT_DATATYPE" == code_name(raised.value)
    assert ROW is failure_kind(raised.value)


def test_the_name_of_an_unknown_code_is_its_number() -> None:
    """Both Python and forebay may be older than the code."""
    error = error_of(3091 + 256)
    error.sqlite_errorname = "unknown"
    assert "SQLITE_3347" == code_name(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OverflowError(), ROW),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), ROW),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), FATAL),
        (sqlite3.InterfaceError(), ROW),
        (sqlite3.DataError(), ROW),
        (sqlite3.ProgrammingError(), FATAL),
        (StoreError(), FATAL),
        (ZeroDivisionError(), FATAL),
    ],
)
def test_the_type_of_an_error_without_a_code_decides_its_kind(
    error: Exception, kind: FailureKind
) -> None:
    """A value that sqlite3 cannot bind is a bad row; an unexpected error is fatal."""
    assert kind is failure_kind(error)


@pytest.mark.parametrize(
    ("name", "recoverable"),
    [
        ("SQLITE_ERROR", True),
        ("SQLITE_READONLY", True),
        ("SQLITE_READONLY_DIRECTORY", True),
        ("SQLITE_READONLY_DBMOVED", False),
        ("SQLITE_PERM", True),
        ("SQLITE_AUTH", True),
        ("SQLITE_BUSY", True),
        ("SQLITE_FULL", True),
        ("SQLITE_IOERR_WRITE", True),
        ("SQLITE_CANTOPEN", True),
        ("SQLITE_CORRUPT", False),
        ("SQLITE_CORRUPT_INDEX", False),
        ("SQLITE_NOTADB", False),
        ("SQLITE_MISUSE", False),
        ("SQLITE_INTERNAL", False),
    ],
)
def test_the_code_of_an_error_decides_whether_a_buffer_may_be_suspended(
    name: str, recoverable: bool
) -> None:
    """It may not if the database is lost or corrupt, or if the code means a fault of a program."""
    error = error_of(getattr(sqlite3, name))
    assert recoverable == batch_error(error).recoverable


@pytest.mark.parametrize(
    "error", [StoreError("lost"), ZeroDivisionError(), MemoryError(), sqlite3.ProgrammingError()]
)
def test_an_error_without_a_code_suspends_no_buffer(error: Exception) -> None:
    """Nobody can know whether its cause can be removed."""
    assert not batch_error(error).recoverable
