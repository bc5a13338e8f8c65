"""Write the rows into the table, through a buffer."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import trio

import forebay
from forebay._buffer.bulk import BulkSender
from forebay._group import worker_of
from forebay._table.operations import Row
from forebay.cli._errors import LoadError
from forebay.cli._load.database import DatabaseState, delete_all, restore
from forebay.cli._load.feed import UsableRows
from forebay.cli._load.options import LoadRequest
from forebay.cli._load.pending_rows import PendingRows
from forebay.cli._load.progress import Display
from forebay.cli._load.rejects import RejectedRows
from forebay.cli._load.status import Status
from forebay.cli._output import printable

_FLUSH_CHARACTERS = 64 * 1024 * 1024
"""The load flushes the buffer when it has rows of so many characters, to bound their memory.

The buffer's option `capacity_bytes` would do the same, but measures every row.
"""

_RESTORE_TIMEOUT = 10.0
"""Seconds that restoring the database may take."""

_Table: TypeAlias = forebay.Table[tuple[Any, ...]]


class TableWriter:
    """Writes rows into a table, through a buffer.

    Args:
        request: what to load, and how.
        display: shows what happens.
        rejected: gets the rows that the table refuses.
        status: shows the progress.
    """

    def __init__(
        self, request: LoadRequest, display: Display, rejected: RejectedRows, status: Status
    ) -> None:
        self._request = request
        self._display = display
        self._rejected = rejected
        self._status = status
        self._table = printable(request.table.name)
        self._database = printable(request.database)
        self._buffers: forebay.Buffers | None = None
        self._buffer: forebay.Buffer[tuple[Any, ...]] | None = None
        self._pending: PendingRows | None = None

    @property
    def statistics(self) -> forebay.BufferStatistics | None:
        """Those of the buffer; None if none was opened."""
        return None if self._buffer is None else self._buffer.statistics()

    @property
    def begun(self) -> bool:
        """Whether a buffer was opened."""
        return self._buffers is not None

    def give_up(self) -> None:
        """Do not wait for the accepted rows to be committed."""
        if self._buffers is not None:
            self._buffers.give_up()

    async def write(
        self, table: _Table, first: UsableRows, more: AsyncIterator[UsableRows]
    ) -> LoadError | None:
        """Open the database and enqueue the rows; return the error that ends the load early.

        Args:
            table: the table.
            first: the first rows.
            more: the other rows.

        Raises:
            LoadError: the rows of the table cannot be deleted.
            ForebayError: the database cannot be opened, or rows cannot be written.
            OSError: the database, or the file for rejected rows, cannot be written.
        """
        options = self._request.table
        self._status.wait_for(self.describe_opening)
        try:
            async with (
                forebay.open_sqlite(
                    self._request.database,
                    create=[table],
                    alter=options.alter or bool(options.indexes),
                    strict_tables=options.strict,
                ) as store,
                forebay.open_buffers(store, table, options=self._request.options) as self._buffers,
            ):
                self._status.buffer = self._buffer = self._buffers[table]
                self._status.wait_for(None)
                self._display.note(f"loading into table {self._table} of {self._database}")
                if options.truncate and first.rows:
                    await self._truncate(store)
                return await self._enqueue(table, self._buffers, first, more)
        finally:
            self._record_refused()

    async def _enqueue(
        self,
        table: _Table,
        buffers: forebay.Buffers,
        first: UsableRows,
        more: AsyncIterator[UsableRows],
    ) -> LoadError | None:
        worker = worker_of(buffers, table)
        self._pending = pending = PendingRows(worker.ledger)
        enqueue_converted = BulkSender[Row](
            worker.channel,
            method="load",
            item="row",
            items="rows",
            validate=_unchanged,
            validate_rows=_unchanged,
        ).send
        buffer = buffers[table]
        rows: UsableRows | None = first
        unflushed = 0
        while rows is not None:
            if rows.chunk is not None:
                pending.add(rows.chunk, len(rows.rows))
                # The converter of cells makes stored values only, which need no other check.
                is_csv = rows.chunk.header is not None
                await (enqueue_converted if is_csv else buffer.enqueue_many)(rows.rows)
            self._record_refused()
            self._status.position = rows.position
            unflushed += rows.characters
            if unflushed > _FLUSH_CHARACTERS:
                await buffer.flush()
                unflushed = 0
            if rows.failure is not None:
                return rows.failure
            rows = await anext(more, None)
        return None

    def _record_refused(self) -> None:
        if self._pending is not None:
            self._rejected.add_refused(self._pending.take_refused())

    async def _truncate(self, store: forebay.SqliteStore) -> None:
        try:
            await store.run(delete_all, self._request.table.name)
        except sqlite3.Error as error:
            raise LoadError(
                f"--truncate cannot delete the rows of table {self._table}: {error}"
            ) from error

    async def restore(self, before: DatabaseState) -> None:
        """Undo the changes of the database if nothing is committed.

        Args:
            before: the database before the load.
        """
        statistics = self.statistics
        if statistics is not None and (statistics.committed or statistics.dead_lettered):
            return
        with trio.CancelScope(deadline=trio.current_time() + _RESTORE_TIMEOUT, shield=True):
            try:
                await restore(self._request.database, self._request.table.name, before)
            except (forebay.StoreError, OSError) as error:
                self._display.warn(
                    f"the database {self._database} may have a new, empty table {self._table}, "
                    f"and be in WAL mode now: {error}"
                )

    def describe_opening(self) -> str:
        """Return what the load waits for while the database does not open."""
        return (
            f"waiting for the database {self._database} to open; another program may have locked it"
        )


def _unchanged(row: Any) -> Any:
    return row
