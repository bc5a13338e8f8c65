"""Every exception class survives `pickle`, `copy` and a process pool, with all its attributes."""

from __future__ import annotations

import copy
import errno
import importlib
import multiprocessing
import pickle
import pkgutil
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import click
import pytest

import forebay
from forebay import (
    DecodeError,
    DrainError,
    FlushError,
    ForebayError,
    OptionsError,
    RowError,
    SchemaError,
    SpillError,
    StoreError,
    Unsettled,
    Update,
    Write,
)
from forebay.cache._folder import UnsafePathError
from forebay.cache.artifact import DigestMismatchError, SizeMismatchError
from forebay.cache.object_storage import MissingError, RateLimitedError, UnavailableError
from forebay.cache.s3 import _CancelledError
from forebay.cli._errors import InputError, InputRowError, LoadError
from forebay.cli._failures import Failed, Interrupted, Terminated
from forebay.cli._load.records import RowTooLongError
from forebay.cli._load.target_columns import MisfitError
from forebay.cli._output import ClosedPipeError, OutputError
from forebay.cli._spool.files import DamagedBlockError
from forebay.cli._top.client import ConnectionLostError, NotWatchableError
from forebay.sqlite import CommitError, TransactionEndedError
from forebay.stores import BatchError, FailureKind, FloodError, Outcome, Rejection
from forebay.stores.clickhouse._encoding import ValueRefusedError
from forebay.stores.clickhouse._failures import Meaning, NoAnswerError, ServerError
from forebay.stores.clickhouse._relay import NotVerifiedError
from forebay.stores.sqlite._commit import RowRefusedError, SeparateTransactionsError
from forebay.stores.sqlite._inspector import _StaleError

TIMEOUT = 60.0
"""Seconds to wait for a process pool; without an answer, the test fails instead of hanging."""

ENTRY = Write(("a\udce9", 2**63, b"\0", None))


E = TypeVar("E", bound=Exception)


def with_cause(error: E, cause: Exception) -> E:
    error.__cause__ = cause
    return error


def sqlite_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = 1034, "SQLITE_IOERR_FSYNC"
    return error


def in_doubt() -> BatchError:
    error = BatchError(
        "COMMIT failed",
        kind=FailureKind.IN_DOUBT,
        code="SQLITE_IOERR_FSYNC",
        settled=2,
        outcome=Outcome({"write": 1}, (Rejection(2, ENTRY, "SQLITE_TOOBIG", "too big", 7),), 0.5),
    )
    return with_cause(error, CommitError(sqlite_error()))


def unsettled(last_error: BaseException | None = None) -> Unsettled:
    return Unsettled((ENTRY, Update("a", {"size": 1})), 2, oldest_age=1.5, last_error=last_error)


def spilled(error: Any) -> Any:
    error.spill = "/srv/left.spill"
    error.add_note("a note")
    return error


def command_error(kind: type[Failed]) -> Failed:
    with click.Context(click.Command("list"), info_name="list") as context:
        context.params["as_json"] = True
        return kind("the file is locked")


def without_spill(error: DrainError) -> DrainError:
    error.spill_failed = True
    return error


def flush_error(cause: BaseException, **more: Any) -> FlushError:
    error = FlushError("why", buffer="t", unsettled=unsettled(**more), cause=cause, attempts=3)
    return with_cause(error, sqlite_error())


SAMPLES: list[Exception] = [
    ForebayError("why"),
    OptionsError("capacity = 0: expected a whole number of at least 1"),
    SchemaError("no such column", table="t", sql="ALTER TABLE t ADD COLUMN a"),
    SchemaError("no such column", table="t"),
    DecodeError("cannot read 'x'", table="t", column="a", value="x"),
    StoreError("'a.db' is locked"),
    SpillError("line 1: not a spill file"),
    RowError("refused", buffer="t", operation=ENTRY, code="SQLITE_TOOBIG", dead_letter=7),
    flush_error(ValueError("why")),
    spilled(flush_error(in_doubt())),
    flush_error(StoreError("the file was deleted")),
    flush_error(ValueError("why"), last_error=in_doubt()),
    DrainError({"t": unsettled()}),
    without_spill(DrainError({"t": unsettled()})),
    spilled(DrainError({"t": unsettled(in_doubt()), "u": unsettled()})),
    DrainError(
        {"t": unsettled(BatchError("full", kind=FailureKind.TRANSIENT, code="SQLITE_FULL"))}
    ),
    in_doubt(),
    BatchError("locked", kind=FailureKind.TRANSIENT, code="SQLITE_BUSY"),
    FloodError("too many", code="SQLITE_CONSTRAINT_NOTNULL"),
    RowRefusedError(),
    DamagedBlockError("block 1 cannot be read"),
    NoAnswerError("ConnectError", "refused"),
    ServerError(252, "too many parts"),
    NotVerifiedError(Meaning.BLOCKED, "SchemaError", "no such column"),
    ValueRefusedError("300 does not fit into Int8"),
    SeparateTransactionsError(),
    CommitError(sqlite_error()),
    CommitError(sqlite3.ProgrammingError("without a code")),
    TransactionEndedError("the transaction ended"),
    UnsafePathError(Path("/folder"), "is a symbolic link"),
    spilled(UnsafePathError(Path("/folder"), "is a symbolic link")),
    RateLimitedError("slow down"),
    UnavailableError("refused"),
    SizeMismatchError("acme/app/a", expected=10, received=4),
    DigestMismatchError("acme/app/a", expected="0" * 64, received="1" * 64),
    MissingError("no such object"),
    _CancelledError(),
    _StaleError(),
    LoadError("why"),
    InputError("a.csv", "not UTF-8"),
    InputError("a.csv", "not UTF-8", line=3),
    InputRowError("a.csv", "not a number", line=3),
    MisfitError("not a number"),
    RowTooLongError("the row is too long"),
    OutputError("the output could not be written"),
    ClosedPipeError("the pipe is closed"),
    command_error(Failed),
    command_error(Interrupted),
    command_error(Terminated),
    NotWatchableError("no program"),
    ConnectionLostError("it ended"),
]


def _is_exception(value: object) -> TypeGuard[type[BaseException]]:
    return isinstance(value, type) and issubclass(value, BaseException)


def exception_classes() -> Iterator[type[BaseException]]:
    """Yield the exception classes that the modules of the package define."""
    names = (module.name for module in pkgutil.walk_packages(forebay.__path__, "forebay."))
    for name in ["forebay", *(name for name in names if name != "forebay.__main__")]:
        for value in vars(importlib.import_module(name)).values():
            if _is_exception(value) and value.__module__ == name:
                yield value


def test_every_class_has_a_sample() -> None:
    """Whoever adds an exception class adds an example with all its attributes."""
    assert set(exception_classes()) == {type(sample) for sample in SAMPLES}


def described(value: Any) -> Any:
    """Return the contents of an error as values that can be compared; exceptions are not equal."""
    if isinstance(value, BaseException):
        public = [name for name in dir(value) if not name.startswith("_")]
        attributes = {name: getattr(value, name, None) for name in public}
        attributes = {name: each for name, each in attributes.items() if not callable(each)}
        return type(value), str(value), value.args, described({**vars(value), **attributes})
    if isinstance(value, Unsettled):
        return described(vars(value))
    if isinstance(value, dict):
        return {name: described(each) for name, each in value.items()}
    return value


def pickled(error: Any, *, protocol: int) -> Any:
    return pickle.loads(pickle.dumps(error, protocol))  # noqa: S301  # the test's own


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": partial(pickled, protocol=protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_a_copy_has_all_attributes(sample: Exception, copied: Callable[[Any], Any]) -> None:
    """Its text, its notes, and whether its entries are in doubt are the same, too."""
    assert described(sample) == described(copied(sample))
    assert described(sample) == described(copied(copied(sample)))


def raised(error: Exception) -> None:
    raise error


def test_errors_travel_through_a_process_pool() -> None:
    """A pool that cannot rebuild an error in the parent process would wait for it forever."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        results = [pool.apply_async(raised, (sample,)) for sample in SAMPLES]
        for sample, result in zip(SAMPLES, results, strict=True):
            with pytest.raises(type(sample)) as caught:
                result.get(TIMEOUT)
            assert described(sample) == described(caught.value)


class ForeignError(StoreError):
    """An error of a program, whose class needs arguments."""

    def __init__(self, table: str, *, tenant: int) -> None:
        super().__init__(f"table {table} of tenant {tenant}")
        self.tenant = tenant


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_subclass_of_a_program_needs_no_method_of_its_own(copied: Callable[[Any], Any]) -> None:
    """Also as the last error in the account of a drain."""
    error = ForeignError("t", tenant=3)
    assert described(error) == described(copied(error))
    late = DrainError({"t": unsettled(error)})
    assert late.in_doubt
    assert described(late) == described(copied(late))


def test_the_errno_of_an_unsafe_path_is_kept() -> None:
    """It is an OSError, so a program may decide by the number."""
    [error, _] = [sample for sample in SAMPLES if isinstance(sample, UnsafePathError)]
    assert errno.EPERM == copy.copy(error).errno
