"""`Buffer`: the object through which a program writes to one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final, TypeVar

import trio

from forebay._buffer.bulk_calls import BulkCalls
from forebay._buffer.channel import Channel
from forebay._buffer.direct_writer import DirectWriter
from forebay._buffer.ledger import Ledger
from forebay._buffer.reader import Reader
from forebay._buffer.statistics import BufferStatistics
from forebay._errors import RowError
from forebay._owner import running
from forebay._table.operations import DeleteBy, Key
from forebay._table.table import Table
from forebay.stores import SpoolState

R = TypeVar("R")

_KEYS_PER_READ: Final = 500
"""The number of keys that are read together. To check and decode them takes some milliseconds."""


class Buffer(BulkCalls[R]):
    """A write-behind buffer in front of one table. `open_buffers` makes it.

    If the buffer is full, methods whose name ends in `_nowait` raise `trio.WouldBlock`; the other
    methods wait for room, first come, first served. An entry is accepted when the call returns.
    If the call raises or is cancelled, the entry was not accepted; the calls for many entries,
    and `write`, document their exceptions to this rule. Once the `open_buffers` block is being
    left, all calls that add an entry raise `trio.ClosedResourceError`. Once the buffer's worker
    task has failed, they raise `trio.BrokenResourceError`, with the failure as its cause.

    Only the thread of Trio that opened a buffer may use it. In another thread, all calls except
    `statistics` raise `RuntimeError`; from there, call the buffer through `trio.from_thread`.
    """

    def __init__(
        self,
        table: Table[R],
        channel: Channel,
        ledger: Ledger,
        reader: Reader[R] | None,
        direct_writer: DirectWriter,
        unsupported: Callable[[], Mapping[str, str]],
        spool_state: Callable[[], SpoolState | None],
    ) -> None:
        super().__init__(table, channel, unsupported)
        self._recognize = self._validator.recognize
        self._owner_identity = channel.owner_identity
        self._budget = channel.budget
        self._ledger = ledger
        self._spool_state = spool_state
        self._reader = reader
        self._direct_writer = direct_writer
        self._clock = trio.lowlevel.current_clock()

    @property
    def table(self) -> Table[R]:
        """The table that this buffer writes to."""
        return self._table

    @property
    def name(self) -> str:
        """The table's name."""
        return self._table.name

    def __repr__(self) -> str:
        if self._ledger.failure is not None:
            state = "failed"
        elif self._channel.closed:
            state = "closed"
        elif self._ledger.suspended:
            state = "suspended"
        else:
            state = "open"
        return (
            f"<forebay.Buffer {self.name!r}: {state}, "
            f"{self._ledger.pending} of {self._channel.capacity} pending>"
        )

    @trio.lowlevel.enable_ki_protection
    def enqueue_nowait(self, row: R) -> None:
        """Accept a row, which is written soon.

        Args:
            row: an instance of the table's row type. Its values are copied now: later changes of
                the object change nothing.

        Raises:
            TypeError: the row is not an instance of the row type, or SQLite cannot store a value.
            ValueError: a value is NaN and the table does not allow NaN.
            trio.WouldBlock: the buffer is full.
            trio.ClosedResourceError: the buffer is closed.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        values = self._recognize(row)
        if values is None:
            values = self._validator.validate_row(row)
        burst = self._ledger.burst
        # The length is compared last: nothing else runs between that and `append`.
        if running.identity is self._owner_identity and len(burst.entries) < burst.limit:
            burst.entries.append(values)  # now the row is accepted, by this alone
        else:
            self._channel.send_nowait(values)

    @trio.lowlevel.enable_ki_protection
    async def enqueue(self, row: R) -> None:
        """Accept a row, which is written soon; wait while the buffer is full.

        If this is cancelled, the row was not accepted. Each call is a cancellation point. It lets
        other tasks run whenever it waits, and otherwise after 64 calls, or 1 ms, since a call of
        this buffer last did. So it notices deadlines, and cancellations by other tasks, only then.

        Args:
            row: as for `enqueue_nowait`. Its values are those at the time of the call.

        Raises:
            TypeError: as for `enqueue_nowait`.
            ValueError: as for `enqueue_nowait`.
            trio.ClosedResourceError: the buffer is closed, or was closed while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        values = self._recognize(row)
        if values is None:
            values = self._validator.validate_row(row)
        if running.identity is not self._owner_identity:
            self._channel.check_owner()
        budget = self._budget
        budget.calls_left -= 1
        if budget.calls_left > 0 and budget.now() < budget.ends_at:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await budget.let_others_run()
        burst = self._ledger.burst
        if len(burst.entries) < burst.limit:
            burst.entries.append(values)  # as in `enqueue_nowait`
        else:
            await self._channel.send(values)

    @trio.lowlevel.enable_ki_protection
    def enqueue_update_nowait(self, key: Key, /, **columns: object) -> None:
        """Accept an update: set columns of the row with this key if it exists.

        An update never adds a row. It ignores the merge rules and sets the values as given.

        Args:
            key: the value of the key column; a tuple if the key has several columns.
            **columns: the new values, by column.

        Raises:
            TypeError: a column is unknown or part of the key, SQLite cannot store a value, or the
                store has no updates.
            ValueError: a value is NaN and the table does not allow NaN.
            trio.WouldBlock: the buffer is full.
            trio.ClosedResourceError: the buffer is closed.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        self._channel.send_nowait(self._update(key, columns))

    @trio.lowlevel.enable_ki_protection
    async def enqueue_update(self, key: Key, /, **columns: object) -> None:
        """Accept an update as `enqueue_update_nowait` does, but wait while the buffer is full.

        If this is cancelled, the update was not accepted. It is a checkpoint as `enqueue` is.

        Args:
            key: as for `enqueue_update_nowait`.
            **columns: as for `enqueue_update_nowait`.

        Raises:
            TypeError: as for `enqueue_update_nowait`.
            ValueError: as for `enqueue_update_nowait`.
            trio.ClosedResourceError: the buffer is closed, or was closed while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        entry = self._update(key, columns)
        await self._channel.checkpoint()
        await self._channel.send(entry)

    @trio.lowlevel.enable_ki_protection
    def enqueue_delete_nowait(self, key: Key, /) -> None:
        """Accept a delete of the row with this key. If there is no such row, nothing happens.

        Args:
            key: the value of the key column; a tuple if the key has several columns.

        Raises:
            TypeError: the table has no key, a value is not of its column's type, or the store
                has no deletes for this table.
            ValueError: the key does not have one value per key column.
            trio.WouldBlock: the buffer is full.
            trio.ClosedResourceError: the buffer is closed.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        self._channel.send_nowait(self._delete(key))

    @trio.lowlevel.enable_ki_protection
    async def enqueue_delete(self, key: Key, /) -> None:
        """Accept a delete as `enqueue_delete_nowait` does, but wait while the buffer is full.

        If this is cancelled, the delete was not accepted. It is a checkpoint as `enqueue` is.

        Args:
            key: as for `enqueue_delete_nowait`.

        Raises:
            TypeError: as for `enqueue_delete_nowait`.
            ValueError: as for `enqueue_delete_nowait`.
            trio.ClosedResourceError: the buffer is closed, or was closed while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        entry = self._delete(key)
        await self._channel.checkpoint()
        await self._channel.send(entry)

    @trio.lowlevel.enable_ki_protection
    def enqueue_delete_by_nowait(self, value: object, /) -> None:
        """Accept a delete of all rows whose `delete_by` column has this value.

        It deletes the rows of entries accepted before it, not of entries accepted after it.

        Args:
            value: the value that the deleted rows have.

        Raises:
            TypeError: the table declares no `delete_by`, or the value is not of that column's type.
            trio.WouldBlock: the buffer is full.
            trio.ClosedResourceError: the buffer is closed.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        self._channel.send_nowait(DeleteBy(self._validator.validate_delete_by(value)))

    @trio.lowlevel.enable_ki_protection
    async def enqueue_delete_by(self, value: object, /) -> None:
        """Accept a delete as `enqueue_delete_by_nowait` does, but wait while the buffer is full.

        If this is cancelled, the delete was not accepted. It is a checkpoint as `enqueue` is.

        Args:
            value: as for `enqueue_delete_by_nowait`.

        Raises:
            TypeError: as for `enqueue_delete_by_nowait`.
            trio.ClosedResourceError: the buffer is closed, or was closed while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        entry = DeleteBy(self._validator.validate_delete_by(value))
        await self._channel.checkpoint()
        await self._channel.send(entry)

    @trio.lowlevel.enable_ki_protection
    async def write(self, row: R) -> None:
        """Write a row, and return once it is committed.

        The buffer flushes at once. Tasks that write at the same time share a transaction. How
        durable a committed row is depends on the store: see `synchronous` of `open_sqlite`.

        If this is cancelled while it waits for room, the row was not accepted. If it is cancelled
        later, the row stays accepted and will be written.

        Args:
            row: as for `enqueue_nowait`. Its values are those at the time of the call.

        Raises:
            TypeError: as for `enqueue_nowait`.
            ValueError: as for `enqueue_nowait`.
            trio.ClosedResourceError: the buffer is closed, or was closed while this waited for
                room.
            trio.BrokenResourceError: the buffer's worker failed before the row was committed.
            RowError: the table refused this row. It is in the dead letters.
        """
        entry = self._recognize(row)
        if entry is None:
            entry = self._validator.validate_row(row)
        self._channel.check_owner()
        await trio.lowlevel.checkpoint_if_cancelled()
        flight = self._direct_writer.write_nowait(entry)
        if flight is not None and flight.settled:
            rejection = next(iter(flight.rejections), None)
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            number = flight.batch.end if flight else await self._channel.send(entry)
            self._channel.request_flush()
            rejection = await self._ledger.wait_settled(number)
        if rejection is not None:
            raise RowError(
                f"table {self.name!r} refused this row: {rejection.code}, {rejection.message}. "
                f"It is dead letter {rejection.dead_letter}: {row!r}",
                buffer=self.name,
                operation=rejection.operation,
                code=rejection.code,
                dead_letter=rejection.dead_letter,
            )

    async def flush(self) -> None:
        """Flush now, and return once all entries accepted before this call are settled.

        This waits as long as the database is locked or its disk is full, or the buffer is
        suspended. Use `trio.move_on_after` to limit the wait. If this is cancelled, it only stops
        waiting.

        Raises:
            trio.BrokenResourceError: the buffer's worker failed before.
        """
        self._channel.check_owner()
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._ledger.wait_settled(self._channel.request_flush())

    async def get(self, key: Key, /) -> R | None:
        """Return the row with this key, as if all entries accepted so far had been executed.

        This is what the table will have once the pending entries are written. It causes no flush
        and does not wait for one: if the pending entries do not decide what the row is, it is read
        from the table, and the entries that the table does not have yet are executed in memory, by
        the table's merge rules. What other tasks enqueue after this call does not matter, unless
        it is committed before the table is read. A row counts until the table has refused it.
        Triggers, cascades and defaults of the table are not simulated.

        This is always a checkpoint. If it is cancelled, nothing happens.

        Args:
            key: the value of the key column; a tuple if the key has several columns.

        Returns:
            A new instance of the row type; None if there is no such row.

        Raises:
            TypeError: the table has no key, a value is not of its column's type, or the table
                cannot be read by key, for example because a column converts what it stores.
            ValueError: the key does not have one value per key column.
            DecodeError: a stored value is not one of its column.
            StoreError: the database cannot be read.
            trio.ClosedResourceError: the buffer is closed.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        [row] = await self._read([key])
        return row

    async def get_many(self, keys: Iterable[Key], /) -> dict[Key, R]:
        """Return the rows with these keys, as if all entries accepted so far had been executed.

        Up to 500 keys are read together, as of the same moment; more are read in parts, between
        which other tasks run. The rest is the same as for `get`.

        Args:
            keys: the keys, as for `get`, in an iterable that is not a text.

        Returns:
            The rows that exist, by key, in the order of the keys. The keys are those passed.

        Raises:
            TypeError: as for `get`.
            ValueError: as for `get`.
            DecodeError: as for `get`.
            StoreError: as for `get`.
            trio.ClosedResourceError: as for `get`.
            trio.BrokenResourceError: as for `get`.
        """
        if isinstance(keys, str | bytes | bytearray):
            raise TypeError(
                f"table {self.name!r}: get_many takes an iterable of keys, got the single value "
                f"{keys!r}; use get, or put the key into a list"
            )
        found: dict[Key, R] = {}
        left = iter(keys)
        while part := list(islice(left, _KEYS_PER_READ)):
            rows = await self._read(part)
            found.update((k, row) for k, row in zip(part, rows, strict=True) if row is not None)
        if not found:
            await trio.lowlevel.checkpoint()
        return found

    async def _read(self, keys: Sequence[Key]) -> list[R | None]:
        """Return for each of these keys its row, or None."""
        stored = list(map(self._validator.validate_key_to_find, keys))
        self._channel.check_open()
        self._check_supported("get")
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._reader is None:  # pragma: no cover  # no key is valid for a table without a key
            raise TypeError(f"table {self.name!r} has no key")
        return await self._reader.read(stored)

    def statistics(self) -> BufferStatistics:
        """Return the state of this buffer now. This works after the end of `trio.run`, too."""
        ledger = self._ledger
        oldest, now = ledger.oldest, self._clock.current_time()
        spool = self._spool_state()
        return BufferStatistics(
            accepted=ledger.accepted,
            committed=ledger.committed,
            superseded=ledger.superseded,
            dead_lettered=ledger.dead_lettered,
            pending=ledger.pending,
            capacity=self._channel.capacity,
            waiting=self._channel.waiting,
            flushes=ledger.flushes,
            retries=ledger.retries,
            oldest_age=0.0 if oldest is None else now - oldest,
            flush_p50=ledger.flush_quantile(0.5),
            flush_p99=ledger.flush_quantile(0.99),
            last_error=ledger.last_error,
            suspended=ledger.suspended,
            spool_entries=0 if spool is None else spool.entries,
            spool_oldest_age=0.0 if spool is None else spool.oldest_age,
        )
