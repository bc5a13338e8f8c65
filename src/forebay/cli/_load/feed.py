"""Put the rows of the inputs into the table's buffer, and count those that are rejected."""

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


class RejectedRows:
    """Counts the rows that are skipped, and shows the first of them.

    Attributes:
        count: the number of rows.
    """

    def __init__(self, display: Display) -> None:
        self.count = 0
        self._display = display

    def add(self, error: InputRowError) -> None:
        """Count a row that is skipped."""
        self.count += 1
        if self.count <= _SHOWN:
            self._display.warn(f"{error}; skipped")
        elif self.count == _SHOWN + 1:
            self._display.warn(
                "further rows are skipped without a message; the summary has the count"
            )


class Feed:
    """Moves rows from the inputs into a buffer.

    Args:
        buffer: the table's buffer.
        converter: converts raw rows for the table.
        rejected: counts the rows that are skipped. None ends the load at the first bad row.

    Attributes:
        buffer: the table's buffer.
        position: the number of bytes that have been read from the inputs.
    """

    def __init__(
        self,
        buffer: forebay.Buffer[tuple[Any, ...]],
        converter: Converter,
        rejected: RejectedRows | None,
    ) -> None:
        self.buffer = buffer
        self.position = 0
        self._converter = converter
        self._rejected = rejected

    async def accept(self, item: Item) -> LoadError | None:
        """Enqueue the rows of a chunk, up to the first error that ends the load.

        Returns:
            The error that ends the load, or None. It is not raised, so that the buffer's block
            ends without an exception and drains.
        """
        if isinstance(item, InputError):
            return item
        try:
            chunk = convert_chunk(item, self._converter)
        except InputError as error:
            return error
        if chunk.errors and self._rejected is None:
            first = chunk.errors[0]
            await self.buffer.enqueue_many(chunk.rows[: bisect_left(chunk.lines, first.line)])
            return first
        await self.buffer.enqueue_many(chunk.rows)
        if self._rejected is not None:
            for rejected in chunk.errors:
                self._rejected.add(rejected)
        self.position = chunk.position
        return None
