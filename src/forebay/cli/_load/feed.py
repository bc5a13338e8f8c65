"""Puts what is read into the table's buffer, and counts what is not fit for it."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import forebay
from forebay.cli._errors import InputError, InputRowError, LoadError
from forebay.cli._load.convert import Converter
from forebay.cli._load.progress import Display
from forebay.cli._load.readers import convert_chunk
from forebay.cli._load.reading import Item

_SHOWN = 10


class Rejects:
    """The rows that are skipped: counted, and the first few of them told.

    Attributes:
        count: how many there are.
    """

    def __init__(self, display: Display) -> None:
        self.count = 0
        self._display = display

    def add(self, error: InputRowError) -> None:
        """Skip a row."""
        self.count += 1
        if self.count <= _SHOWN:
            self._display.warn(f"{error}; skipped")
        elif self.count == _SHOWN + 1:
            self._display.warn("further rows that are skipped are only counted")


class Feed:
    """The way of the rows from the inputs into a buffer.

    Args:
        buffer: where the rows go.
        converter: makes them rows of the buffer's table.
        rejects: takes the rows that are not fit for it; None ends the load at the first one.

    Attributes:
        buffer: where the rows go.
        position: how many bytes of the inputs have been read, as they lie on the disk.
    """

    def __init__(
        self,
        buffer: forebay.Buffer[tuple[Any, ...]],
        converter: Converter,
        rejects: Rejects | None,
    ) -> None:
        self.buffer = buffer
        self.position = 0
        self._converter = converter
        self._rejects = rejects

    async def accept(self, item: Item) -> LoadError | None:
        """Put the rows of a chunk into the buffer.

        Returns:
            What ends the load here, once the rows before it are accepted. It is returned rather
            than raised, so that the buffer's block is left as in the best case.
        """
        if isinstance(item, InputError):
            return item
        try:
            chunk = convert_chunk(item, self._converter)
        except InputError as error:
            return error
        if chunk.errors and self._rejects is None:
            first = chunk.errors[0]
            await self.buffer.enqueue_many(chunk.rows[: bisect_left(chunk.lines, first.line)])
            return first
        await self.buffer.enqueue_many(chunk.rows)
        if self._rejects is not None:
            for reject in chunk.errors:
                self._rejects.add(reject)
        self.position = chunk.position
        return None
