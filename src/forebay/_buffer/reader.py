"""Read rows as they would be if every accepted entry had been executed.

A row is read from the pending entries of its key alone if they decide what it is. Otherwise it is
read from the table, with the position up to which the table reflects the entries, and the later
ones are replayed on it. The entries are captured before the table is read: an entry that settles
in between is in both, and the position tells that it must not be replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import trio

from forebay._batching.replay import Replay
from forebay._buffer.ledger import Ledger
from forebay._buffer.pending_entries import CapturedEntries, PendingEntries
from forebay._decoding import RowReader
from forebay._table.operations import Key, Row
from forebay._table.table import Table
from forebay.stores import Store


class Reader:
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
        table: Table[Any],
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

    async def read(self, keys: Iterable[Key]) -> Mapping[Key, Row]:
        """Return the rows with these keys after all entries accepted before this call.

        Args:
            keys: the keys, as they are stored.

        Returns:
            The rows that exist, by key.

        Raises:
            TypeError: the store cannot read the rows of this table.
            DecodeError: a stored value is not one of its column.
            StoreError: the database cannot be read.
        """
        reason = self._store.unsupported_calls(self._table).get("get")
        if reason is not None:
            raise TypeError(f"table {self._table.name!r} cannot be read by key: {reason}")
        captured = await self._pending.capture(
            self._ledger.accepted, settled=lambda: self._ledger.settled
        )
        rows: dict[Key, Row | None] = {}
        undecided: list[Key] = []
        for key in keys:
            entries = captured.entries_of(key)
            decided = self._replay.decided_from(entries)
            if decided is None:
                undecided.append(key)
            else:
                rows[key] = self._after(None, entries[decided][0] - 1, key, captured)
        if undecided:
            stored = await self._store.read_rows(self._table, undecided, stream=self._stream)
            # Merging would fail on a value that another program stored under another type.
            self._decoder.read(
                [stored.rows[k] for k in undecided if k in stored.rows and captured.entries_of(k)]
            )
            for key in undecided:
                rows[key] = self._after(stored.rows.get(key), stored.position, key, captured)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return {key: row for key, row in rows.items() if row is not None}

    def _after(
        self, row: Row | None, position: int, key: Key, captured: CapturedEntries
    ) -> Row | None:
        """Return a row after all captured entries, given the row after the one at `position`."""
        return self._replay.run(
            row,
            captured.entries_of(key),
            after=position,
            up_to=captured.accepted,
            deletes_value=captured.deletes_value,
        )
