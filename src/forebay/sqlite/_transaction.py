"""One transaction around one function, in the thread that calls it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

from forebay.sqlite._codes import copy_code

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class CommitError(sqlite3.DatabaseError):
    """COMMIT itself failed; the transaction was then rolled back.

    SQLite's own error is the `__cause__`, and its `sqlite_errorcode` and `sqlite_errorname` are
    here too. After an I/O error (``SQLITE_IOERR`` and its extended codes) the outcome is in doubt:
    the transaction is gone from this connection, but may be found in the file after a crash.
    """

    in_doubt: Final = True
    """That what was written may be in the file all the same."""

    def __init__(self, cause: sqlite3.Error) -> None:
        super().__init__(f"COMMIT failed: {cause}")
        copy_code(cause, self)


class TransactionEndedError(sqlite3.ProgrammingError):
    """The function given to a transaction returned after its transaction had already ended.

    Either it ended it (COMMIT, ROLLBACK, ``executescript()``, ``with raw:``), or it swallowed an
    error at which SQLite rolled back by itself, such as a full disk. What it executed after that
    was committed statement by statement.
    """


def transact(raw: sqlite3.Connection, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
    """Call ``fn(raw, *args)`` inside one transaction, in this thread.

    This is what `Connection.transaction` runs in its worker thread; it is here for functions that
    do more in the same hop, before or after the transaction.

    ``BEGIN IMMEDIATE`` takes the write lock first, so that the transaction cannot fail half way
    for want of it. Whatever is raised, a ``KeyboardInterrupt`` included, the transaction is rolled
    back and that same exception goes on. Where ROLLBACK fails too, a note on it says so.

    Args:
        raw: a connection with ``isolation_level=None`` and no transaction open.
        fn: called with `raw` and `args`. It must leave the transaction open, and return plain
            values: a cursor would be read in another thread.
        *args: further arguments of `fn`.

    Returns:
        What `fn` returned, after COMMIT.

    Raises:
        sqlite3.OperationalError: with the code ``SQLITE_BUSY``, another connection kept the write
            lock for longer than the busy timeout; `fn` was not called.
        TransactionEndedError: `fn` returned with the transaction already ended.
        CommitError: COMMIT failed.
        BaseException: what `fn` raised.
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
            f"{fn!r} returned after its transaction had ended: leave COMMIT and ROLLBACK to "
            "the transaction, do not call executescript(), and let SQLite's errors through"
        )
    try:
        raw.execute("COMMIT")
    except sqlite3.Error as error:
        raise CommitError(error) from error


def _roll_back(raw: sqlite3.Connection, cause: BaseException) -> None:
    # After a full disk, and some I/O errors, SQLite has rolled back by itself. A ROLLBACK would
    # then fail with "no transaction is active" and hide the cause.
    try:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
    except sqlite3.Error as error:
        cause.add_note(f"ROLLBACK failed too: {error}")
