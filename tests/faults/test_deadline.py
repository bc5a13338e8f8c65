"""A drain past its deadline waits for the transaction that runs, and begins no other one."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from forebay import BufferOptions, DrainError, Write, open_buffers, open_sqlite
from tests.faults.gates import Gate
from tests.faults.harness import read
from tests.faults.tables import ENTRIES, EVENTS, Entry, Event


async def test_the_running_transaction_commits_and_the_error_names_the_other_entries(
    tmp_path: Path,
) -> None:
    """A thread inside SQLite cannot be interrupted, so the drain ends after that transaction."""
    path = tmp_path / "a.db"
    gate = Gate()
    options = BufferOptions(flush_interval=0.0, drain_timeout=0.05)

    async def let_through_after_the_deadline() -> None:
        await trio.sleep(2 * options.drain_timeout)  # the test is about time
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
                nursery.start_soon(let_through_after_the_deadline)
    unsettled = raised.value.unsettled
    assert {"events", "entries"} == unsettled.keys()
    assert (Write(("next", 2)),) == unsettled["events"].entries
    assert (Write(("k", 0, 0)),) == unsettled["entries"].entries
    assert [("under way", 1)] == read(path, "SELECT * FROM events")
    assert [] == read(path, "SELECT * FROM entries")
