"""The rows of the inputs that can be loaded, and the count of those that cannot."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from dataclasses import dataclass
from typing import Any

from forebay.cli._errors import InputError, InputRowError, LoadError
from forebay.cli._load.convert import Converter
from forebay.cli._load.readers import Chunk, convert_chunk
from forebay.cli._load.reading import Item
from forebay.cli._load.rejects import RejectedRows


@dataclass(frozen=True, slots=True)
class UsableRows:
    """Rows for the table.

    Attributes:
        rows: the rows.
        chunk: the chunk that begins with them; None if there are no rows.
        position: the number of bytes of all inputs that have been read from the disk.
        characters: the number of characters of their lines.
        failure: the error that ends the load after these rows; None if the load goes on.
    """

    rows: Sequence[tuple[Any, ...]]
    chunk: Chunk | None = None
    position: int = 0
    characters: int = 0
    failure: LoadError | None = None


async def usable_rows(
    items: AsyncIterable[Item], converter: Converter, rejected: RejectedRows
) -> AsyncGenerator[UsableRows, None]:
    """Yield the rows that can be loaded, up to the first error that ends the load.

    Errors are yielded and not raised, so that the buffer's block ends without an exception and
    drains. Nothing is yielded after an error.

    Args:
        items: the items of the inputs.
        converter: converts raw rows for the table.
        rejected: counts the rows that are skipped.
    """
    async for item in items:
        usable = to_usable(item, converter, rejected)
        if usable.rows or usable.failure is not None:
            yield usable
        if usable.failure is not None:
            return


def to_usable(item: Item, converter: Converter, rejected: RejectedRows) -> UsableRows:
    """Return the rows of an item, up to the first error that ends the load."""
    if isinstance(item, InputError):
        return UsableRows((), failure=item)
    try:
        chunk = convert_chunk(item, converter)
    except InputError as error:
        return UsableRows((), failure=error)
    try:
        for row_error in chunk.errors:
            rejected.add(row_error)
    except InputRowError as error:
        rows = _before(chunk, error)
        return UsableRows(rows, chunk, chunk.position, chunk.characters, error)
    return UsableRows(chunk.rows, chunk, chunk.position, chunk.characters)


def _before(chunk: Chunk, error: InputRowError) -> Sequence[tuple[Any, ...]]:
    """Return the rows before an error."""
    return chunk.rows[: bisect_left(chunk.lines, error.line)]
