"""`MemoryStore`: a store for tests, without a file or a thread, that is slow or fails as scripted.

Since it uses no threads, times of pytest-trio's `autojump_clock` are exact in tests that use it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import trio

from forebay._batching.batch import Batch, DeleteByStep, DeleteStep, UpdateStep, WriteStep
from forebay._batching.coalesce import Coalescer
from forebay._table.operations import Entry, Key, Operation, Row, to_operation
from forebay._table.row_merger import RowMerger
from forebay._table.table import Table
from forebay.stores import (
    Attempt,
    BatchError,
    FailureKind,
    FloodError,
    Outcome,
    Rejection,
    Store,
    StoredRows,
)

__all__ = ["FailureKind", "MemoryStore"]


class _MemoryAttempt:
    """The attempt to commit one batch to a `MemoryStore`."""

    def __init__(self, commit: Callable[[float], Awaitable[Outcome]]) -> None:
        self._commit = commit

    async def commit(self, *, rejection_limit: float) -> Outcome:
        return await self._commit(rejection_limit)


class MemoryStore(Store):
    """A store that keeps its tables in dictionaries, and records the batches committed to it.

    Args:
        delay: how long each commit takes, in seconds of Trio's clock.

    Example:
        >>> from forebay.testing import FailureKind, MemoryStore
        >>> async def test_retries(autojump_clock):
        ...     store = MemoryStore()
        ...     store.fail_next(FailureKind.TRANSIENT, times=2)
        ...     async with open_buffers(store, artifacts) as buffers:
        ...         await buffers[artifacts].write(Artifact("a", 1, 1.0))
        ...     assert store.attempts == 3

    Attributes:
        batches: the batches committed, in order.
        attempts: the number of attempts to commit, failed ones included.
        dead_letters: the entries that the tables refused, in order.
        delay: how long each commit takes from now on, in seconds of Trio's clock.
    """

    def __init__(self, *, delay: float = 0.0) -> None:
        self.batches: list[Batch] = []
        self.attempts: int = 0
        self.delay = delay
        self.dead_letters: list[Rejection] = []
        self._refuses: Callable[[Operation], bool] | None = None
        self._failures: list[BaseException] = []
        self._gate = trio.Event()
        self._gate.set()
        self._rows: dict[str, dict[Key, Row]] = {}
        self._appended: dict[str, list[Row]] = {}
        self._positions: dict[str, int] = {}

    def rows(self, table: Table[Any]) -> list[Row]:
        """Return the rows of a table: sorted by key, or in the order of writes if it has no key."""
        if not table.key:
            return list(self._appended.get(table.name, []))
        rows = self._rows.get(table.name, {})
        return [rows[key] for key in sorted(rows)]

    def fail_next(self, failure: FailureKind | BaseException, *, times: int = 1) -> None:
        """Make the next commits fail. Several calls add up.

        Args:
            failure: the exception to raise, or the kind of the `BatchError` to raise.
            times: how many commits fail.
        """
        error = failure
        if isinstance(error, FailureKind):
            error = BatchError(f"scripted: {error.value}", kind=error, code="SCRIPTED")
        self._failures.extend([error] * times)

    def refuse(self, predicate: Callable[[Operation], bool] | None) -> None:
        """Make the tables refuse some entries from now on, as a constraint would.

        Args:
            predicate: returns whether an operation is refused; None to refuse nothing.
        """
        self._refuses = predicate

    def stop(self) -> None:
        """Make commits hang from now on, until `resume`."""
        if self._gate.is_set():  # commits that hang already wait for this event
            self._gate = trio.Event()

    def resume(self) -> None:
        """Make commits continue, also those that hang."""
        self._gate.set()

    async def prepare(self, tables: Sequence[Table[Any]]) -> None:  # noqa: ARG002  # as the base class has it
        """Do nothing: every table exists."""
        await trio.lowlevel.checkpoint()

    def unsupported_calls(self, table: Table[Any]) -> Mapping[str, str]:  # noqa: ARG002  # as the base class has it
        """Return nothing: a buffer on this store has all methods."""
        return {}

    async def read_rows(self, table: Table[Any], keys: Sequence[Key], *, stream: str) -> StoredRows:
        """Return the rows with these keys at once. `delay`, `stop` and failures do not matter."""
        await trio.lowlevel.checkpoint()
        rows = self._rows.get(table.name, {})
        return StoredRows(
            {key: rows[key] for key in keys if key in rows}, self._positions.get(stream, 0)
        )

    def begin(self, batch: Batch) -> Attempt:
        """Return an attempt to commit a batch.

        Its `commit` waits, fails and refuses entries as scripted, and then applies the rest of the
        batch. If it is cancelled, nothing was applied.
        """
        return _MemoryAttempt(partial(self._commit, batch))

    async def _commit(self, batch: Batch, rejection_limit: float) -> Outcome:
        self.attempts += 1
        await self._gate.wait()
        await trio.sleep(self.delay)
        if self._failures:
            raise self._failures.pop(0)
        accepted, rejections = self._without_refused(batch)
        if len(rejections) > rejection_limit:
            raise FloodError("scripted: a flood", code="SCRIPTED")
        for step in accepted.steps:
            self._apply(batch.table, step)
        self.batches.append(batch)
        self._positions[batch.stream] = batch.end
        self.dead_letters.extend(rejections)
        operations = Counter[str]()
        for step in accepted.steps:
            operations[step.operation] += len(step)
        return Outcome(operations=operations, rejections=rejections, duration=self.delay)

    def _without_refused(self, batch: Batch) -> tuple[Batch, list[Rejection]]:
        """Return the batch without the entries that are refused, and the refused entries."""
        refuses = self._refuses
        if refuses is None:
            return batch, []
        good: list[Entry] = []
        rejections: list[Rejection] = []
        for number, entry in enumerate(chain.from_iterable(batch.accepted), batch.position + 1):
            if refuses(to_operation(entry)):
                letter = len(self.dead_letters) + len(rejections) + 1
                rejections.append(
                    Rejection(number, to_operation(entry), "SCRIPTED", "scripted", letter)
                )
            else:
                good.append(entry)
        coalescer = Coalescer(batch.table)
        coalescer.add(good, only_rows=False)
        return coalescer.take(batch.reason), rejections

    def _apply(
        self, table: Table[Any], step: WriteStep | UpdateStep | DeleteStep | DeleteByStep
    ) -> None:
        rows = self._rows.setdefault(table.name, {})
        match step:
            case WriteStep(written) if not table.key:
                self._appended.setdefault(table.name, []).extend(map(tuple, written))
            case WriteStep(written):
                merger = RowMerger(table)
                for row in written:
                    key = merger.key_of(row)
                    rows[key] = merger.merge(rows[key], row) if key in rows else tuple(row)
            case UpdateStep(columns, updates):
                merger = RowMerger(table)
                for key, values in updates:
                    if key in rows:
                        changes = dict(zip(columns, values, strict=True))
                        rows[key] = merger.set_columns(rows[key], changes)
            case DeleteStep(keys):
                for key in keys:
                    rows.pop(key, None)
            case DeleteByStep(values):  # pragma: no branch  # the last kind
                column = [column.name for column in table.columns].index(str(table.delete_by))
                gone = set(values)
                for key in [key for key, row in rows.items() if row[column] in gone]:
                    del rows[key]
                appended = self._appended.get(table.name, [])
                self._appended[table.name] = [row for row in appended if row[column] not in gone]
