"""Read the inputs in a thread, since a read of a disk or a pipe blocks."""

from __future__ import annotations

import trio

from forebay.cli._errors import InputError
from forebay.cli._load.readers import Chunk, Reader

Item = Chunk | InputError
"""Rows of the inputs, or the error that ends them early."""

SAMPLE_ROWS = 10_000
"""The number of rows by which the types of the columns are detected."""
SAMPLE_PAUSE = 1.0
"""How long the sample waits for the next row of a pipe, in seconds."""


async def read_ahead(reader: Reader, items: trio.MemorySendChannel[Item]) -> None:
    """Send the chunks of the inputs as they are read, then close `items`.

    When cancelled, this does not wait for the current read, and drops its result.
    """
    async with items:
        while True:
            try:
                chunk = await trio.to_thread.run_sync(reader.next_chunk, abandon_on_cancel=True)
            except InputError as error:
                await items.send(error)
                return
            if chunk is None:
                return
            await items.send(chunk)


async def first_items(items: trio.MemoryReceiveChannel[Item], *, pause: float) -> list[Item]:
    """Receive the items by which the types of the columns are detected.

    Args:
        items: the items of the inputs.
        pause: how long to wait for the next rows after the first ones, in seconds.
    """
    received: list[Item] = []
    rows = 0
    with trio.CancelScope() as patience:
        async for item in items:
            received.append(item)
            if isinstance(item, InputError):
                break
            rows += len(item.rows)
            if rows >= SAMPLE_ROWS:
                break
            if rows:
                patience.deadline = trio.current_time() + pause
    return received
