"""The calls of a buffer that accept many entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import trio

from forebay._buffer.bulk import BulkSender
from forebay._buffer.channel import Channel
from forebay._table.operations import Delete, Key, Operation, Update
from forebay._table.stored_entries import EntryValidator
from forebay._table.table import Table
from forebay._table.validation import RowValidator

R = TypeVar("R")


class BulkCalls(Generic[R]):
    """The part of a `Buffer` that accepts many entries with one call."""

    def __init__(
        self, table: Table[R], channel: Channel, unsupported: Callable[[], Mapping[str, str]]
    ) -> None:
        self._table = table
        self._find_unsupported = unsupported
        self._validator = RowValidator(table)
        self._channel = channel

    @trio.lowlevel.enable_ki_protection
    async def enqueue_many(self, rows: Iterable[R]) -> int:
        """Accept rows one after another; wait whenever the buffer is full.

        A row is drawn from the iterable only when there is room for it. So if this is cancelled,
        every row that was drawn is accepted. (With `capacity_bytes` a row must be drawn before it
        can be measured. So if this is cancelled, the last row drawn may not be accepted.) If the
        iterable raises, the rows drawn before are accepted. If a row is invalid, the rows before it
        are accepted, and a note on the error has their number.

        Args:
            rows: instances of the table's row type.

        Returns:
            The number of rows accepted.

        Raises:
            TypeError: a row is not an instance of the row type, or SQLite cannot store a value.
            ValueError: a value is NaN and the table does not allow NaN.
            trio.ClosedResourceError: the buffer is closed, or was closed while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        sender = BulkSender(
            self._channel,
            method="enqueue_many",
            item="row",
            items="rows",
            validate=self._validator.validate_row,
            validate_rows=self._validator.validate_rows,
        )
        return await sender.send(rows)

    @trio.lowlevel.enable_ki_protection
    async def enqueue_update_many(self, updates: Iterable[tuple[Key, Mapping[str, object]]]) -> int:
        """Accept updates one after another; wait whenever the buffer is full.

        Each update does what `enqueue_update` does. What is accepted if this is cancelled or raises
        is as for `enqueue_many`.

        Args:
            updates: for each update a pair: the key, and the new values by column, such as
                `("a", {"size_bytes": 12})`.

        Returns:
            The number of updates accepted.

        Raises:
            TypeError: an update is not such a pair, a column is unknown or part of the key, or
                SQLite cannot store a value.
            ValueError: a value is NaN and the table does not allow NaN, or a key does not have one
                value per key column.
            trio.ClosedResourceError: the buffer is closed, or was closed while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        sender = BulkSender(
            self._channel,
            method="enqueue_update_many",
            item="update",
            items="updates",
            validate=self._update_of_pair,
        )
        return await sender.send(updates)

    @trio.lowlevel.enable_ki_protection
    async def enqueue_delete_many(self, keys: Iterable[Key]) -> int:
        """Accept deletes one after another; wait whenever the buffer is full.

        Each delete does what `enqueue_delete` does. What is accepted if this is cancelled or raises
        is as for `enqueue_many`.

        Args:
            keys: for each delete, the value of the key column; a tuple if the key has several
                columns.

        Returns:
            The number of deletes accepted.

        Raises:
            TypeError: the table has no key, or a value is not of its column's type.
            ValueError: a key does not have one value per key column.
            trio.ClosedResourceError: the buffer is closed, or was closed while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        sender = BulkSender(
            self._channel,
            method="enqueue_delete_many",
            item="delete",
            items="deletes",
            validate=self._delete,
        )
        return await sender.send(keys)

    @trio.lowlevel.enable_ki_protection
    async def enqueue_again(self, entries: Iterable[Operation]) -> int:
        """Accept the entries that another buffer of this table could not settle.

        Pass `unsettled.entries` of a `FlushError`, or `unsettled[NAME].entries` of a `DrainError`.
        They are accepted in their order. This waits whenever the buffer is full. A new buffer with
        the same capacity has room for all of them.

        If the error is `in_doubt`, a batch of these entries may be in the table already, and takes
        effect twice: appended rows may be doubled, and columns with the rule `Sum` may count them
        twice. Deletes by `delete_by` and updates may then also change a row that was written after
        them. Nothing changes if the table has a key, no `delete_by`, and only the rule `Replace`.

        An entry is drawn from the iterable only when there is room for it. So if this is cancelled,
        every entry that was drawn is accepted, and no other one. (With `capacity_bytes` an entry
        must be drawn before it can be measured. So if this is cancelled, the last entry drawn may
        not be accepted.) Pass an iterator to know which entries were drawn, or shield the call.

        Args:
            entries: operations on this table. Their values are stored values, as the errors have
                them: encoded, if the column has a codec.

        Returns:
            The number of entries accepted.

        Raises:
            TypeError: an entry is not an operation, the table does not allow it, or a value is not
                of the type that its column stores. The entries before it are accepted, and a note
                on the error has their number.
            ValueError: SQLite cannot store a value, or a row or a key has a wrong number of
                values. The entries before it are accepted, as for TypeError.
            trio.ClosedResourceError: the buffer is closed, or was closed while this waited.
            trio.BrokenResourceError: the buffer's worker has failed.
        """
        sender = BulkSender(
            self._channel,
            method="enqueue_again",
            item="entry",
            items="entries",
            validate=EntryValidator(self._table).validate,
        )
        return await sender.send(entries)

    def _check_supported(self, call: str) -> None:
        """Check that the store can serve a call for this table.

        Raises:
            TypeError: it cannot.
        """
        if (reason := self._find_unsupported().get(call)) is not None:
            raise TypeError(f"table {self._table.name!r} does not allow {call}: {reason}")

    def _update(self, key: Key, columns: Mapping[str, object]) -> Update:
        self._check_supported("enqueue_update")
        return Update(self._validator.validate_key(key), self._validator.validate_update(columns))

    def _update_of_pair(self, pair: Any) -> Update:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Mapping)):
            raise TypeError(
                f"table {self._table.name!r}: expected an update as a pair of a key and a mapping "
                f"of columns to values, such as ('a', {{'size': 1}}), got {pair!r}"
            )
        return self._update(*pair)

    def _delete(self, key: Key) -> Delete:
        self._check_supported("enqueue_delete")
        return Delete(self._validator.validate_key(key))
