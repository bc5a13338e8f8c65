"""What `FlushError` and `DrainError` say to the person who has to do something about them."""

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


def unsettled(last_error: Exception | None = None) -> Unsettled:
    return Unsettled((Write(("a", 1)),), count=1, oldest_age=1.0, last_error=last_error)


def flush_error(cause: Exception | None, last_error: Exception | None = None) -> FlushError:
    error = FlushError("why", buffer="letters", unsettled=unsettled(last_error))
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "last_error", "expected"),
    [
        (None, None, "Not in the table"),
        (sqlite3.OperationalError("no such table"), LOCKED, "Not in the table"),
        (StoreError("the log was deleted"), None, "Not known to be in the table"),
        (CommitError(sqlite3.OperationalError("disk")), None, "Not known to be in the table"),
        (None, IN_DOUBT, "Not known to be in the table"),
    ],
)
def test_a_failure_claims_no_more_than_is_known(
    cause: Exception | None, last_error: Exception | None, expected: str
) -> None:
    """After a COMMIT in doubt, or with the file gone, entries may have been in the table."""
    error = flush_error(cause, last_error)
    assert error.in_doubt == expected.startswith("Not known")
    told = str(error)
    assert f"buffer 'letters' stopped: why. {expected}: 1 accepted entry, waiting" in told


@pytest.mark.parametrize(
    ("last_error", "expected"),
    [
        (None, "Not in the database"),
        (LOCKED, "Not in the database"),
        (IN_DOUBT, "Not known to be in the database"),
    ],
)
def test_a_late_drain_claims_no_more_than_is_known(
    last_error: Exception | None, expected: str
) -> None:
    """As a failure."""
    told = str(DrainError({"letters": unsettled(last_error)}))
    assert f"the drain was not finished in time. {expected}:" == told.splitlines()[0]


@pytest.mark.parametrize(
    ("last_error", "expected"),
    [
        (None, "Find what holds the database up"),
        (LOCKED, "Find the program that has the database locked"),
        (FULL, "Make room on the disk of the database"),
    ],
)
def test_what_to_do_first_is_told(last_error: Exception | None, expected: str) -> None:
    """It depends on the last error."""
    told = str(DrainError({"letters": unsettled(last_error)}))
    assert f"{expected}, or raise BufferOptions.drain_timeout, then" in told


def test_a_full_disk_that_stops_a_buffer() -> None:
    """By its own code, where it was the only attempt."""
    full = sqlite3.OperationalError("full")
    full.sqlite_errorname = "SQLITE_FULL"
    assert "Make room on the disk of the database, then enqueue" in str(flush_error(full))


def test_the_reason_of_a_late_drain_has_each_error_once() -> None:
    """For the file of a spill, and the dead letters that come of it."""
    late = {"a": unsettled(LOCKED), "b": unsettled(LOCKED), "c": unsettled()}
    assert "the drain was not finished in time; locked" == DrainError(late).reason
