"""Replaying dead letters: their operations go through a buffer, and they go with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forebay._buffer.buffer import Buffer
from forebay._group import open_buffers
from forebay._options import BufferOptions
from forebay._table.operations import Delete, DeleteBy, Operation, Update, Write
from forebay._table.table import Table
from forebay.stores import Batch, Outcome, Rejection
from forebay.stores.sqlite import SqliteStore
from forebay.stores.sqlite import _dead_letter_table as dead_letters


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What became of the letters of a replay.

    Attributes:
        replayed: the ids of those whose operations are committed; they are no letters any more.
        refused: the ids of those that the table refused once more.
        skipped: why the others could not be tried, by their ids.
    """

    replayed: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    skipped: Mapping[int, str] = field(default_factory=dict)


class ReplayingStore:
    """A store for one buffer whose entries are letters: each transaction settles theirs."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.letters: list[int] = []
        """The ids of the letters, in the order in which the buffer was given their operations."""
        self.replayed: list[int] = []
        self.refused: list[int] = []

    async def prepare(self, tables: Sequence[Table[Any]]) -> None:
        await self._store.prepare(tables)

    async def commit(self, batch: Batch, *, attempt: int, most_rejections: float) -> Outcome:
        outcome = await self._store.commit(
            batch, attempt=attempt, most_rejections=most_rejections, also=self._settle
        )
        refused = {rejection.number for rejection in outcome.rejections}
        for number in range(batch.position + 1, batch.end + 1):
            ids = self.refused if number in refused else self.replayed
            ids.append(self.letters[number - 1])
        return outcome

    def _settle(
        self, raw: sqlite3.Connection, numbers: range, rejections: Sequence[Rejection]
    ) -> None:
        """Settle the letters, in the transaction that settles their operations."""
        dead_letters.record_replay(
            raw,
            [self.letters[number - 1] for number in numbers],
            refused={self.letters[r.number - 1]: r.dead_letter for r in rejections},
        )


async def replay_operations(
    store: SqliteStore,
    table: Table[tuple[Any, ...]],
    operations: Mapping[int, Operation],
    options: BufferOptions,
) -> ReplayResult:
    """Replay letters of one table.

    Args:
        store: the store.
        table: the table.
        operations: the operations, by the ids of their letters, in order.
        options: for the buffer.

    Raises:
        SchemaError: the table is not in the database as it is declared.
        FlushError: the buffer stopped.
        DrainError: the buffer could not drain in time.
    """
    replaying = ReplayingStore(store)
    skipped: dict[int, str] = {}
    async with open_buffers(replaying, table, options=options) as buffers:
        for letter, operation in operations.items():
            # First, since the buffer may flush before it returns.
            replaying.letters.append(letter)
            try:
                await _enqueue(buffers[table], operation)
            except (TypeError, ValueError) as error:
                replaying.letters.pop()
                skipped[letter] = str(error)
        await buffers.flush()
    return ReplayResult(tuple(replaying.replayed), tuple(replaying.refused), skipped)


async def _enqueue(buffer: Buffer[tuple[Any, ...]], operation: Operation) -> None:
    match operation:
        case Write(row):
            await buffer.enqueue(row)
        case Update(key, columns):
            await buffer.enqueue_update(key, **columns)
        case Delete(key):
            await buffer.enqueue_delete(key)
        case DeleteBy(value):
            await buffer.enqueue_delete_by(value)
