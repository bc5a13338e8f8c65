"""Replaying dead letters: their operations go through a buffer, and they go with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebay._buffer import Buffer
from forebay._group import open_buffers
from forebay._operations import Delete, DeleteBy, Operation, Update, Write
from forebay._options import BufferOptions
from forebay._table import Table
from forebay.stores._replaying import ReplayingStore
from forebay.stores.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the letters of a replay.

    Attributes:
        replayed: the ids of those whose operations are committed; they are no letters any more.
        refused: the ids of those that the table refused once more.
        skipped: why the others could not be tried, by their ids.
    """

    replayed: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    skipped: Mapping[int, str] = field(default_factory=dict)


async def replay_operations(
    store: SqliteStore,
    table: Table[tuple[Any, ...]],
    operations: Mapping[int, Operation],
    options: BufferOptions,
) -> Replayed:
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
    return Replayed(tuple(replaying.replayed), tuple(replaying.refused), skipped)


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
