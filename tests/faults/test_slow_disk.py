"""Producers are faster than the disk: memory is bounded, and they wait in order."""

from __future__ import annotations

from pathlib import Path

import trio

from forebay import Buffer, BufferOptions, open_buffers, open_sqlite
from tests.faults.gates import Gate
from tests.faults.harness import read
from tests.faults.tables import EVENTS, Event

PRODUCERS = 20
EACH = 30


async def test_producers_wait_in_order_for_a_slow_disk(tmp_path: Path) -> None:
    """At most `capacity` entries are pending, and no producer gets further ahead than that."""
    path = tmp_path / "a.db"
    gate = Gate()
    progress = [0] * PRODUCERS
    options = BufferOptions(capacity=10, batch_size=5, flush_interval=0.0)

    async def produce(events: Buffer[Event], number: int) -> None:
        for i in range(EACH):
            await events.enqueue(Event(str(number), i))
            progress[number] += 1
            now = events.statistics()
            assert now.pending <= 10
            # The first tasks to run may fill the buffer. After that, each waits for its turn.
            assert progress[number] - min(progress) <= options.capacity + 1
            gate.let_through(1)

    async with (
        open_sqlite(path, create=[EVENTS]) as store,
        open_buffers(store, EVENTS, options=options) as buffers,
    ):
        await store.run(gate.install, "events")
        async with trio.open_nursery() as nursery:
            for number in range(PRODUCERS):
                nursery.start_soon(produce, buffers[EVENTS], number)
    for number in range(PRODUCERS):
        rows = read(path, "SELECT number FROM events WHERE source = ? ORDER BY rowid", str(number))
        assert [(i,) for i in range(EACH)] == rows
