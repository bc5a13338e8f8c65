"""Commit one batch in one transaction, and isolate the rows that the table refuses.

Everything here runs in the writer's thread. The first try executes the whole batch. If the table
refuses a row, the batch is split in two; each half is coalesced again and executed under a
savepoint, and so on, down to single entries. k bad entries among n cost O(k log n) tries.
An entry that fails alone becomes a dead letter in the same transaction. So an entry fails if, and
only if, it would fail when every entry is executed alone and in order.

Some constraints fail only at COMMIT (a deferred foreign key), and some roll the transaction back
(ON CONFLICT ROLLBACK). Then the halves are committed in separate transactions. So are the entries
of a table without coalescing if one of them could repair a deferred foreign key that an earlier one
violates: see `_sharing.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NoReturn, TypeAlias

from forebay._batching.batch import Batch
from forebay._batching.coalesce import remaining_batch, split_batch
from forebay._table.json_format import describe_operation
from forebay._table.operations import to_operation
from forebay._table.table import is_coalesced
from forebay.sqlite import CommitError, transact
from forebay.stores import BatchError, FailureKind, FloodError, Outcome, Rejection
from forebay.stores.sqlite import _dead_letter_table as dead_letters
from forebay.stores.sqlite._errors import batch_error, code_name, failure_kind, refuses_rows
from forebay.stores.sqlite._explain import check_compiles
from forebay.stores.sqlite._positions import load_position, save_position
from forebay.stores.sqlite._settled import Settled
from forebay.stores.sqlite._sharing import KnownEffects, Sharing
from forebay.stores.sqlite._statements import Statement, statements

TransactionHook: TypeAlias = Callable[[sqlite3.Connection, range, Sequence[Rejection]], None]
"""A function that is called in each transaction of a batch, before COMMIT.

Its arguments: the connection, the numbers of the entries that the transaction settles, counted
from 1, and the rejections among them.
"""

_TransactionBody: TypeAlias = Callable[[sqlite3.Connection, Batch], None]


class RowRefusedError(Exception):
    """A statement failed because of one of its rows. SQLite's error is the `__cause__`."""


class SeparateTransactionsError(Exception):
    """The entries of a batch must not share a transaction."""


class BatchCommitter:
    """Commits one batch. It remembers between calls which part of the batch is settled."""

    def __init__(
        self,
        batch: Batch,
        *,
        variables: int,
        known_effects: KnownEffects | None = None,
        saved_position: bool = False,
        check_files: Callable[[], object] = lambda: None,
        before_commit: TransactionHook | None = None,
    ) -> None:
        self.batch = batch
        self.saved_position = saved_position
        """Whether a transaction of the buffer saved its position in the file."""
        self._variables = variables
        self._known_effects = known_effects or KnownEffects()
        self._check_files = check_files
        self._before_commit = before_commit
        self._sharing: Sharing | None = None
        """The rules for a batch of several entries without coalescing, in its transaction."""
        self._settled = Settled(batch.position)
        self._in_doubt: Settled | None = None
        self._attempts = 0
        self._rejection_limit = 0.0

    def commit_remaining(self, raw: sqlite3.Connection, rejection_limit: float) -> Outcome:
        """Commit the part of the batch that is not settled yet.

        Raises:
            FloodError: the table refused more entries of the batch than `rejection_limit`.
            BatchError: a refused entry does not fit into the dead letters.
            Exception: an error of SQLite; `failure_kind` returns its kind.
        """
        started = perf_counter()
        self._attempts += 1
        self._rejection_limit = rejection_limit
        if self._in_doubt is not None:
            self._resolve_doubt(raw, self._in_doubt)
        if self._settled.position < self.batch.end:
            batch = self.batch
            if self._settled.position > batch.position:
                batch = remaining_batch(batch, self._settled.position)
            if self._try_transaction(raw, batch, self._write) is not None:
                self._commit_with_isolation(raw, batch)
        return self.outcome(duration=perf_counter() - started)

    # The next two methods are about the tables of the buffers. A store whose tables are elsewhere
    # overrides them.

    def check_sharing(self, raw: sqlite3.Connection, batch: Batch) -> None:
        """Check that the entries of a batch may share the transaction, which has begun.

        Raises:
            SeparateTransactionsError: they must not.
        """
        self._sharing = None
        if batch.entries > 1 and not is_coalesced(batch.table):
            self._sharing = Sharing(
                raw, batch.table, variables=self._variables, known=self._known_effects
            )
            if not self._sharing.may_share_transaction(batch):
                raise SeparateTransactionsError

    def execute(self, raw: sqlite3.Connection, batch: Batch) -> None:
        """Execute all operations of a batch.

        Raises:
            RowRefusedError: the table refused one of the rows.
        """
        for step in batch.steps:
            for statement in statements(
                batch.table,
                step,
                variables=self._variables,
                shared_inserts=self._sharing is None or self._sharing.may_share_insert(step),
            ):
                _execute(raw, statement)

    @property
    def settled_entries(self) -> int:
        """The number of settled entries of the batch, counted from its first entry."""
        return self._settled.position - self.batch.position

    @property
    def in_doubt(self) -> bool:
        """Whether a COMMIT failed and the file has not been checked for its outcome since."""
        return self._in_doubt is not None

    def raise_batch_error(self, error: Exception) -> NoReturn:
        """Raise an error of `commit_remaining` as a `BatchError` that says what is settled."""
        if isinstance(error, BatchError):
            error.settled, error.outcome = self.settled_entries, self.outcome()
            raise error
        raise batch_error(
            error,
            settled=self.settled_entries,
            outcome=self.outcome(),
            in_doubt=self.in_doubt,
        ) from error

    def outcome(self, *, duration: float = 0.0) -> Outcome:
        """Return the outcome of the settled entries."""
        return Outcome(
            operations=self._settled.operations,
            rejections=self._settled.rejections(),
            duration=duration,
        )

    def _resolve_doubt(self, raw: sqlite3.Connection, in_doubt: Settled) -> None:
        """Check whether a COMMIT that failed with an I/O error took place."""
        self._check_files()
        if transact(raw, load_position, self.batch.stream) == in_doubt.position:
            self._settled = in_doubt
        self._in_doubt = None

    def _commit_with_isolation(self, raw: sqlite3.Connection, batch: Batch) -> None:
        """Commit a batch in which a row was refused, in one transaction if possible."""
        refusal = self._try_transaction(raw, batch, self._write_with_isolation)
        if refusal is None:
            return
        if batch.entries == 1:
            self._transact(raw, batch, lambda raw, one: self._insert_dead_letter(raw, one, refusal))
            return
        for half in split_batch(batch):
            self._commit_with_isolation(raw, half)

    def _try_transaction(
        self, raw: sqlite3.Connection, batch: Batch, body: _TransactionBody
    ) -> Exception | None:
        """Commit a batch. Return None, or the error if it was rolled back and has to be split."""
        try:
            self._transact(raw, batch, body)
        except (RowRefusedError, SeparateTransactionsError) as refusal:
            return refusal
        except CommitError as error:
            if failure_kind(error, in_commit=True) is not FailureKind.ROW:
                raise
            return error
        return None

    def _transact(self, raw: sqlite3.Connection, batch: Batch, body: _TransactionBody) -> None:
        """Settle a batch in one transaction. If the transaction fails, nothing is settled."""
        before = self._settled

        def settle(raw: sqlite3.Connection) -> None:
            self.check_sharing(raw, batch)
            body(raw, batch)
            if self._before_commit is not None:
                numbers = range(before.position + 1, self._settled.position + 1)
                rejections = self._settled.rejections(after=before.rejection_count)
                self._before_commit(raw, numbers, rejections)
            # Somebody may have dropped the table, which makes an attempt fail.
            create = self._attempts > 1 or not self.saved_position
            save_position(raw, batch.stream, batch.table.name, batch.end, create=create)
            self._check_files()

        try:
            transact(raw, settle)
        except CommitError as error:
            if failure_kind(error, in_commit=True) is FailureKind.IN_DOUBT:
                self._in_doubt = self._settled
            self._settled = before
            raise
        except BaseException:
            self._settled = before
            raise
        self.saved_position = True

    def _write(self, raw: sqlite3.Connection, batch: Batch) -> None:
        """Execute all operations of a batch, and note that they are settled."""
        self.execute(raw, batch)
        self._settled = self._settled.advanced_by(batch)

    def _write_with_isolation(self, raw: sqlite3.Connection, batch: Batch) -> None:
        """Execute the operations that the table accepts; the other entries become dead letters."""
        before, refusal = self._settled, None
        raw.execute("SAVEPOINT forebay_part")
        try:
            self._write(raw, batch)
        except RowRefusedError as error:
            if not raw.in_transaction:  # the constraint has ON CONFLICT ROLLBACK
                raise
            raw.execute("ROLLBACK TO forebay_part")
            self._settled, refusal = before, error
        raw.execute("RELEASE forebay_part")
        if refusal is None:
            return
        if batch.entries == 1:
            self._insert_dead_letter(raw, batch, refusal)
            return
        for half in split_batch(batch):
            self._write_with_isolation(raw, half)

    def _insert_dead_letter(
        self, raw: sqlite3.Connection, batch: Batch, refusal: Exception
    ) -> None:
        """Insert the only entry of a batch into the dead letters."""
        [entry] = (entry for run in batch.accepted for entry in run)
        cause = refusal.__cause__ or refusal
        code, message = code_name(cause), str(cause)
        row = describe_operation(batch.table, to_operation(entry))
        if self._settled.rejection_count >= self._rejection_limit:
            raise FloodError(
                f"table {batch.table.name!r} refused more rows than may become dead letters per "
                f"minute, so the cause is probably the program and not a single row; the last "
                f"refused entry is {row}: {message} ({code})",
                code=code,
                summary=f"table {batch.table.name!r} refused more rows than may become dead "
                f"letters per minute ({code})",
            ) from cause
        try:
            letter = dead_letters.insert(
                raw,
                batch.table,
                to_operation(entry),
                code=code,
                message=message,
                attempts=self._attempts,
            )
        except sqlite3.DataError as error:
            raise BatchError(
                f"table {batch.table.name!r} refused a row ({code}), {row}, which does not fit "
                f"into the dead letters either: {error}; store smaller values",
                kind=FailureKind.FATAL,
                code=code,
                summary=f"table {batch.table.name!r} refused a row ({code}), which does not fit "
                f"into the dead letters either",
            ) from error
        self._settled = self._settled.advanced_by_rejection(
            Rejection(batch.end, to_operation(entry), code, message, letter)
        )


def _execute(raw: sqlite3.Connection, statement: Statement) -> None:
    """Execute a statement.

    Raises:
        RowRefusedError: it failed because of one of its rows.
        Exception: it failed for another reason.
    """
    try:
        raw.execute(statement.sql, statement.parameters)
    except Exception as error:
        if refuses_rows(error) or _failed_because_of_a_value(raw, error, statement):
            raise RowRefusedError from error
        raise


def _failed_because_of_a_value(
    raw: sqlite3.Connection, error: Exception, statement: Statement
) -> bool:
    """Return whether a statement failed because of a value, not because its SQL is wrong.

    Both are SQLITE_ERROR: malformed JSON in a generated column, and a missing column. The SQL is
    right if SQLite can compile it.
    """
    if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR or not raw.in_transaction:
        return False
    try:
        check_compiles(raw, statement.sql)
    except sqlite3.Error:
        return False
    return True
