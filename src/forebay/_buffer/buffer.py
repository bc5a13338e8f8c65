"""`Buffer`: the handle by which a program writes to one table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import trio

from forebay._buffer.channel import Channel
from forebay._buffer.ledger import Ledger
from forebay._errors import RowError
from forebay._table.operations import Delete, DeleteBy, Key, Row, Update
from forebay._table.table import Table
from forebay._table.validation import RowValidator

R = TypeVar("R")

_CHUNK = 1_000
"""Rows that `enqueue_many` takes in one go: about a millisecond of the event loop."""


@dataclass(frozen=True, slots=True)
class BufferStatistics:
    """The state of one buffer at one moment.

    `accepted == committed + superseded + dead_lettered + pending`, always.
    """

    accepted: int
    """Entries accepted since the buffer opened."""
    committed: int
    """Entries whose own operation was committed."""
    superseded: int
    """Entries folded into another entry of their key, which was committed in their place."""
    dead_lettered: int
    """Entries whose operation the table refused and the dead letters hold."""
    pending: int
    """Entries accepted and not settled, those of the flush in progress included."""
    capacity: int
    """How many entries may be pending."""
    waiting: int
    """Tasks that wait for room."""
    flushes: int
    """Transactions committed."""
    retries: int
    """Attempts to flush that were made again after one that failed."""
    oldest_age: float
    """How long the oldest pending entry has been waiting, in seconds; 0.0 where none is."""
    flush_p50: float
    """How long the last 256 flushes took that committed, in seconds: half of them at the most."""
    flush_p99: float
    """The same for 99 of 100 of them. 0.0 before the first flush."""
    last_error: str | None
    """What a flush waits for, such as ``SQLITE_BUSY: database is locked``: the error of its last
    attempt, until one is committed. None where no flush is being retried."""


class Buffer(Generic[R]):
    """A write-behind buffer in front of one table. `open_buffers` makes it.

    The methods that end in `_nowait` raise `trio.WouldBlock` where the buffer is full; those
    without wait for room, first come, first served. An entry is accepted when the call returns.
    A call that raises, or is cancelled, had no entry accepted. Once the `open_buffers` block is
    being left, all raise `trio.ClosedResourceError`; once the buffer's worker has failed, they
    raise `trio.BrokenResourceError` with the failure as its cause.

    To be used from the Trio thread that opened it; from another, by `trio.from_thread`.
    """

    def __init__(self, table: Table[R], channel: Channel, ledger: Ledger) -> None:
        self._table = table
        self._validator = RowValidator(table)
        self._channel = channel
        self._ledger = ledger
        self._clock = trio.lowlevel.current_clock()

    @property
    def table(self) -> Table[R]:
        """The table this buffer writes to."""
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
        else:
            state = "open"
        return (
            f"<forebay.Buffer {self.name!r}: {state}, "
            f"{self._ledger.pending} of {self._channel.capacity} pending>"
        )

    def enqueue_nowait(self, row: R) -> None:
        """Accept a row, to be written soon.

        Args:
            row: an instance of the table's row type. Its values are taken now: what happens to
                the object later changes nothing.

        Raises:
            TypeError: it is no such instance, or SQLite cannot take one of its values.
            ValueError: a value is NaN where the table does not allow it.
            trio.WouldBlock: the buffer is full.
            trio.ClosedResourceError: the buffer is closed.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        self._channel.send_nowait(self._validator.validate_row(row))

    async def enqueue(self, row: R) -> None:
        """Accept a row, to be written soon; wait while the buffer is full.

        Cancelled, it has not accepted the row.

        Args:
            row: as for `enqueue_nowait`; its values are those at the time of the call.

        Raises:
            TypeError: as for `enqueue_nowait`.
            ValueError: as for `enqueue_nowait`.
            trio.ClosedResourceError: the buffer is closed, or was while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        await self._channel.send(self._validator.validate_row(row))
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def enqueue_many(self, rows: Iterable[R]) -> int:
        """Accept rows one after another; wait whenever the buffer is full.

        Rows are drawn from the iterable only when there is room for them: cancelled, it has
        accepted each row that it drew. (With `capacity_bytes` a row must be drawn to be measured:
        cancelled, it may have drawn one more.) Where the iterable raises, the rows before are
        accepted. Where a row is refused, the rows before it are accepted, and a note on the
        error tells how many these are.

        Args:
            rows: instances of the table's row type.

        Returns:
            How many rows were accepted.

        Raises:
            TypeError: as for `enqueue_nowait`.
            ValueError: as for `enqueue_nowait`.
            trio.ClosedResourceError: the buffer is closed, or was while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._channel.counts_bytes:
            return await self._enqueue_measured(rows)
        accepted = 0
        iterator = iter(rows)
        while not _all_drawn(rows, accepted):
            acquired = await self._channel.acquire(_CHUNK)
            drawn = self._draw(iterator, acquired, accepted)
            accepted += drawn
            if drawn < acquired:
                break
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return accepted

    async def _enqueue_measured(self, rows: Iterable[R]) -> int:
        """Accept rows each of which needs room of its own size."""
        accepted = 0
        self._channel.check_open()
        for row in rows:
            entries, refusal = self._checked((row,), accepted)
            if refusal is not None:
                raise refusal
            await self._channel.send(entries[0])
            accepted += 1
            await trio.lowlevel.cancel_shielded_checkpoint()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return accepted

    def _draw(self, rows: Iterator[R], acquired: int, before: int) -> int:
        """Draw rows for which capacity was acquired, accept them, release the capacity left."""
        drawn: list[R] = []
        entries: Sequence[Row] = ()
        try:
            drawn.extend(islice(rows, acquired))
        finally:
            # If the iterable raised, the rows drawn before are accepted all the same.
            refusal: Exception | None = None
            try:
                entries, refusal = self._checked(drawn, before)
            finally:
                self._channel.send_acquired(entries, acquired)
            if refusal is not None:  # it came before what the iterable raised, if it did
                raise refusal
        return len(entries)

    def _checked(self, rows: Sequence[R], before: int) -> tuple[Sequence[Row], Exception | None]:
        """Give the entries of the rows before the first one that is refused, and its error."""
        try:
            return (self._validator.validate_rows(rows) if rows else ()), None
        except Exception:  # rows are the caller's objects: anything may come
            good: list[Row] = []
            for row in rows:
                try:
                    good.append(self._validator.validate_row(row))
                except Exception as refusal:  # noqa: BLE001  # raised again by the caller
                    count = before + len(good)
                    refusal.add_note(
                        f"this is row {count} of enqueue_many, counted from 0; "
                        f"the {count} before it were accepted"
                    )
                    return good, refusal
            raise

    def enqueue_update_nowait(self, key: Key, /, **columns: object) -> None:
        """Accept an update: set columns of the row with this key, where there is one.

        An update never adds a row. It sets values as they are, whatever the merge rules.

        Args:
            key: the value of the key column; a tuple where the key has several columns.
            **columns: the new values, by column.

        Raises:
            TypeError: a column is unknown or of the key, or SQLite cannot take a value.
            ValueError: a value is NaN where the table does not allow it.
            trio.WouldBlock: the buffer is full.
            trio.ClosedResourceError: the buffer is closed.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        self._channel.send_nowait(self._update(key, columns))

    async def enqueue_update(self, key: Key, /, **columns: object) -> None:
        """Accept an update, as `enqueue_update_nowait` does; wait while the buffer is full.

        Cancelled, it has not accepted the update.

        Args:
            key: as for `enqueue_update_nowait`.
            **columns: as for `enqueue_update_nowait`.

        Raises:
            TypeError: as for `enqueue_update_nowait`.
            ValueError: as for `enqueue_update_nowait`.
            trio.ClosedResourceError: the buffer is closed, or was while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        await self._channel.send(self._update(key, columns))
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _update(self, key: Key, columns: Mapping[str, object]) -> Update:
        return Update(self._validator.validate_key(key), self._validator.validate_update(columns))

    def enqueue_delete_nowait(self, key: Key, /) -> None:
        """Accept a delete of the row with this key; nothing is done where there is none.

        Args:
            key: the value of the key column; a tuple where the key has several columns.

        Raises:
            TypeError: the table has no key, or a value is not of its column's type.
            ValueError: the key has a wrong number of values.
            trio.WouldBlock: the buffer is full.
            trio.ClosedResourceError: the buffer is closed.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        self._channel.send_nowait(Delete(self._validator.validate_key(key)))

    async def enqueue_delete(self, key: Key, /) -> None:
        """Accept a delete, as `enqueue_delete_nowait` does; wait while the buffer is full.

        Cancelled, it has not accepted the delete.

        Args:
            key: as for `enqueue_delete_nowait`.

        Raises:
            TypeError: as for `enqueue_delete_nowait`.
            ValueError: as for `enqueue_delete_nowait`.
            trio.ClosedResourceError: the buffer is closed, or was while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        await self._channel.send(Delete(self._validator.validate_key(key)))
        await trio.lowlevel.cancel_shielded_checkpoint()

    def enqueue_delete_by_nowait(self, value: object, /) -> None:
        """Accept a delete of all rows whose `delete_by` column has this value.

        It reaches the rows of entries accepted before it, not those accepted after.

        Args:
            value: the value to look for.

        Raises:
            TypeError: the table declares no `delete_by`, or the value is not of its type.
            trio.WouldBlock: the buffer is full.
            trio.ClosedResourceError: the buffer is closed.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        self._channel.send_nowait(DeleteBy(self._validator.validate_delete_by(value)))

    async def enqueue_delete_by(self, value: object, /) -> None:
        """Accept a delete, as `enqueue_delete_by_nowait` does; wait while the buffer is full.

        Cancelled, it has not accepted the delete.

        Args:
            value: as for `enqueue_delete_by_nowait`.

        Raises:
            TypeError: as for `enqueue_delete_by_nowait`.
            trio.ClosedResourceError: the buffer is closed, or was while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        await self._channel.send(DeleteBy(self._validator.validate_delete_by(value)))
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def write(self, row: R) -> None:
        """Write a row, and return once it is committed.

        The buffer flushes at once; tasks that write at the same time share a transaction. How
        durable a committed row is depends on the store: see `open_sqlite`, `synchronous`.

        Cancelled while it waits for room, it has not accepted the row; cancelled later, the row
        stays accepted and will be written.

        Args:
            row: as for `enqueue_nowait`; its values are those at the time of the call.

        Raises:
            TypeError: as for `enqueue_nowait`.
            ValueError: as for `enqueue_nowait`.
            trio.ClosedResourceError: the buffer is closed, or was while this waited for room.
            trio.BrokenResourceError: the buffer's worker failed before the row was committed.
            RowError: the table refused this very row, which is in the dead letters now.
        """
        entry = self._validator.validate_row(row)
        number = await self._channel.send(entry)
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
        """Flush now, and return once all that was accepted before this call is settled.

        While the database is locked or its disk full, this waits: bound it with
        `trio.move_on_after` where that is too long. Cancelled, it only stops waiting.

        Raises:
            trio.BrokenResourceError: the buffer's worker failed first.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._ledger.wait_settled(self._channel.request_flush())

    def statistics(self) -> BufferStatistics:
        """Tell the state of this buffer now. It may be asked after the program's end, too."""
        ledger = self._ledger
        oldest, now = ledger.oldest, self._clock.current_time()
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
        )


def _all_drawn(rows: Iterable[object], drawn: int) -> bool:
    """Whether a collection is known to have no more rows, without a draw that needs room.

    Only where a length is a promise: that of a progress bar, or of another wrapper, is a guess.
    """
    return isinstance(rows, Sequence | AbstractSet | Mapping) and drawn >= len(rows)
