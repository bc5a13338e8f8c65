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


@dataclass(frozen=True, slots=True)
class Records:
    """The rows of one input.

    Attributes:
        header: the columns of the cells; None if each row is an object, which names them itself.
        rows: the rows.
        progress: how far they have been read.
    """

    header: tuple[str, ...] | None
    rows: Iterator[Record]
    progress: Progress


class RowTooLongError(Exception):
    """A row is longer than a line may be. Its message is for the person."""
