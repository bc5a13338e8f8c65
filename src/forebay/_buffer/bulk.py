"""Accept many entries with one call: draw them from an iterable when there is room for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import islice
from typing import Generic, TypeVar

import trio

from forebay._buffer.channel import Channel
from forebay._table.operations import Entry, Row

T = TypeVar("T")

_CHUNK = 1_000
"""The entries that are drawn between two schedule points: about 1 ms of the event loop."""


class BulkSender(Generic[T]):
    """Sends all that a program passes to one call of a buffer.

    Args:
        channel: the channel of the buffer.
        method: the name of the call, for notes on errors.
        item: what the call takes, such as "row", for notes on errors.
        items: the plural of it.
        validate: checks one item and returns its entry.
        validate_rows: checks several items at once and returns their entries, which are rows; None
            if items are not rows.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        method: str,
        item: str,
        items: str,
        validate: Callable[[T], Entry],
        validate_rows: Callable[[Sequence[T]], Sequence[Row]] | None = None,
    ) -> None:
        self._channel = channel
        self._method = method
        self._item = item
        self._items = items
        self._validate = validate
        self._validate_rows = validate_rows
        self._only_rows = validate_rows is not None

    @trio.lowlevel.enable_ki_protection
    async def send(self, items: Iterable[T]) -> int:
        """Accept items one after another, and return their number; wait whenever there is no room.

        If this is cancelled, the items that were drawn are accepted. If the channel counts bytes,
        the last one drawn may not be.

        Args:
            items: the items.

        Raises:
            Exception: an item is invalid, or the iterable raised. The items before are accepted.
            trio.ClosedResourceError: the channel is closed, or was closed while this waited.
            trio.BrokenResourceError: the worker failed.
            RuntimeError: this is another thread or process than the one that opened the buffer.
        """
        self._channel.check_owner()
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._channel.counts_bytes:
            return await self._send_measured(items)
        accepted = 0
        # Slices of a list need no iterator. They have the items appended meanwhile, too.
        source = items if type(items) in {list, tuple} else iter(items)
        while not _all_drawn(items, accepted):
            acquired = await self._channel.acquire(_CHUNK)
            drawn = self._draw(source, acquired, accepted)
            accepted += drawn
            if drawn < acquired:
                break
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return accepted

    async def _send_measured(self, items: Iterable[T]) -> int:
        """Accept items one by one, since each needs room for its own size."""
        accepted = 0
        self._channel.check_open()
        iterator = iter(items)
        while True:
            drawn: list[T] = []
            _extend(drawn, islice(iterator, 1))
            if not drawn:
                break
            entries, error = self._checked(drawn, accepted)
            if error is not None:
                raise error
            await self._channel.checkpoint()
            await self._channel.send(entries[0])
            accepted += 1
        await trio.lowlevel.cancel_shielded_checkpoint()
        return accepted

    def _draw(self, items: Iterable[T], acquired: int, before: int) -> int:
        """Draw items for which room is reserved, accept them, release the room that is left."""
        collected: list[T] = []
        drawn: Sequence[T] = collected
        entries: Sequence[Entry] = ()
        try:
            if isinstance(items, list | tuple):
                drawn = items[before : before + acquired]
            else:
                _extend(collected, islice(items, acquired))
        finally:
            # If the iterable raised, the items drawn before are accepted all the same.
            error: Exception | None = None
            try:
                entries, error = self._checked(drawn, before)
            finally:
                self._channel.send_acquired(entries, acquired, only_rows=self._only_rows)
            if error is not None:  # the invalid item came before the iterable raised
                raise error
        return len(entries)

    def _checked(self, items: Sequence[T], before: int) -> tuple[Sequence[Entry], Exception | None]:
        """Return the entries of all items before the first invalid one, and that one's error."""
        if self._validate_rows is not None and items:
            with suppress(Exception):  # rows are the program's objects, and may raise anything
                return self._validate_rows(items), None
        valid: list[Entry] = []
        for item in items:
            try:
                valid.append(self._validate(item))
            except Exception as error:  # noqa: BLE001  # the caller raises it
                count = before + len(valid)
                error.add_note(
                    f"this is {self._item} {count} of {self._method}, counted from 0; "
                    f"the {count} {self._items} before it were accepted"
                )
                return valid, error
        return valid, None


@trio.lowlevel.disable_ki_protection
def _extend(drawn: list[T], items: Iterable[T]) -> None:
    """Draw items from the program's iterator, which Ctrl-C may interrupt."""
    drawn.extend(items)


def _all_drawn(items: Iterable[object], drawn: int) -> bool:
    """Return whether a collection has no more items than were drawn.

    With this answer no room is needed to draw the end of a list. Only the length of a collection
    counts: a progress bar or another wrapper may have a length that is a guess.
    """
    return isinstance(items, Sequence | AbstractSet | Mapping) and drawn >= len(items)
