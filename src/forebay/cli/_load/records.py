"""The rows of one input, each with its line; the format's parser provides them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

Record: TypeAlias = tuple[int, list[str] | dict[str, Any] | str | None]
"""The line in which a row starts, and the row.

The row is its cells, or its object, or a message if it is malformed, or None for a blank line.
"""


class Progress(Protocol):
    """How far a parser has got in its input."""

    @property
    def waiting(self) -> bool:
        """Whether the next row must be read from the input, which may block for any time."""
        ...

    @property
    def characters(self) -> int:
        """The number of characters up to the end of the last row."""
        ...

    @property
    def row_text(self) -> str:
        """The last row as it is written in the input."""
        ...


class Blocks(Protocol):
    """Reads the rows of the lines that are in memory, if all are well-formed."""

    @property
    def text(self) -> str:
        """The text of the rows that `peek` returned last."""
        ...

    def peek(self) -> list[list[str]]:
        """Return the next rows, one per line, without moving on; none if one is malformed."""
        ...

    def skip(self) -> range:
        """Move on past these rows, and return their lines."""
        ...


@dataclass(frozen=True, slots=True)
class Records:
    """The rows of one input.

    Attributes:
        header: the columns of the cells; None if each row is an object, which names them itself.
        rows: the rows.
        progress: how far they have been read.
        blocks: reads many rows together, which is faster; None if the format has no such way.
    """

    header: tuple[str, ...] | None
    rows: Iterator[Record]
    progress: Progress
    blocks: Blocks | None = None


class RowTooLongError(Exception):
    """A row is longer than a line may be. Its message is for the person."""
