"""Reads inputs in a thread, since a read may wait: on a disk, or on a pipe for ever."""

from __future__ import annotations

import trio

from forebay.cli._errors import InputError
from forebay.cli._load.readers import Chunk, Reader

# What comes from the inputs: rows, or at its place in their order what ends them too early.
Item = Chunk | InputError

SAMPLE_ROWS = 10_000
"""How many rows tell the types of the columns."""
SAMPLE_PAUSE = 1.0
"""How long a pipe is silent, in seconds, until the rows that came must tell them."""


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


async def first_items(items: trio.MemoryReceiveChannel[Item], *, pause: float) -> list[Item]:
    """Receive the items by which the types of the columns are told.

    Args:
        items: what comes from the inputs.
        pause: how long to wait for more rows once there are some, in seconds.
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
