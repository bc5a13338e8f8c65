"""Where the rows come from that the buffer has accepted and not yet settled.

A row that the table refuses is found at a flush, long after it was read. The buffer knows it by its
number. This keeps the inputs' text of the pending rows, which the buffer's capacity bounds, so that
the refused row can be shown as it is written in the input, with its line.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from forebay._buffer.ledger import Ledger
from forebay.cli._load.readers import Chunk
from forebay.cli._load.rejects import Reject
from forebay.stores import Rejection


class _Accepted(NamedTuple):
    """Rows of a chunk, and how many rows the buffer got before them."""

    before: int
    chunk: Chunk


class PendingRows:
    """Finds out which rows of the inputs the table refuses.

    Args:
        ledger: that of the buffer, which gets rows from here only.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._accepted: deque[_Accepted] = deque()
        self._count = 0
        self._refused: list[Reject] = []
        ledger.on_rejections = self._note

    def add(self, chunk: Chunk, rows: int) -> None:
        """Note that the buffer gets the first rows of a chunk next."""
        while len(self._accepted) > 1 and self._accepted[1].before <= self._ledger.settled:
            self._accepted.popleft()
        self._accepted.append(_Accepted(self._count, chunk))
        self._count += rows

    def take_refused(self) -> Sequence[Reject]:
        """Return the rows that the table has refused since the last call."""
        refused, self._refused = self._refused, []
        return refused

    def _note(self, rejections: Sequence[Rejection]) -> None:
        for rejection in rejections:
            index = rejection.number - 1  # among all rows, counted from 0
            place = bisect_right(self._accepted, index, key=lambda part: part.before) - 1
            before, chunk = self._accepted[place]
            self._refused.append(
                Reject(
                    chunk.source,
                    chunk.lines[index - before],
                    f"the table refused the row: {rejection.message} ({rejection.code})",
                    chunk.text_of(index - before),
                )
            )
