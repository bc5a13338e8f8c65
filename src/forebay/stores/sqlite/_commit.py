"""One batch, one transaction; and when a row of it is bad, that row apart and the rest committed.

Everything here runs in the writer's thread. The first try is the plain one. Where the table
refuses a row, the batch is cut in two, each half coalesced anew and tried under a savepoint, and
so on, down to single entries: k bad ones of n cost O(k log n) tries. What is refused alone goes to
the dead letters in the same transaction. So an entry fails if, and only if, it would have failed
alone at its place in the order, and nobody else's entry with it.

Some refusals only show at COMMIT (a deferred foreign key), or end the transaction themselves (ON
CONFLICT ROLLBACK). Then the parts are transactions of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TypeAlias

from forebay._batching.batch import Batch
from forebay._batching.coalesce import halves, remainder
from forebay._table.json_format import named
from forebay._table.operations import operation
from forebay.sqlite import CommitError, transact
from forebay.stores import BatchError, FailureKind, FloodError, Outcome, Rejection
from forebay.stores.sqlite import _dead_letter_table as dead_letters
from forebay.stores.sqlite import _progress as progress
from forebay.stores.sqlite._errors import code_name, failure_kind, refuses_rows
from forebay.stores.sqlite._statements import Statement, statements


class RowRefusedError(Exception):
    """One of the rows of a statement is why it failed: its cause has the database's error."""


@dataclass(frozen=True)
class Done:
    """How far a batch is committed.

    Attributes:
        position: how many entries of the buffer are settled.
        operations: how many operations of each kind the table took.
        rejections: the entries it refused.
    """

    position: int
    operations: Mapping[str, int] = field(default_factory=dict[str, int])
    rejections: tuple[Rejection, ...] = ()

    def taken(self, batch: Batch) -> Done:
        """Give how far it is with this batch taken."""
        operations = dict(self.operations)
        for step in batch.steps:
            operations[step.operation] = operations.get(step.operation, 0) + len(step)
        return Done(batch.end, operations, self.rejections)


_Fill: TypeAlias = Callable[[sqlite3.Connection, Batch], None]

Also: TypeAlias = Callable[[sqlite3.Connection, range, Sequence[Rejection]], None]
"""What else a transaction does before it commits: it is told the numbers of the entries that the
transaction settles, counted from 1, and which of them were refused."""


class Committer:
    """The attempts at one batch. It remembers what is done between them."""

    def __init__(self, batch: Batch, *, variables: int, also: Also | None = None) -> None:
        self.batch = batch
        self.noted = False
        """Whether a transaction of it noted its progress."""
        self._variables = variables
        self._also = also
        self._done = Done(batch.position)
        self._in_doubt: Done | None = None
        self._attempt = 0
        self._most_rejections = 0.0

    def commit(self, raw: sqlite3.Connection, attempt: int, most_rejections: float) -> Outcome:
        """Commit what is not committed of the batch.

        Raises:
            BatchError: the table refused more rows than it may.
            Exception: what SQLite raised; `failure_kind` tells what it means.
        """
        started = perf_counter()
        self._attempt, self._most_rejections = attempt, most_rejections
        self._resolve(raw)
        if self._done.position < self.batch.end:
            rest = self.batch
            if self._done.position > rest.position:
                rest = remainder(rest, self._done.position)
            self._commit(raw, rest)
        return self.outcome(duration=perf_counter() - started)

    @property
    def settled(self) -> int:
        """How many of the batch's entries, from the first on, are settled."""
        return self._done.position - self.batch.position

    @property
    def in_doubt(self) -> bool:
        """Whether a COMMIT failed of which nobody could look yet what became of it."""
        return self._in_doubt is not None

    def outcome(self, *, duration: float = 0.0) -> Outcome:
        """Tell what became of the entries that are settled."""
        return Outcome(
            operations=self._done.operations,
            rejections=self._done.rejections,
            duration=duration,
        )

    def _resolve(self, raw: sqlite3.Connection) -> None:
        """Find out whether a COMMIT that failed with an I/O error took place after all."""
        if self._in_doubt is not None:
            noted = transact(raw, progress.position, self.batch.stream)
            if noted == self._in_doubt.position:
                self._done = self._in_doubt
            self._in_doubt = None

    def _commit(self, raw: sqlite3.Connection, batch: Batch) -> None:
        if self._refusal(raw, batch, self._apply) is not None:
            self._commit_parts(raw, batch)

    def _commit_parts(self, raw: sqlite3.Connection, batch: Batch) -> None:
        """Commit a batch of which something is refused: in one transaction, if that can be."""
        refusal = self._refusal(raw, batch, self._isolate)
        if refusal is None:
            return
        if batch.entries == 1:
            self._transaction(raw, batch, lambda raw, one: self._reject(raw, one, refusal))
            return
        for half in halves(batch):
            self._commit_parts(raw, half)

    def _refusal(self, raw: sqlite3.Connection, batch: Batch, fill: _Fill) -> Exception | None:
        """Commit a batch, or give the reason if a row of it is one."""
        try:
            self._transaction(raw, batch, fill)
        except RowRefusedError as refusal:
            return refusal
        except CommitError as error:
            if failure_kind(error, in_commit=True) is not FailureKind.ROW:
                raise
            return error
        return None

    def _transaction(self, raw: sqlite3.Connection, batch: Batch, fill: _Fill) -> None:
        """Run a batch in a transaction of its own, and note that it is done once it is."""
        before = self._done

        def run(raw: sqlite3.Connection) -> None:
            fill(raw, batch)
            partly = batch.entries < self.batch.entries
            if self._also is not None:
                settled = range(before.position + 1, self._done.position + 1)
                self._also(raw, settled, self._done.rejections[len(before.rejections) :])
            if partly or self._also or self._done.rejections or not batch.is_idempotent:
                self.noted = True
                progress.note(raw, batch.stream, batch.table.name, batch.end)

        try:
            transact(raw, run)
        except CommitError as error:
            if failure_kind(error, in_commit=True) is FailureKind.IN_DOUBT:
                self._in_doubt = self._done
            self._done = before
            raise
        except BaseException:
            self._done = before
            raise

    def _apply(self, raw: sqlite3.Connection, batch: Batch) -> None:
        for step in batch.steps:
            for statement in statements(batch.table, step, variables=self._variables):
                _execute(raw, statement)
        self._done = self._done.taken(batch)

    def _isolate(self, raw: sqlite3.Connection, batch: Batch) -> None:
        """Apply a batch in the open transaction, without the entries that the table refuses."""
        before, refusal = self._done, None
        raw.execute("SAVEPOINT forebay_part")
        try:
            self._apply(raw, batch)
        except RowRefusedError as error:
            if not raw.in_transaction:  # the table's own rule was to roll back
                raise
            raw.execute("ROLLBACK TO forebay_part")
            self._done, refusal = before, error
        raw.execute("RELEASE forebay_part")
        if refusal is None:
            return
        if batch.entries == 1:
            self._reject(raw, batch, refusal)
            return
        for half in halves(batch):
            self._isolate(raw, half)

    def _reject(self, raw: sqlite3.Connection, batch: Batch, refusal: Exception) -> None:
        """Put the one entry of a batch into the dead letters."""
        [entry] = (entry for run in batch.accepted for entry in run)
        cause = _cause(refusal)
        code, message = code_name(cause), str(cause)
        if len(self._done.rejections) >= self._most_rejections:
            raise FloodError(
                f"table {batch.table.name!r} refuses more rows than may become dead letters in a "
                f"minute: a fault of the program, not of a row; the last one, "
                f"{named(batch.table, operation(entry))}: {message} ({code})",
                code=code,
            ) from cause
        try:
            letter = dead_letters.insert(
                raw,
                batch.table,
                operation(entry),
                code=code,
                message=message,
                attempts=self._attempt,
            )
        except sqlite3.DataError as error:
            raise BatchError(
                f"table {batch.table.name!r} refuses a row ({code}), "
                f"{named(batch.table, operation(entry))}, that does not fit into the dead letters "
                f"either: {error}",
                kind=FailureKind.FATAL,
                code=code,
            ) from error
        rejection = Rejection(batch.end, operation(entry), code, message, letter)
        self._done = replace(
            self._done, position=batch.end, rejections=(*self._done.rejections, rejection)
        )


def _cause(error: BaseException) -> BaseException:
    return error.__cause__ or error


def _execute(raw: sqlite3.Connection, statement: Statement) -> None:
    try:
        raw.execute(statement.sql, statement.parameters)
    except Exception as error:
        if refuses_rows(error) or _failed_while_running(raw, error, statement):
            raise RowRefusedError from error
        raise


def _failed_while_running(raw: sqlite3.Connection, error: Exception, statement: Statement) -> bool:
    """Tell a value that an expression of the table chokes on from a statement that is wrong.

    Both are SQLITE_ERROR: malformed JSON in a generated column, and a column that is gone. A
    statement that compiles is not wrong.
    """
    if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR or not raw.in_transaction:
        return False
    try:
        raw.execute(f"EXPLAIN {statement.sql}", statement.parameters).close()
    except sqlite3.Error:
        return False
    return True
