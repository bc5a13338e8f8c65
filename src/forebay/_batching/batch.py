"""A batch: what one transaction does to one table, as an ordered list of steps."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from forebay._table.merge import Merge
from forebay._table.operations import Delete, DeleteBy, Entry, Key, Operation, Row, Update, Write
from forebay._table.table import Table, value_columns


class FlushReason(enum.Enum):
    """Why a batch was taken."""

    FULL = "full"
    """As many rows were pending as a batch holds, or the buffer had no room for more entries."""
    INTERVAL = "interval"
    """The oldest pending entry had waited for the flush interval."""
    REQUESTED = "requested"
    """A program waits in `flush` or `write`."""
    DRAIN = "drain"
    """The buffer is closing."""


@dataclass(frozen=True, slots=True)
class WriteStep:
    """Insert rows, or merge them into those with their keys, one after another."""

    rows: Sequence[Row]
    operation: ClassVar[str] = "write"

    def __len__(self) -> int:
        return len(self.rows)

    def operations(self) -> Iterator[Operation]:
        """Give the step's operations, one a row."""
        return (Write(tuple(row)) for row in self.rows)


@dataclass(frozen=True, slots=True)
class UpdateStep:
    """Set the same columns of several rows, each row named by its key, no key twice."""

    columns: tuple[str, ...]
    updates: Sequence[tuple[Key, tuple[Any, ...]]]
    operation: ClassVar[str] = "update"

    def __len__(self) -> int:
        return len(self.updates)

    def operations(self) -> Iterator[Operation]:
        """Give the step's operations, one a key."""
        return (
            Update(key, dict(zip(self.columns, values, strict=True)))
            for key, values in self.updates
        )


@dataclass(frozen=True, slots=True)
class DeleteStep:
    """Remove the rows with these keys."""

    keys: Sequence[Key]
    operation: ClassVar[str] = "delete"

    def __len__(self) -> int:
        return len(self.keys)

    def operations(self) -> Iterator[Operation]:
        """Give the step's operations, one a key."""
        return map(Delete, self.keys)


@dataclass(frozen=True, slots=True)
class DeleteByStep:
    """Remove the rows whose `delete_by` column has one of these values."""

    values: Sequence[Any]
    operation: ClassVar[str] = "delete_by"

    def __len__(self) -> int:
        return len(self.values)

    def operations(self) -> Iterator[Operation]:
        """Give the step's operations, one a value."""
        return map(DeleteBy, self.values)


Step: TypeAlias = WriteStep | UpdateStep | DeleteStep | DeleteByStep


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Batch:
    """What one transaction is to do to one table. It never changes once it is made.

    Attributes:
        table: the table.
        accepted: the entries it stands for, in runs, in the order of their acceptance.
        entries: how many these are, superseded ones included.
        steps: what they come to, in the order to do it.
        reason: why it was taken.
        stream: names the buffer it comes from, no two the same, ever.
        position: how many entries of that buffer settled before these.
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
        """How many entries of the buffer have settled once this batch has."""
        return self.position + self.entries

    @property
    def is_idempotent(self) -> bool:
        """Whether committing this batch twice has the same result as committing it once."""
        return is_idempotent(self.table)

    def operations(self) -> Iterator[Operation]:
        """Give every operation of the batch, in the order they run."""
        return (operation for step in self.steps for operation in step.operations())


def is_idempotent(table: Table[Any]) -> bool:
    """Return whether every batch of a table can be committed twice with the result of once.

    This holds if rows have a key and later rows replace earlier ones as a whole. It does not hold
    with other merge rules or with `delete_by`: on the second commit an update can find a row that
    the first commit wrote after the update.
    """
    replaces_rows = all(column.merge is Merge.REPLACE for column in value_columns(table))
    return bool(table.key) and replaces_rows and table.delete_by is None
