"""The sample by which the types of the columns are detected."""

from __future__ import annotations

import math

import trio
import trio.testing

from forebay.cli._errors import InputError
from forebay.cli._load.readers import Chunk
from forebay.cli._load.reading import SAMPLE_ROWS, Item, first_items


def chunk(rows: int) -> Chunk:
    return Chunk("it", ("a",), converted=False, rows=[["1"]] * rows)


async def test_a_sample_ends_at_its_size() -> None:
    """The items after it stay in the channel."""
    send, receive = trio.open_memory_channel[Item](9)
    items = [chunk(SAMPLE_ROWS - 1), chunk(1), chunk(1)]
    for item in items:
        await send.send(item)
    assert items[:2] == await first_items(receive, pause=math.inf)
    assert items[2] == await receive.receive()


async def test_a_sample_ends_with_the_inputs() -> None:
    """At their end, or at the error that ends them, which is the last item."""
    send, receive = trio.open_memory_channel[Item](9)
    error = InputError("it", "broken")
    for item in (chunk(1), error):
        await send.send(item)
    send.close()
    assert [chunk(1), error] == await first_items(receive, pause=math.inf)
    assert [] == await first_items(receive, pause=math.inf)


async def test_a_sample_ends_when_a_pipe_falls_silent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first row is waited for without end, and each one after it for the pause."""
    started = trio.current_time()
    send, receive = trio.open_memory_channel[Item](0)

    async def slowly() -> None:
        for pause in (0.0, 100.0, 2.5, 2.5):
            await trio.sleep(pause)
            await send.send(chunk(0 if pause == 0 else 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slowly)
        items = await first_items(receive, pause=3.0)
    assert [0, 1, 1, 1] == [len(item.rows) for item in items if isinstance(item, Chunk)]
    assert 108.0 == trio.current_time() - started
