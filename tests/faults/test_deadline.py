"""The drain's deadline passes: it ends by then plus one call that cannot be cut short."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from forebay import BufferOptions, DrainError, Write, open_buffers, open_sqlite
from tests.faults.gates import Gate
from tests.faults.harness import read
from tests.faults.tables import ENTRIES, EVENTS, Entry, Event


async def test_a_call_that_runs_is_finished_and_counts_and_the_rest_is_named(
    tmp_path: Path,
) -> None:
    """The transaction under way at the deadline is waited for; no other one begins after it."""
    path = tmp_path / "a.db"
    gate = Gate()
    options = BufferOptions(flush_interval=0.0, drain_timeout=0.05)

    async def hang_past_the_deadline() -> None:
        await trio.sleep(2 * options.drain_timeout)  # time itself is what is tested
        gate.let_through(1)

    async with (
        open_sqlite(path, create=[ENTRIES, EVENTS]) as store,
        trio.open_nursery() as nursery,
    ):
        await store.run(gate.install, "events")
        with pytest.raises(DrainError) as raised:
            async with open_buffers(store, EVENTS, ENTRIES, options=options) as buffers:
                await buffers[EVENTS].enqueue(Event("under way", 1))
                await gate.waiting.wait()
                await buffers[EVENTS].enqueue(Event("next", 2))
                await buffers[ENTRIES].enqueue(Entry("k", 0, 0))
                nursery.start_soon(hang_past_the_deadline)
    unsettled = raised.value.unsettled
    assert {"events", "entries"} == unsettled.keys()
    assert (Write(("next", 2)),) == unsettled["events"].entries
    assert (Write(("k", 0, 0)),) == unsettled["entries"].entries
    assert [("under way", 1)] == read(path, "SELECT * FROM events")
    assert [] == read(path, "SELECT * FROM entries")
