"""Read rows as they would be if every accepted entry had been executed.

A row is read from the pending entries of its key alone if they decide what it is. Otherwise it is
read from the table, with the position up to which the table reflects the entries, and the later
ones are replayed on it. The entries are captured before the table is read: an entry that settles
in between is in both, and the position tells that it must not be replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import trio

from forebay._batching.replay import Replay
from forebay._buffer.ledger import Ledger
from forebay._buffer.pending_entries import CapturedEntries, PendingEntries
from forebay._decoding import RowReader
from forebay._table.operations import Entry, Key, Row
from forebay._table.table import Table
from forebay.stores import Store

R = TypeVar("R")


class Reader(Generic[R]):
    """Reads the rows of one buffer by their keys.

    Args:
        table: the table of the buffer, which has a key.
        store: where the table is.
        stream: the unique id of the buffer.
        ledger: counts the accepted and the settled entries.
        pending: the entries that are not settled.
    """

    def __init__(
        self,
        table: Table[R],
        store: Store,
        *,
        stream: str,
        ledger: Ledger,
        pending: PendingEntries,
    ) -> None:
        self._table = table
        self._store = store
        self._stream = stream
        self._ledger = ledger
        self._pending = pending
        self._replay = Replay(table)
        self._decoder = RowReader(table, [column.name for column in table.columns])

    async def read(self, keys: Sequence[Key]) -> list[R | None]:
        """Return the rows with these keys after all entries accepted before this call.

        Args:
            keys: the keys, as they are stored.

        Returns:
            For each key its row, or None.

        Raises:
            DecodeError: a stored value is not one of its column.
            StoreError: the database cannot be read.
        """
        captured = await self._pending.capture(
            self._ledger.accepted, settled=lambda: self._ledger.settled
        )
        entries = {key: captured.entries_of(key) for key in keys}
        rows: dict[Key, Row | None] = {}
        for key, of_key in entries.items():
            decided = self._replay.decided_from(of_key)
            if decided is not None:
                before = of_key[decided][0] - 1
                rows[key] = self._after(before, None, of_key[decided:], captured)
        undecided = [key for key in entries if key not in rows]
        if undecided:
            stored = await self._store.read_rows(self._table, undecided, stream=self._stream)
            # Merging would fail on a value that another program stored under another type.
            self._decoder.read(
                [stored.rows[k] for k in undecided if entries[k] and k in stored.rows]
            )
            for key in undecided:
                row = stored.rows.get(key)
                rows[key] = self._after(stored.position, row, entries[key], captured)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
        found = [row for key in keys if (row := rows[key]) is not None]
        decoded = iter(self._decoder.read(found))
        return [None if rows[key] is None else next(decoded) for key in keys]

    def _after(
        self,
        position: int,
        row: Row | None,
        entries: Sequence[tuple[int, Entry]],
        captured: CapturedEntries,
    ) -> Row | None:
        """Return the row of a key after all captured entries.

        Args:
            position: the number of the last entry that `row` reflects.
            row: the row at that time.
            entries: the later entries of the key with their numbers; earlier ones do not count.
            captured: all entries, for deletes by another column.
        """
        return self._replay.run(
            row,
            entries,
            after=position,
            up_to=captured.accepted,
            deletes_value=captured.deletes_value,
        )
