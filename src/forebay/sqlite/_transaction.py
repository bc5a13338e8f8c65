"""Run one function in one transaction, in the thread that calls it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

from forebay._portable import Portable
from forebay.sqlite._codes import copy_code

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class CommitError(Portable, sqlite3.DatabaseError):
    """COMMIT failed, and the transaction was rolled back.

    SQLite's error is the `__cause__`; its `sqlite_errorcode` and `sqlite_errorname` are also
    attributes of this error. After an I/O error (``SQLITE_IOERR`` and its extended codes) the
    COMMIT is in doubt: this connection does not see the transaction, but after a crash it may be
    in the file.
    """

    in_doubt: Final = True
    """The rows of the transaction may be in the file."""

    def __init__(self, cause: sqlite3.Error) -> None:
        super().__init__(f"COMMIT failed: {cause}")
        copy_code(cause, self)


_ROLLING_BACK: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_INTERRUPT,
    }
)
"""SQLite may roll back by itself after these errors.

https://sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction
"""

_MAY_ROLL_BACK: Final = frozenset({sqlite3.SQLITE_CONSTRAINT})
"""SQLite rolls back only if the constraint or a trigger says so."""

_ENDED: Final = (
    "the transaction had ended before this error: the function ended it, as COMMIT, ROLLBACK, "
    "`with raw:` and executescript() do; executescript() commits first. What the function wrote "
    "may be committed, and was not rolled back"
)
_ENDED_BY_CONSTRAINT: Final = (
    f"{_ENDED}. Only if the constraint has ON CONFLICT ROLLBACK, or a trigger raised ROLLBACK, did "
    "SQLite roll the transaction back"
)


class TransactionEndedError(sqlite3.ProgrammingError):
    """The function of a transaction returned when its transaction had already ended.

    There are two reasons. The function ended the transaction (COMMIT, ROLLBACK,
    ``executescript()``, ``with raw:``), or it caught an error after which SQLite rolls back by
    itself, such as a full disk. Each later statement of the function was committed separately.
    """


def transact(raw: sqlite3.Connection, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
    """Call ``fn(raw, *args)`` in one transaction, in this thread.

    `Connection.transaction` runs this in its worker thread. Call it yourself in a function that
    does more before or after the transaction, in the same hop.

    The transaction begins with ``BEGIN IMMEDIATE``, which takes the write lock, so that no later
    statement fails for want of it. After any exception, also a ``KeyboardInterrupt``, the
    transaction is rolled back and the same exception is raised. If ROLLBACK also fails, or if the
    function had ended the transaction before, the exception has a note about it.

    Args:
        raw: a connection with ``isolation_level=None`` and without an open transaction.
        fn: called with `raw` and `args`. It must leave the transaction open (``executescript()``
            commits first), and return plain values: a cursor would be read in another thread.
        *args: further arguments of `fn`.

    Returns:
        The result of `fn`, after COMMIT.

    Raises:
        sqlite3.OperationalError: with the code ``SQLITE_BUSY``, another connection held the write
            lock for longer than the busy timeout; `fn` was not called.
        TransactionEndedError: `fn` returned when the transaction had already ended.
        CommitError: COMMIT failed.
        BaseException: the exception of `fn`.
    """
    raw.execute("BEGIN IMMEDIATE")
    try:
        result = fn(raw, *args)
        _execute_commit(raw, fn)
    except BaseException as error:
        _roll_back(raw, error)
        raise
    return result


def _execute_commit(raw: sqlite3.Connection, fn: object) -> None:
    if not raw.in_transaction:
        raise TransactionEndedError(
            f"the transaction ended before {fn!r} returned: do not execute COMMIT or ROLLBACK in "
            "the function, do not call executescript(), and do not catch SQLite's errors"
        )
    try:
        raw.execute("COMMIT")
    except sqlite3.Error as error:
        raise CommitError(error) from error


def _roll_back(raw: sqlite3.Connection, cause: BaseException) -> None:
    # SQLite rolls back by itself after a full disk and some I/O errors. ROLLBACK would then fail
    # with "no transaction is active" and hide the cause.
    if raw.in_transaction:
        try:
            raw.execute("ROLLBACK")
        except sqlite3.Error as error:
            cause.add_note(f"ROLLBACK failed too: {error}")
    elif not isinstance(cause, CommitError | TransactionEndedError):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code not in _ROLLING_BACK:
            cause.add_note(_ENDED_BY_CONSTRAINT if code in _MAY_ROLL_BACK else _ENDED)
