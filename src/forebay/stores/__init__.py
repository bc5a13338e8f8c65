"""What forebay asks of a database: a `Store` commits batches, each whole or not at all."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from forebay._batch import (
    Batch,
    DeleteByStep,
    DeleteStep,
    Step,
    UpdateStep,
    WriteStep,
)
from forebay._table import Table


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
    """

    def __init__(self, message: str, *, kind: FailureKind, code: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch that was committed.

    Attributes:
        duration: how long the transaction took, in seconds.
    """

    duration: float = 0.0


class Store(Protocol):
    """A database, as the buffers see it."""

    async def prepare(self, tables: Sequence[Table[Any]]) -> None:
        """Make ready for batches of these tables.

        Raises:
            SchemaError: one is not in the database as it is declared.
        """
        ...

    async def commit(self, batch: Batch) -> Outcome:
        """Run the steps of a batch in one transaction and commit it.

        The outcome is always known: once the transaction has begun, cancellation waits until it
        ended. Cancelled before, nothing was written.

        Raises:
            BatchError: it was not committed, or may not have been.
        """
        ...


__all__ = [
    "Batch",
    "BatchError",
    "DeleteByStep",
    "DeleteStep",
    "FailureKind",
    "Outcome",
    "Step",
    "Store",
    "UpdateStep",
    "WriteStep",
]
