"""A batch: the ordered steps that one transaction executes on one table."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from forebay._table.operations import Delete, DeleteBy, Entry, Key, Operation, Row, Update, Write
from forebay._table.table import Table


class FlushReason(enum.Enum):
    """Why a flush started."""

    FULL = "full"
    """The pending rows filled a batch, or the buffer reached its capacity."""
    INTERVAL = "interval"
    """The oldest pending entry waited for the flush interval."""
    REQUESTED = "requested"
    """A task waits in `flush` or `write`."""
    DRAIN = "drain"
    """The buffer is closing."""


@dataclass(frozen=True, slots=True)
class WriteStep:
    """Insert rows one after another. Merge a row whose key exists into the existing row."""

    rows: Sequence[Row]
    operation: ClassVar[str] = "write"

    def __len__(self) -> int:
        return len(self.rows)

    def operations(self) -> Iterator[Operation]:
        """Return the step's operations, one per row."""
        return (Write(tuple(row)) for row in self.rows)


@dataclass(frozen=True, slots=True)
class UpdateStep:
    """Set the same columns of several rows by their keys.

    No key occurs twice if the table is coalesced.
    """

    columns: tuple[str, ...]
    updates: Sequence[tuple[Key, tuple[Any, ...]]]
    operation: ClassVar[str] = "update"

    def __len__(self) -> int:
        return len(self.updates)

    def operations(self) -> Iterator[Operation]:
        """Return the step's operations, one per key."""
        return (
            Update(key, dict(zip(self.columns, values, strict=True)))
            for key, values in self.updates
        )


@dataclass(frozen=True, slots=True)
class DeleteStep:
    """Delete the rows with these keys."""

    keys: Sequence[Key]
    operation: ClassVar[str] = "delete"

    def __len__(self) -> int:
        return len(self.keys)

    def operations(self) -> Iterator[Operation]:
        """Return the step's operations, one per key."""
        return map(Delete, self.keys)


@dataclass(frozen=True, slots=True)
class DeleteByStep:
    """Delete the rows whose `delete_by` column has one of these values."""

    values: Sequence[Any]
    operation: ClassVar[str] = "delete_by"

    def __len__(self) -> int:
        return len(self.values)

    def operations(self) -> Iterator[Operation]:
        """Return the step's operations, one per value."""
        return map(DeleteBy, self.values)


Step: TypeAlias = WriteStep | UpdateStep | DeleteStep | DeleteByStep


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Batch:
    """What one flush commits to one table in one transaction. A batch is immutable.

    Attributes:
        table: the table.
        accepted: the entries of the batch in the order of acceptance, as one or more sequences.
        entries: the number of these entries, superseded ones included.
        steps: the steps that have the effect of these entries, in the order of execution.
        reason: why the flush started.
        stream: a unique id of the buffer that made the batch.
        position: how many entries of that buffer precede the batch.
    """

    table: Table[Any]
    accepted: tuple[Sequence[Entry], ...]
    entries: int
    steps: tuple[Step, ...]
    reason: FlushReason
    stream: str
    position: int

    def __len__(self) -> int:
        return sum(map(len, self.steps))

    @property
    def end(self) -> int:
        """How many entries of the buffer are settled once this batch is committed."""
        return self.position + self.entries

    def operations(self) -> Iterator[Operation]:
        """Return every operation of the batch, in the order of execution."""
        return (operation for step in self.steps for operation in step.operations())
