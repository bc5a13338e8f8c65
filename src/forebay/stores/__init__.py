"""What forebay asks of a database: a `Store` commits batches, each whole or not at all."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from forebay._batching.batch import (
    Batch,
    DeleteByStep,
    DeleteStep,
    Step,
    UpdateStep,
    WriteStep,
)
from forebay._database import Database
from forebay._table.operations import Operation
from forebay._table.table import Table


class FailureKind(enum.Enum):
    """What a failed commit means for the rows of its batch."""

    TRANSIENT = "transient"
    """Nothing was written, and waiting may mend it: locked, disk full, an I/O error."""
    ROW = "row"
    """Nothing was written, and one of the rows is why: a constraint, an impossible value."""
    FATAL = "fatal"
    """Nothing was written, and neither waiting nor other rows mend it."""
    IN_DOUBT = "in doubt"
    """COMMIT itself failed: the batch may be in the database, or not."""


class BatchError(Exception):
    """A store could not commit a batch. The database's own error is the `__cause__`.

    Attributes:
        kind: what it means for the rows.
        code: the database's name for the error, such as `SQLITE_BUSY`: for metrics.
        settled: how many of the batch's entries, from the first on, were settled all the same,
            by transactions of their own before the one that failed.
        outcome: what became of these; None where there are none.
        in_doubt: whether the batch may be in the database all the same: so it is after a failure
            of this kind, and as long as nobody could look what became of that COMMIT.
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
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.settled = settled
        self.outcome = outcome
        self.in_doubt: bool = in_doubt or kind is FailureKind.IN_DOUBT


class FloodError(BatchError):
    """The table refuses more entries of a batch than may go to the dead letters: it is fatal."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, kind=FailureKind.FATAL, code=code)


@dataclass(frozen=True, slots=True)
class Rejection:
    """An entry that the table refused, and that is in the dead letters instead.

    Attributes:
        number: the entry's number in its buffer, counted from 1.
        operation: what it asked for.
        code: the database's name for the error, such as `SQLITE_CONSTRAINT_NOTNULL`.
        message: the error's text.
        dead_letter: the id of the dead letter.
    """

    number: int
    operation: Operation
    code: str
    message: str
    dead_letter: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch that was committed.

    Attributes:
        operations: how many operations of each kind the table took, by `Step.operation`.
        rejections: the entries it refused, in their order.
        duration: how long the transaction took, in seconds.
    """

    operations: Mapping[str, int]
    rejections: Sequence[Rejection] = ()
    duration: float = 0.0


class Store(Protocol):
    """A database, as the buffers see it."""

    async def prepare(self, tables: Sequence[Table[Any]]) -> None:
        """Make ready for batches of these tables.

        Raises:
            SchemaError: one is not in the database as it is declared.
        """
        ...

    async def commit(self, batch: Batch, *, attempt: int, most_rejections: float) -> Outcome:
        """Run the steps of a batch in one transaction and commit it.

        Entries that the table refuses go to the dead letters, in the same transaction; the
        others are committed. Once the transaction has begun, cancellation waits until it ended,
        so that the outcome is known. Cancelled before, nothing was written.

        Args:
            batch: what to do. After a failure the same batch comes again, and the store finds
                out what of it is done already, so that nothing is done twice.
            attempt: which attempt at this batch it is, counted from 1.
            most_rejections: how many entries may be refused; one more is fatal.

        Raises:
            BatchError: it was not committed, or may not have been.
            FloodError: more entries were refused than may be.
        """
        ...


@runtime_checkable
class Described(Protocol):
    """What a store may tell of its database, for telemetry: in any thread, at any time."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """OpenTelemetry's attributes of the database: `db.system.name`, `db.namespace`."""
        ...

    def wal_size(self) -> int | None:
        """Tell the size of the write-ahead log, in bytes; None where there is none."""
        ...


@runtime_checkable
class Identified(Protocol):
    """What a store may tell of its database, for spill files: which one it is."""

    async def identify(self) -> Database:
        """Tell where the database is and its id, which it is given where it has none.

        Raises:
            StoreError: the database cannot be read, or not written.
        """
        ...


__all__ = [
    "Batch",
    "BatchError",
    "Database",
    "DeleteByStep",
    "DeleteStep",
    "Described",
    "FailureKind",
    "FloodError",
    "Identified",
    "Outcome",
    "Rejection",
    "Step",
    "Store",
    "UpdateStep",
    "WriteStep",
]
