"""The texts of `FlushError` and `DrainError`: what is lost or in doubt, and what to do."""

from __future__ import annotations

import sqlite3

import pytest

from forebay import DrainError, FlushError, StoreError, Write
from forebay._errors import Unsettled
from forebay.sqlite import CommitError
from forebay.stores import BatchError, FailureKind

IN_DOUBT = BatchError("COMMIT failed", kind=FailureKind.IN_DOUBT, code="SQLITE_IOERR_FSYNC")
LOCKED = BatchError("locked", kind=FailureKind.TRANSIENT, code="SQLITE_BUSY")
FULL = BatchError("full", kind=FailureKind.TRANSIENT, code="SQLITE_FULL")


def caused_by(cause: Exception) -> BatchError:
    """Return the error of a store whose database raised an error."""
    error = BatchError(str(cause), kind=FailureKind.FATAL, code=type(cause).__name__)
    error.__cause__ = cause
    return error


def unsettled(last_error: Exception | None = None) -> Unsettled:
    """Return one pending entry."""
    return Unsettled((Write(("a", 1)),), count=1, oldest_age=1.0, last_error=last_error)


def flush_error(cause: Exception | None, last_error: Exception | None = None) -> FlushError:
    """Return the error of a buffer with one pending entry."""
    return FlushError("why", buffer="letters", unsettled=unsettled(last_error), cause=cause)


@pytest.mark.parametrize(
    ("cause", "last_error", "expected"),
    [
        (None, None, "Not in the table"),
        (sqlite3.OperationalError("no such table"), LOCKED, "Not in the table"),
        (StoreError("the log was deleted"), None, "Possibly not in the table"),
        (CommitError(sqlite3.OperationalError("disk")), None, "Possibly not in the table"),
        (IN_DOUBT, None, "Possibly not in the table"),
        (caused_by(StoreError("the log was deleted")), None, "Possibly not in the table"),
        (None, IN_DOUBT, "Possibly not in the table"),
    ],
)
def test_flush_error_states_if_the_entries_are_in_doubt(
    cause: Exception | None, last_error: Exception | None, expected: str
) -> None:
    """If a COMMIT is in doubt or the file is lost, the entries may have reached the table."""
    error = flush_error(cause, last_error)
    assert error.in_doubt == expected.startswith("Possibly")
    assert f"buffer 'letters' stopped: why. {expected}: 1 accepted entry, pending" in str(error)


@pytest.mark.parametrize(
    ("last_error", "expected"),
    [
        (None, "Not in the database"),
        (LOCKED, "Not in the database"),
        (IN_DOUBT, "Possibly not in the database"),
    ],
)
def test_drain_error_states_if_the_entries_are_in_doubt(
    last_error: Exception | None, expected: str
) -> None:
    """If the last COMMIT is in doubt, the entries may have reached the database."""
    text = str(DrainError({"letters": unsettled(last_error)}))
    assert f"the drain did not finish before its deadline. {expected}:" == text.splitlines()[0]


@pytest.mark.parametrize(
    ("last_error", "expected"),
    [
        (None, "Find out what blocks the database"),
        (LOCKED, "Find the program that locks the database"),
        (FULL, "Free space on the disk of the database"),
    ],
)
def test_the_first_step_depends_on_the_last_error(
    last_error: Exception | None, expected: str
) -> None:
    """The text says what to do first: find the lock, or free space on the disk."""
    text = str(DrainError({"letters": unsettled(last_error)}))
    assert f"{expected}, or raise BufferOptions.drain_timeout, then" in text


def test_the_first_step_after_a_full_disk_without_a_retry() -> None:
    """The code of the error's cause decides if there was only one attempt."""
    full = sqlite3.OperationalError("full")
    full.sqlite_errorname = "SQLITE_FULL"
    assert "Free space on the disk of the database, then pass them" in str(flush_error(full))


def test_the_reason_of_a_drain_error_has_each_error_once() -> None:
    """The reason goes into the spill file, and from there into dead letters."""
    late = {"a": unsettled(LOCKED), "b": unsettled(LOCKED), "c": unsettled()}
    assert "the drain did not finish before its deadline; locked" == DrainError(late).reason
