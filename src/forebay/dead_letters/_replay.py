"""Replay of dead letters: their entries go through a buffer, whose commits remove the letters."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import trio

from forebay._buffer.buffer import Buffer
from forebay._errors import SchemaError
from forebay._format import SPOOL_ID
from forebay._group import open_buffers
from forebay._options import BufferOptions
from forebay._table.json_format import decode_declaration, decode_operation
from forebay._table.operations import Delete, DeleteBy, Operation, Update, Write
from forebay._table.table import Table
from forebay.dead_letters._model import DeadLetter
from forebay.dead_letters._windows import Windows, let_others_write, query
from forebay.stores import Attempt, Batch, Outcome, Rejection, Store
from forebay.stores.sqlite import SqliteStore
from forebay.stores.sqlite import _dead_letter_table as letter_table

_IN_CLICKHOUSE: Final = (
    "the file is a spool, and the table is in ClickHouse; let the program decode the letter, and "
    "pass its operation to Buffer.enqueue_again"
)


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The outcome of a replay.

    Attributes:
        replayed: the ids of the letters whose entries were committed. These letters are removed.
        refused: the ids of the letters whose entries the table refused again.
        skipped: the ids of the letters that could not be tried, each with the reason.
    """

    replayed: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    skipped: Mapping[int, str] = field(default_factory=dict)


class _Progress:
    """The letters of a replay so far, by their outcome."""

    def __init__(self) -> None:
        self.replayed: list[int] = []
        self.refused: list[int] = []
        self.skipped: dict[int, str] = {}


class _ReplayAttempt:
    """An attempt that reports the outcome of the batch once it is committed."""

    def __init__(self, attempt: Attempt, report: Callable[[Outcome], None]) -> None:
        self._attempt = attempt
        self._report = report

    async def commit(self, *, rejection_limit: float) -> Outcome:
        outcome = await self._attempt.commit(rejection_limit=rejection_limit)
        self._report(outcome)
        return outcome


class _ReplayStore(Store):
    """A store for one buffer whose entries come from letters.

    Each transaction that commits entries also removes their letters, or records that they were
    refused again.
    """

    def __init__(self, store: SqliteStore, progress: _Progress) -> None:
        self._store = store
        self._progress = progress
        self.letters: list[int] = []
        """The ids of the letters, in the order in which their entries were enqueued."""

    async def prepare(self, tables: Sequence[Table[Any]]) -> None:
        await self._store.prepare(tables)

    def begin(self, batch: Batch) -> Attempt:
        attempt = self._store.begin(batch, before_commit=self._record)
        return _ReplayAttempt(attempt, partial(self._count, batch))

    def _count(self, batch: Batch, outcome: Outcome) -> None:
        """Add the letters of a committed batch to the progress."""
        refused = {rejection.number for rejection in outcome.rejections}
        for number in range(batch.position + 1, batch.end + 1):
            ids = self._progress.refused if number in refused else self._progress.replayed
            ids.append(self.letters[number - 1])

    def _record(
        self, raw: sqlite3.Connection, numbers: range, rejections: Sequence[Rejection]
    ) -> None:
        """Update the letters, in the transaction that commits their entries."""
        letter_table.record_replay(
            raw,
            [self.letters[number - 1] for number in numbers],
            refused={self.letters[r.number - 1]: r.dead_letter for r in rejections},
        )


async def replay_windows(
    store: SqliteStore, windows: Windows, options: BufferOptions
) -> ReplayResult:
    """Replay letters, window by window.

    Args:
        store: the store.
        windows: the letters.
        options: for the buffers.

    Raises:
        FlushError: a buffer stopped.
        DrainError: a buffer could not drain in time.
        StoreError: the letters cannot be read.
    """
    progress = _Progress()
    in_clickhouse = await store.fetch_one("PRAGMA application_id") == (SPOOL_ID,)
    async for window in windows:
        sql, parameters = letter_table.select(window, newest_first=False, limit=-1)
        letters = map(DeadLetter.from_row, await query(store, sql, parameters))
        for table, entries in _by_table(letters, progress.skipped).items():
            if in_clickhouse:
                progress.skipped.update(dict.fromkeys(entries, _IN_CLICKHOUSE))
                continue
            begun = trio.current_time()
            try:
                await _replay_table(store, table, entries, options, progress)
            except SchemaError as error:
                progress.skipped.update(dict.fromkeys(entries, str(error)))
            await let_others_write(trio.current_time() - begun)
    return ReplayResult(tuple(progress.replayed), tuple(progress.refused), progress.skipped)


def _by_table(
    letters: Iterable[DeadLetter], skipped: dict[int, str]
) -> dict[Table[tuple[Any, ...]], dict[int, Operation]]:
    """Return the entries of letters by their tables; two declarations of one name are two tables.

    Args:
        letters: the letters.
        skipped: gets the ids of letters that cannot be decoded, with the reason.
    """
    tables: dict[str, Table[tuple[Any, ...]]] = {}
    entries: dict[Table[tuple[Any, ...]], dict[int, Operation]] = {}
    for letter in letters:
        try:
            if letter.declaration not in tables:
                tables[letter.declaration] = decode_declaration(letter.declaration)
            table = tables[letter.declaration]
            entry = decode_operation(table, letter.entry)
        except ValueError as error:
            skipped[letter.id] = f"it cannot be decoded: {error}"
        else:
            entries.setdefault(table, {})[letter.id] = entry
    return entries


async def _replay_table(
    store: SqliteStore,
    table: Table[tuple[Any, ...]],
    entries: Mapping[int, Operation],
    options: BufferOptions,
    progress: _Progress,
) -> None:
    """Replay letters of one table.

    Args:
        store: the store.
        table: the table.
        entries: the entries, by the ids of their letters, in order.
        options: for the buffer.
        progress: gets the outcome of each letter.

    Raises:
        SchemaError: the table in the file differs from its declaration.
        FlushError: the buffer stopped.
        DrainError: the buffer could not drain in time.
    """
    replay_store = _ReplayStore(store, progress)
    async with open_buffers(replay_store, table, options=options) as buffers:
        for letter, entry in entries.items():
            # The buffer may flush the entry before the call returns.
            replay_store.letters.append(letter)
            try:
                await _enqueue(buffers[table], entry)
            except (TypeError, ValueError) as error:
                replay_store.letters.pop()
                progress.skipped[letter] = str(error)
        await buffers.flush()


async def _enqueue(buffer: Buffer[tuple[Any, ...]], entry: Operation) -> None:
    match entry:
        case Write(row):
            await buffer.enqueue(row)
        case Update(key, columns):
            await buffer.enqueue_update(key, **columns)
        case Delete(key):
            await buffer.enqueue_delete(key)
        case DeleteBy(value):  # pragma: no branch  # the last kind
            await buffer.enqueue_delete_by(value)
