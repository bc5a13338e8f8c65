"""The contract of a store: it commits batches, and each batch completely or not at all."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from forebay._batching.batch import (
    Batch,
    DeleteByStep,
    DeleteStep,
    Step,
    UpdateStep,
    WriteStep,
)
from forebay._database import Database
from forebay._portable import Portable
from forebay._table.operations import Key, Operation, Row
from forebay._table.table import Table


class FailureKind(enum.Enum):
    """The kinds of failed commits, by what they mean for the rows of the batch."""

    TRANSIENT = "transient"
    """Nothing was written, and a retry may succeed (locked, disk full, an I/O error)."""
    ROW = "row"
    """Nothing was written because of one row (a constraint, a value that cannot be stored)."""
    FATAL = "fatal"
    """Nothing was written, and neither a retry nor other rows can succeed."""
    IN_DOUBT = "in doubt"
    """COMMIT failed in a way that does not tell whether it took place."""


class BatchError(Portable, Exception):
    """A store could not commit a batch. The database's error is the `__cause__`.

    Attributes:
        kind: what the failure means for the rows.
        code: the database's name for the error, such as `SQLITE_BUSY`, for metrics.
        settled: the number of entries, from the start of the batch, that earlier transactions
            settled before the one that failed.
        outcome: the outcome of the settled entries, or None.
        in_doubt: whether the rest of the batch may be in the database although this error was
            raised. True for a failure of kind `IN_DOUBT`, and for later failures until the store
            has checked what became of that COMMIT.
        recoverable: whether somebody may remove the cause while the program runs, such as a table
            that is missing. False if the database is lost, replaced or corrupt: a buffer stops
            then, also with `BufferOptions(on_failure="suspend")`.
        summary: the message without values of rows, for logs. By default it is the message.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: FailureKind,
        code: str,
        settled: int = 0,
        outcome: Outcome | None = None,
        in_doubt: bool = False,
        recoverable: bool = True,
        summary: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.settled = settled
        self.outcome = outcome
        self.in_doubt: bool = in_doubt or kind is FailureKind.IN_DOUBT
        self.recoverable = recoverable
        self.summary: str = message if summary is None else summary


class FloodError(BatchError):
    """The table refused more entries of a batch than may become dead letters. It is fatal."""

    def __init__(self, message: str, *, code: str, summary: str | None = None) -> None:
        super().__init__(message, kind=FailureKind.FATAL, code=code, summary=summary)


@dataclass(frozen=True, slots=True)
class Rejection:
    """An entry that the table refused and that is now a dead letter.

    Attributes:
        number: the number of the entry in its buffer, counted from 1.
        operation: the operation of the entry.
        code: the database's name for the error, such as `SQLITE_CONSTRAINT_NOTNULL`.
        message: the message of the error.
        dead_letter: the id of the dead letter.
    """

    number: int
    operation: Operation
    code: str
    message: str
    dead_letter: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a committed batch.

    Attributes:
        operations: the number of committed operations of each kind, by `Step.operation`.
        rejections: the entries that became dead letters, in their order.
        duration: how long the transaction took, in seconds.
    """

    operations: Mapping[str, int]
    rejections: Sequence[Rejection] = ()
    duration: float = 0.0


@dataclass(frozen=True, slots=True)
class SpoolState:
    """What of one table waits in a store until its database has it.

    Attributes:
        entries: the number of rows.
        bytes: their size, in bytes.
        oldest_age: how long the oldest has waited, in seconds; 0 if nothing waits.
        utilization: what waits of all tables of the spool, as a share of what may wait.
        blocked: whether nothing more is delivered until somebody removes the cause.
    """

    entries: int
    bytes: int
    oldest_age: float
    utilization: float = 0.0
    blocked: bool = False


class DeliveryObserver(Protocol):
    """What is told of the deliveries of a store that has a spool. It never raises."""

    def requested(self, table: str, *, duration: float, code: str | None, answered: bool) -> None:
        """Note one request.

        Args:
            table: the name of the table.
            duration: how long it took, in seconds.
            code: the code of the error; None if it succeeded.
            answered: whether the database itself reported the error.
        """
        ...

    def delivered(self, table: str, *, age: float) -> None:
        """Note that the database has acknowledged a block.

        Args:
            table: the name of the table.
            age: how long its oldest row was in the spool, in seconds.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of a table, as of one moment.

    Attributes:
        rows: the rows that exist, by key.
        position: how many entries of the buffer these rows reflect: all up to this number are
            settled. 0 if the database knows of none.
    """

    rows: Mapping[Key, Row]
    position: int


class Attempt(Protocol):
    """The attempt to commit one batch. A store returns it from `Store.begin`.

    It remembers, from one call of `commit` to the next, which part of the batch is settled, so
    that no entry is written twice. It also counts the calls, for the dead letters.
    """

    async def commit(self, *, rejection_limit: float) -> Outcome:
        """Commit the part of the batch that is not settled yet, in one transaction if possible.

        Entries that the table refuses become dead letters in the same transaction; the other
        entries are committed. After a `BatchError` that is transient or in doubt, call `commit`
        again.

        If the task is cancelled before the transaction has begun, nothing is written. After that,
        cancellation waits until the transaction has ended, so that its outcome is known.

        Args:
            rejection_limit: the number of entries of the batch that may become dead letters.

        Returns:
            The outcome of the whole batch, all calls included.

        Raises:
            BatchError: the batch was not committed, or COMMIT is in doubt.
            FloodError: the table refused more entries than `rejection_limit`.
        """
        ...


class PromptAttempt(ABC):
    """An `Attempt` that may commit at once, before any other task runs. A store need not have it.

    It is no protocol, because it is checked for each batch, and to check a protocol takes long.
    """

    @abstractmethod
    async def commit(self, *, rejection_limit: float) -> Outcome:
        """Commit the part of the batch that is not settled yet, as `Attempt.commit`."""

    @abstractmethod
    def commit_nowait(self, *, rejection_limit: float) -> Outcome:
        """Commit the batch if that takes no longer than some 100 µs.

        Args:
            rejection_limit: as for `Attempt.commit`.

        Raises:
            trio.WouldBlock: it takes longer, or cannot begin yet. `commit` goes on with it. If a
                transaction has begun, `commit` waits for its end, also if the task is cancelled.
            BatchError: as for `Attempt.commit`.
            FloodError: as for `Attempt.commit`.
        """


class Store(ABC):
    """A database to which buffers write. Derive a store of your own from this class."""

    @abstractmethod
    async def prepare(self, tables: Sequence[Table[Any]]) -> None:
        """Check that batches of these tables can be committed. `open_buffers` calls it once.

        Raises:
            SchemaError: a table in the database does not match its declaration.
        """

    async def recheck(self, table: Table[Any]) -> None:
        """Check again that batches of a table can be committed.

        A suspended buffer calls it before each attempt, since somebody may have created the table
        anew, with other columns or constraints. By default it calls `prepare`.

        Raises:
            SchemaError: the table in the database does not match its declaration.
            BatchError: the check failed. If the error is not `recoverable`, the buffer stops.
        """
        await self.prepare([table])

    @abstractmethod
    def begin(self, batch: Batch) -> Attempt:
        """Return an attempt to commit a batch. Nothing is written before `Attempt.commit`.

        The caller keeps the attempt until the batch is settled; the store keeps no reference.
        """

    def unsupported_calls(self, table: Table[Any]) -> Mapping[str, str]:  # noqa: ARG002  # for others
        """Return the methods of `Buffer` that the store cannot serve for a table, with the reason.

        A buffer calls this after `prepare`, and then refuses these methods. It asks about `get`,
        `get_many`, `enqueue_update` and `enqueue_delete`; the last two stand for all methods that
        accept updates and deletes. By default a store cannot serve `get` and `get_many`.
        """
        return dict.fromkeys(("get", "get_many"), "this store does not read rows by their keys")

    async def read_rows(self, table: Table[Any], keys: Sequence[Key], *, stream: str) -> StoredRows:
        """Read the rows with these keys, and the position of a buffer, as of one moment.

        The position must be exact, also while a batch of the buffer is being committed, or is in
        doubt: either the rows reflect an entry and the position includes it, or neither. A store
        that overrides this method also overrides `unsupported_calls`.

        Args:
            table: a table with a key.
            keys: at least one key.
            stream: `Batch.stream` of the buffer.

        Raises:
            StoreError: the database cannot be read.
        """
        raise NotImplementedError(f"{type(self).__name__} does not read rows by their keys")

    @property
    def attributes(self) -> Mapping[str, str]:
        """The OpenTelemetry attributes of the database, `db.system.name` and `db.namespace`.

        Telemetry reads them in any thread. Empty if the store does not define them.
        """
        return {}

    def wal_size(self) -> int | None:
        """Return the size of the write-ahead log in bytes, or None if there is no such log.

        Telemetry calls it in any thread.
        """
        return None

    def spool_state(self, table: str) -> SpoolState | None:  # noqa: ARG002  # for stores with a spool
        """Return what of a table waits in the store's spool, or None if there is no spool.

        Telemetry calls it in any thread.

        Args:
            table: the name of the table.
        """
        return None

    @property
    def delivery_attributes(self) -> Mapping[str, str]:
        """The OpenTelemetry attributes of the database to which a spool is delivered.

        `attributes` then describes the spool, to which batches are committed.
        """
        return {}

    def observe_deliveries(self, observer: DeliveryObserver) -> None:  # noqa: B027  # for stores with a spool
        """Report deliveries to an observer from now on, once however often it is passed.

        By default this does nothing, since a store without a spool delivers nothing.
        """

    async def identify(self) -> Database | None:
        """Return the path and the id of the database, which a spill file then names.

        Assign an id if the database has none. Return None if the store does not identify its
        database; this is the default.

        Raises:
            StoreError: the database cannot be read or written.
        """
        return None


__all__ = [
    "Attempt",
    "Batch",
    "BatchError",
    "Database",
    "DeleteByStep",
    "DeleteStep",
    "DeliveryObserver",
    "FailureKind",
    "FloodError",
    "Outcome",
    "PromptAttempt",
    "Rejection",
    "SpoolState",
    "Step",
    "Store",
    "StoredRows",
    "UpdateStep",
    "WriteStep",
]
