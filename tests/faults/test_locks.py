"""Another process holds the write lock, or wants it at the same time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import forebay
from forebay import DrainError, open_buffers, open_sqlite
from forebay.stores import FailureKind
from tests.faults.harness import PATIENCE, Zygote, read
from tests.faults.tables import ENTRIES, EVENTS, PATIENT, TABLES, Entry, Event
from tests.faults.test_kill import check
from tests.faults.watched import Failures


async def test_rows_wait_while_another_process_holds_the_lock(
    zygote: Zygote, tmp_path: Path
) -> None:
    """Producers wait too. When the lock is released, all rows are committed."""
    path = tmp_path / "a.db"
    options = PATIENT.override({"capacity": 10})
    async with open_sqlite(path, create=TABLES, busy_timeout=0.001) as store:
        failures = Failures(store)
        with zygote.run("holder.py", path) as holder:
            assert "held" == holder.line()
            async with (
                open_buffers(store, EVENTS, options=options) as buffers,
                trio.open_nursery() as nursery,
            ):
                events = buffers[EVENTS]
                await events.enqueue_many([Event("kept", i) for i in range(10)])
                nursery.start_soon(events.enqueue, Event("waits", 10))
                await wait_all_tasks_blocked()
                error = await failures.wait(10)
                assert (FailureKind.TRANSIENT, "SQLITE_BUSY") == (error.kind, error.code)
                with pytest.raises(trio.WouldBlock):
                    events.enqueue_nowait(Event("refused", 11))
                now = events.statistics()
                assert (10, 10, 1, 0) == (now.accepted, now.pending, now.waiting, now.flushes)
                assert [] == read(path, "SELECT * FROM events")
                holder.send("let go")
                assert "let go" == holder.line()
    expected = [*(("kept", i) for i in range(10)), ("waits", 10)]
    assert expected == read(path, "SELECT * FROM events ORDER BY number")


@pytest.mark.slow
async def test_rows_wait_while_the_lock_is_held_for_a_minute(
    zygote: Zygote, tmp_path: Path
) -> None:
    """A minute of real time, with the default options: no row is lost, no producer fails.

    The other process sleeps, because the length of the lock is the fault. The test waits for its
    line.
    """
    path = tmp_path / "a.db"
    options = forebay.BufferOptions(capacity=50)
    producers, each = 10, 60  # so that not even the first one can enqueue all of its rows

    async def produce(buffer: forebay.Buffer[Event], number: int) -> None:
        for i in range(each):
            await buffer.enqueue(Event(str(number), i))

    async with (
        open_sqlite(path, create=TABLES) as store,
        open_buffers(store, EVENTS, options=options) as buffers,
    ):
        buffer = buffers[EVENTS]
        with zygote.run("holder.py", path, 60.0, patience=2 * PATIENCE) as holder:
            assert "held" == await trio.to_thread.run_sync(holder.line)
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for number in range(producers):
                    nursery.start_soon(produce, buffer, number)
                assert "let go" == await trio.to_thread.run_sync(holder.line)
                held = buffer.statistics()
        assert 59.0 < trio.current_time() - began
        # All producers waited, and the accepted entries stayed.
        assert (50, 50, producers, 0) == (held.accepted, held.pending, held.waiting, held.flushes)
        # The waits between the attempts grew from 50 ms to the maximum of 2 s.
        assert 20 < held.retries < 60
        assert "SQLITE_BUSY" in str(held.last_error)
        await buffer.flush()
        assert buffer.statistics().last_error is None
    for number in range(producers):
        rows = read(path, "SELECT number FROM events WHERE source = ? ORDER BY rowid", str(number))
        assert [(i,) for i in range(each)] == rows


async def test_two_processes_write_to_one_file(zygote: Zygote, tmp_path: Path) -> None:
    """They write at the same time, partly to the same keys, and lose nothing."""
    path = tmp_path / "a.db"
    rounds = 15
    with (
        zygote.run("writer.py", path, 0, rounds) as one,
        zygote.run("writer.py", path, rounds, rounds) as other,
    ):
        lines = [*one.lines(), *other.lines()]
        assert (0, 0) == (one.wait(), other.wait())
    assert 2 == lines.count("drained")
    check(path, lines, range(2 * rounds))
    assert [(2 * rounds,)] == read(path, "SELECT n FROM totals")


async def test_a_transaction_holds_the_write_lock_before_it_reads(tmp_path: Path) -> None:
    """No other process can write between, so SQLITE_BUSY_SNAPSHOT cannot happen."""
    path = tmp_path / "a.db"

    def read_then_write(raw: sqlite3.Connection) -> str:
        raw.execute("SELECT * FROM entries").fetchall()
        with (
            closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other,
            pytest.raises(sqlite3.OperationalError) as refused,
        ):
            other.execute("DELETE FROM entries")
        raw.execute("INSERT INTO entries VALUES ('mine', 0, 0)")
        return str(refused.value.sqlite_errorname)

    async with open_sqlite(path, create=TABLES) as store:
        assert "SQLITE_BUSY" == await store.run(read_then_write)
    assert [("mine",)] == read(path, "SELECT key FROM entries")


async def test_a_drain_against_a_lock_ends_at_its_deadline(zygote: Zygote, tmp_path: Path) -> None:
    """The error has the entries that are left, and the cause."""
    path = tmp_path / "a.db"
    options = PATIENT.override({"drain_timeout": 0.1})
    async with open_sqlite(path, create=TABLES, busy_timeout=0.001) as store:
        with zygote.run("holder.py", path) as holder:
            assert "held" == holder.line()
            with pytest.raises(DrainError) as raised:
                async with open_buffers(store, ENTRIES, options=options) as buffers:
                    await buffers[ENTRIES].enqueue(Entry("left", 0, 0))
    left = raised.value.unsettled["entries"]
    assert 1 == left.count
    assert "SQLITE_BUSY" in str(raised.value)
