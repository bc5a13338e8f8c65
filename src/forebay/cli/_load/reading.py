"""Read the inputs in a thread, since a read of a disk or a pipe blocks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import trio

from forebay.cli._errors import InputError
from forebay.cli._load.readers import Chunk, Reader

Item = Chunk | InputError
"""Rows of the inputs, or the error that ends them early."""

SAMPLE_CHARACTERS = 64 * 1024 * 1024
"""The sample ends after the row that reaches this number of characters, to bound its memory."""
_AHEAD = 2
"""How many items may be read ahead."""


@dataclass(slots=True)
class Sample:
    """The first items of the inputs.

    Attributes:
        items: the chunks, raw, and the error that ended the inputs, if one did.
        chunks: the chunks, without the error.
        rows: the number of their rows.
        limit: the number of rows by which types are detected; None before the first row.
        ended: whether the inputs have no further items.
    """

    items: list[Item] = field(default_factory=list[Item])
    chunks: list[Chunk] = field(default_factory=list[Chunk])
    rows: int = 0
    limit: int | None = None
    ended: bool = False

    def add(self, item: Item) -> None:
        """Add an item. A pipe may give thousands with one row each, so nothing is counted anew."""
        self.items.append(item)
        if isinstance(item, Chunk):
            self.chunks.append(item)
            self.rows += len(item.rows)

    @property
    def is_full(self) -> bool:
        """Whether the sample has enough rows, or so many characters that more are too many."""
        if self.limit is None:
            return False
        offsets = self.chunks[-1].offsets
        return self.rows >= self.limit or (offsets != [] and offsets[-1] >= SAMPLE_CHARACTERS)

    @property
    def detected(self) -> list[Chunk]:
        """The chunks with only the rows by which types are detected.

        They depend on the inputs alone, and not on how many rows a read returned.
        """
        chunks: list[Chunk] = []
        left = self.limit or 0
        for chunk in self.chunks:
            rows = chunk.rows[: min(left, bisect_left(chunk.offsets, SAMPLE_CHARACTERS) + 1)]
            chunks.append(replace(chunk, rows=rows))
            left -= len(rows)
        return chunks


async def read_sample(reader: Reader, sample: Sample, limit: Callable[[Chunk], int]) -> None:
    """Read items into a sample until it is full or the inputs end.

    When cancelled, this does not wait for the current read, and drops its result. The sample has
    the items read before.

    Args:
        reader: reads the inputs.
        sample: receives the items.
        limit: returns the number of rows of the sample, given the first chunk with rows.
    """
    while not sample.is_full:
        item = await _read(reader)
        if item is not None:
            sample.add(item)
        if not isinstance(item, Chunk):
            sample.ended = True
            return
        if sample.limit is None and item.rows:
            sample.limit = limit(item)


@asynccontextmanager
async def open_items(
    reader: Reader, sample: Sample, *, read_on: bool
) -> AsyncGenerator[AsyncIterator[Item], None]:
    """Provide all items of the inputs, and read ahead, for the time of an `async with` block.

    When cancelled, this does not wait for the current read, and drops its result.

    Args:
        reader: reads the inputs.
        sample: the items read so far.
        read_on: whether to read further items.

    Yields:
        The items of the sample, and then those that are read.
    """
    send, receive = trio.open_memory_channel[Item](_AHEAD)
    # Not `async with receive`: its end is a checkpoint, whose Cancelled would replace the error
    # of a drain.
    with receive:
        async with trio.open_nursery() as nursery:
            consumed = trio.Event()
            if read_on and not sample.ended:
                nursery.start_soon(_read_ahead, reader, send, consumed)
            else:
                send.close()
            async with aclosing(_chain(sample.items, receive, consumed)) as items:
                yield items
            nursery.cancel_scope.cancel()


async def _chain(
    items: Iterable[Item], more: trio.MemoryReceiveChannel[Item], consumed: trio.Event
) -> AsyncGenerator[Item, None]:
    for item in items:
        yield item
    consumed.set()
    async for item in more:
        yield item


async def _read_ahead(
    reader: Reader, items: trio.MemorySendChannel[Item], consumed: trio.Event
) -> None:
    with items:
        # The reader converts rows, and a converter must get them in order: those of the sample
        # first.
        await consumed.wait()
        while (item := await _read(reader)) is not None:
            await items.send(item)
            if isinstance(item, InputError):
                return


async def _read(reader: Reader) -> Item | None:
    try:
        return await trio.to_thread.run_sync(reader.next_chunk, abandon_on_cancel=True)
    except InputError as error:
        return error
