"""Replaying dead letters: their operations go through a buffer, and they go with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from forebay._buffer.buffer import Buffer
from forebay._group import open_buffers
from forebay._options import BufferOptions
from forebay._table.operations import Delete, DeleteBy, Operation, Update, Write
from forebay._table.table import Table
from forebay.stores import Attempt, Batch, Outcome, Rejection, Store
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


class _ReplayingAttempt:
    """An attempt that reports the outcome of the batch once it is committed."""

    def __init__(self, attempt: Attempt, report: Callable[[Outcome], None]) -> None:
        self._attempt = attempt
        self._report = report

    async def commit(self, *, rejection_limit: float) -> Outcome:
        outcome = await self._attempt.commit(rejection_limit=rejection_limit)
        self._report(outcome)
        return outcome


class ReplayingStore(Store):
    """A store for one buffer whose entries are letters: each transaction settles theirs."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.letters: list[int] = []
        """The ids of the letters, in the order in which the buffer was given their operations."""
        self.replayed: list[int] = []
        self.refused: list[int] = []

    async def prepare(self, tables: Sequence[Table[Any]]) -> None:
        await self._store.prepare(tables)

    def begin(self, batch: Batch) -> Attempt:
        attempt = self._store.begin(batch, before_commit=self._settle)
        return _ReplayingAttempt(attempt, partial(self._count, batch))

    def _count(self, batch: Batch, outcome: Outcome) -> None:
        """Record what became of the letters of a committed batch."""
        refused = {rejection.number for rejection in outcome.rejections}
        for number in range(batch.position + 1, batch.end + 1):
            ids = self.refused if number in refused else self.replayed
            ids.append(self.letters[number - 1])

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
