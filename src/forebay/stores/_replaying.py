"""The store of a replay: what commits an operation again settles its dead letter with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from forebay._table import Table
from forebay.stores import Batch, Outcome, Rejection
from forebay.stores import _dead_letters as dead_letters
from forebay.stores.sqlite import SqliteStore


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
        dead_letters.settle(
            raw,
            [self.letters[number - 1] for number in numbers],
            refused={self.letters[r.number - 1]: r.dead_letter for r in rejections},
        )
