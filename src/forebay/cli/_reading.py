"""Reads inputs in a thread, since a read may wait: on a disk, or on a pipe for ever."""

from __future__ import annotations

import math

import trio

from forebay.cli._errors import InputError
from forebay.cli._readers import Chunk, Reader

# What comes from the inputs: rows, or at its place in their order what ends them too early.
Item = Chunk | InputError

# A column's type is told by so many rows, or by those that came before a pipe fell silent for so
# long (in seconds): rows that come slowly are not held back to learn more.
SAMPLE_ROWS = 10_000
SAMPLE_PAUSE = 0.5


async def read_ahead(reader: Reader, items: trio.MemorySendChannel[Item]) -> None:
    """Send the chunks of the inputs as they come, then close `items`.

    Cancelled, it does not wait for the read that runs: what that read brings is dropped.
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


async def first_items(items: trio.MemoryReceiveChannel[Item]) -> list[Item]:
    """Receive the items by which the types of the columns are told."""
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
            if rows and math.isinf(patience.deadline):
                patience.deadline = trio.current_time() + SAMPLE_PAUSE
    return received
