"""One buffer fails or is late: the others drain and commit before the error is raised."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio

from forebay import BufferOptions, DrainError, FlushError, open_buffers, open_sqlite
from tests.faults.gates import Gate
from tests.faults.harness import read
from tests.faults.tables import ENTRIES, EVENTS, PATIENT, TABLES, TOTALS, Entry, Event, Total

MANY = 5_000


def rows_of_the_others(path: Path) -> list[tuple[int, int]]:
    return read(path, "SELECT (SELECT count(*) FROM events), (SELECT n FROM totals)")


async def test_the_others_commit_before_the_error_is_raised(tmp_path: Path) -> None:
    """The body of the block is cancelled. The entries of the other buffers are in their tables."""
    path = tmp_path / "a.db"
    options = PATIENT.override({"batch_size": 100})
    overrides = {"entries": options.override({"flush_interval": 0.0})}
    with pytest.raises(FlushError) as raised:
        async with (
            open_sqlite(path, create=TABLES) as store,
            open_buffers(store, *TABLES, options=options, overrides=overrides) as buffers,
        ):
            with closing(sqlite3.connect(path)) as raw:
                raw.execute("DROP TABLE entries")
            await buffers[EVENTS].enqueue_many(Event("e", i) for i in range(MANY))
            for _ in range(MANY):
                buffers[TOTALS].enqueue_nowait(Total("all", 1))
            await buffers[ENTRIES].enqueue(Entry("lost", 0, 0))
            await trio.sleep_forever()
    assert ("entries", 1) == (raised.value.buffer, raised.value.unsettled.count)
    assert [(MANY, MANY)] == rows_of_the_others(path)


async def test_the_others_commit_although_one_is_late(tmp_path: Path) -> None:
    """A slow transaction of one buffer delays the others once, not for the whole drain."""
    path = tmp_path / "a.db"
    gate = Gate()
    overrides = {"entries": BufferOptions(flush_interval=0.0, drain_timeout=0.0)}
    async with (
        open_sqlite(path, create=TABLES) as store,
        trio.open_nursery() as nursery,
    ):
        await store.run(gate.install, "entries")

        async def let_through_later() -> None:
            await trio.testing.wait_all_tasks_blocked()
            gate.let_through(1)

        with pytest.raises(DrainError) as raised:
            async with open_buffers(
                store, *TABLES, options=PATIENT, overrides=overrides
            ) as buffers:
                await buffers[ENTRIES].enqueue(Entry("under way", 0, 0))
                await gate.waiting.wait()
                await buffers[ENTRIES].enqueue(Entry("late", 0, 0))
                await buffers[EVENTS].enqueue_many(Event("e", i) for i in range(MANY))
                await buffers[TOTALS].enqueue(Total("all", MANY))
                nursery.start_soon(let_through_later)
    assert {"entries"} == raised.value.unsettled.keys()
    assert [("under way",)] == read(path, "SELECT key FROM entries")
    assert [(MANY, MANY)] == rows_of_the_others(path)
