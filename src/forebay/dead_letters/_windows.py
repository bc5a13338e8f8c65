"""Visit dead letters in windows of bounded size, however many letters there are.

Each query and each transaction visits the letters of one window. So the work grows linearly with
the number of letters, transactions are short, and a cancellation never waits long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import trio

from forebay.dead_letters._model import DeadLetterReader
from forebay.sqlite import Parameters
from forebay.stores.sqlite import _dead_letter_table as table
from forebay.stores.sqlite import _format_table as format_table
from forebay.stores.sqlite._dead_letter_table import Where
from forebay.stores.sqlite._errors import store_errors

SIZE: Final = 1_000
"""Letters of a window, to read or to purge."""

REPLAY_SIZE: Final = 200
"""Letters of a window, to replay. If the table refuses all of them, their transaction takes 0.1 s:
about 0.5 ms were measured per letter."""

_BEFORE_ALL: Final = -(2**63)
_AFTER_ALL: Final = 2**63 - 1


async def query(
    reader: DeadLetterReader, sql: str, parameters: Parameters = ()
) -> list[tuple[Any, ...]]:
    """Run a query and return all its rows.

    Raises:
        StoreError: SQLite cannot answer it; the message names the file.
    """
    with store_errors(reader.path):
        return await reader.fetch_all(sql, parameters)


class Windows:
    """The windows that cover a selection of letters, in the order of their ids.

    A window is a condition on letters. No window covers letters that are added after the first
    window was requested.

    Args:
        reader: what the letters are read from.
        selection: the conditions of `Selection`.
        newest_first: whether to start with the highest ids.
        size: the most letters that a query with the condition visits; None for `SIZE`.
    """

    def __init__(
        self,
        reader: DeadLetterReader,
        selection: Mapping[str, Any],
        *,
        newest_first: bool = False,
        size: int | None = None,
    ) -> None:
        fields = dict(selection)
        ids = fields.pop("ids", None)
        self._reader = reader
        self._size = SIZE if size is None else size
        self._newest_first = newest_first
        self.fields = table.fields_are(**fields)
        """The conditions on the other columns than the id."""
        self._ids = None if ids is None else _sorted(ids, newest_first=newest_first)
        self._taken = 0
        """The number of ids that the windows so far cover."""
        self._first, self._last = _BEFORE_ALL, _AFTER_ALL
        """The range of ids that no window covers yet, if no ids are given."""
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Where:
        if not self._begun:
            await self._begin()
        if self._ids is None:
            return await self._next_range() & self.fields
        ids = self._ids[self._taken : self._taken + self._size]
        if not ids:
            raise StopAsyncIteration
        self._taken += len(ids)
        return table.id_in(ids) & self.fields

    async def _begin(self) -> None:
        """Record the highest id of now. Without a table of letters, there is no window.

        Raises:
            StoreError: the letters have a newer format than this version of forebay reads.
        """
        self._begun = True
        if await query(self._reader, format_table.EXISTS):
            [(version,)] = await query(self._reader, format_table.VERSION)
            format_table.check_version(version, self._reader.path)
        if not await query(self._reader, table.EXISTS):
            self._ids = ()
        elif self._ids is None:
            [(last,)] = await query(self._reader, table.LAST_ID)
            self._last = _BEFORE_ALL if last is None else last

    async def _next_range(self) -> Where:
        if self._first > self._last:
            raise StopAsyncIteration
        sql = table.LAST_WINDOW if self._newest_first else table.FIRST_WINDOW
        bounds = {"first": self._first, "last": self._last, "size": self._size}
        [(first, last)] = await query(self._reader, sql, bounds)
        if first is None:
            raise StopAsyncIteration
        if self._newest_first:
            self._last = first - 1
        else:
            self._first = last + 1
        return table.id_between(first, last)


def _sorted(ids: Any, *, newest_first: bool) -> Sequence[int]:
    if isinstance(ids, range) and ids.step == 1:  # it may be long, as that of a spill
        return ids[::-1] if newest_first else ids
    return sorted(set(ids), reverse=newest_first)


async def let_others_write(seconds: float) -> None:
    """Pause between two transactions, so that a program that waits for the write lock gets it.

    SQLite has no queue for the lock: a program that waits tries again, at least every 100 ms. With
    a pause of a quarter of the transaction's time, one in five of its attempts succeeds. A pause of
    100 ms is long enough for the next attempt.

    Args:
        seconds: how long the transaction took.
    """
    await trio.sleep(min(seconds / 4, 0.1))
