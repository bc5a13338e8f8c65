"""A buffer with `on_failure="suspend"` on a real file: the cause comes, and goes or stays."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from forebay import (
    Buffer,
    Buffers,
    BufferStatistics,
    FlushError,
    SchemaError,
    StoreError,
    Table,
    Write,
    dead_letters,
    open_buffers,
    open_sqlite,
)
from forebay._buffer import suspension
from forebay.stores import FloodError
from tests.faults.harness import PATIENCE, Fault, Zygote, read
from tests.faults.tables import ENTRIES, EVENTS, PATIENT, TABLES, TOTALS, Entry, Event, Total
from tests.faults.test_corrupt import damage
from tests.faults.test_replaced import ACTIONS
from tests.faults.watched import Failures

SUSPEND = PATIENT.override({"on_failure": "suspend"})
ROWS = [Entry(f"k{i}", 0, i) for i in range(1000)]


def change(path: Path, *statements: str) -> None:
    """Change the schema as another program, or a person with the SQLite shell."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as raw:
        for sql in statements:
            raw.execute(sql)


async def suspended(buffer: Buffer[Entry], failures: Failures) -> BufferStatistics:
    """Wait for a failed attempt, and return the statistics of the buffer after it."""
    with trio.fail_after(PATIENCE):
        await failures.wait()
    now = buffer.statistics()
    assert now.suspended
    return now


async def flush_until_suspended(buffer: Buffer[Entry], failures: Failures) -> None:
    """Flush a buffer that has entries, and stop waiting once an attempt has failed."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(buffer.flush)
        await suspended(buffer, failures)
        nursery.cancel_scope.cancel()


def account_is_exact(buffers: Buffers) -> bool:
    return all(
        now.accepted == now.committed + now.superseded + now.dead_lettered + now.pending
        for now in buffers.statistics().values()
    )


RENAMED = (["ALTER TABLE entries RENAME TO gone"], ["ALTER TABLE gone RENAME TO entries"])
COLUMN_RENAMED = (
    ["ALTER TABLE entries RENAME COLUMN value TO gone"],
    ["ALTER TABLE entries RENAME COLUMN gone TO value"],
)
CREATE = "CREATE TABLE entries (key TEXT PRIMARY KEY, grp INTEGER, value INTEGER)"
DROPPED = (["DROP TABLE entries"], [CREATE])


@pytest.mark.parametrize(
    ("fault", "repair"),
    [RENAMED, COLUMN_RENAMED, DROPPED],
    ids=["table renamed", "column renamed", "table dropped"],
)
async def test_a_table_that_comes_back_gets_all_rows(
    tmp_path: Path, fault: list[str], repair: list[str]
) -> None:
    """`write` and `flush` wait, and return once the rows are there. No row is a dead letter."""
    path = tmp_path / "a.db"
    async with (
        open_sqlite(path, create=TABLES) as store,
        open_buffers(store, *TABLES, options=SUSPEND) as buffers,
    ):
        failures = Failures(store)
        change(path, *fault)
        await buffers[ENTRIES].enqueue_many(ROWS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(buffers[ENTRIES].write, Entry("written", 1, 1))
            nursery.start_soon(buffers.flush)
            now = await suspended(buffers[ENTRIES], failures)
            assert "SQLITE_ERROR: no such" in str(now.last_error) or "no column" in str(
                now.last_error
            )
            await buffers[EVENTS].write(Event("meanwhile", 1))
            assert account_is_exact(buffers)
            change(path, *repair)
        assert [(len(ROWS) + 1,)] == read(path, "SELECT count(*) FROM entries")
        assert not buffers[ENTRIES].statistics().suspended
        assert account_is_exact(buffers)
    assert [("meanwhile", 1)] == read(path, "SELECT * FROM events")
    assert [] == read(path, "SELECT * FROM forebay_dead_letters")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("CREATE TABLE entries (key TEXT, grp INTEGER, value INTEGER)", "no primary key"),
        ("CREATE TABLE entries (key TEXT PRIMARY KEY, grp INTEGER)", "no column 'value'"),
        (
            "CREATE TABLE entries (key TEXT PRIMARY KEY, grp INTEGER, value INTEGER, x NOT NULL)",
            "NOT NULL without a default",
        ),
        (
            "CREATE TABLE entries (key TEXT COLLATE NOCASE PRIMARY KEY, grp INTEGER, value)",
            "BINARY",
        ),
        ("CREATE VIEW entries AS SELECT 'a' AS key, 1 AS grp, 2 AS value", "is a view"),
    ],
)
async def test_a_table_created_anew_must_be_the_declared_one(
    tmp_path: Path, other: str, message: str
) -> None:
    """Into another table no row is written, even if SQLite would accept them."""
    path = tmp_path / "a.db"
    rechecked = trio.Event()
    async with (
        open_sqlite(path, create=TABLES) as store,
        open_buffers(store, ENTRIES, options=SUSPEND) as buffers,
    ):
        recheck = store.recheck

        async def watched(table: Table[Entry]) -> None:
            try:
                await recheck(table)
            except SchemaError as error:
                if message in str(error):
                    rechecked.set()
                raise

        store.recheck = watched  # type: ignore[method-assign]
        failures = Failures(store)
        change(path, "DROP TABLE entries")
        await buffers[ENTRIES].enqueue(ROWS[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(buffers[ENTRIES].flush)
            await suspended(buffers[ENTRIES], failures)
            change(path, other)
            with trio.fail_after(PATIENCE):
                await rechecked.wait()
            assert message in str(buffers[ENTRIES].statistics().last_error)
            kind = "VIEW" if "VIEW" in other else "TABLE"
            if kind == "TABLE":
                assert [] == read(path, "SELECT * FROM entries")
            change(path, f"DROP {kind} entries", CREATE)
    assert [tuple(ROWS[0])] == read(path, "SELECT * FROM entries")


async def test_a_read_only_database_that_can_be_written_again(tmp_path: Path) -> None:
    """SQLITE_READONLY suspends the buffers, and the rows follow later."""
    path = tmp_path / "a.db"
    async with (
        open_sqlite(path, create=TABLES) as store,
        open_buffers(store, *TABLES, options=SUSPEND) as buffers,
        trio.open_nursery() as nursery,
    ):
        failures = Failures(store)
        writer: list[sqlite3.Connection] = []

        def forbid(raw: sqlite3.Connection) -> None:
            writer.append(raw)
            raw.execute("PRAGMA query_only = 1")

        await store.run(forbid)
        nursery.start_soon(buffers[ENTRIES].write, ROWS[0])
        nursery.start_soon(buffers[EVENTS].write, Event("e", 1))
        await failures.wait(2)
        for name in ("entries", "events"):
            now = buffers.statistics()[name]
            assert (True, True) == (now.suspended, "SQLITE_READONLY" in str(now.last_error))
        [raw] = writer
        raw.execute("PRAGMA query_only = 0")
    assert [tuple(ROWS[0])] == read(path, "SELECT * FROM entries")
    assert [("e", 1)] == read(path, "SELECT * FROM events")


@pytest.mark.strace
@pytest.mark.parametrize("max_attempts", ["2", "none"])
def test_a_file_system_that_is_read_only_for_a_while(
    zygote: Zygote, fast_disk: Path, max_attempts: str
) -> None:
    """Writes fail with EROFS, as after an error of the disk. Each row is committed once, later.

    The system refuses to remount a file system read-only while a program can write to a file, so
    this is what a program sees: an I/O error, which is retried, or suspends after `max_attempts`.
    """
    path = fast_disk / "a.db"
    fault = Fault(path, "pwrite64", "error=EROFS", "3..40")
    arguments = (path, 0, 2, "NORMAL", 4, "pause", "suspend", max_attempts)
    with zygote.run("writer.py", *arguments, faults=[fault], after="open") as child:
        lines = child.lines()
        assert 0 == child.wait(), child.errors()
    assert 38 <= child.injected()
    assert "drained" == lines[-1]
    assert ("suspended" in lines) == (max_attempts != "none")
    assert [(2,)] == read(path, "SELECT n FROM totals")
    assert [(17,)] == read(path, "SELECT count(*) FROM entries")
    assert [(6,)] == read(path, "SELECT count(*) FROM events")


# A flood of refused rows

CHECKED = (
    "CREATE TABLE entries (key TEXT PRIMARY KEY, grp INTEGER, value INTEGER CHECK (value < 5))"
)


async def test_a_flood_of_refused_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row becomes a dead letter. Once the constraint is gone, all rows are committed."""
    monkeypatch.setattr(suspension, "FLOOD_DELAY", 0.05)
    path = tmp_path / "a.db"
    change(path, CHECKED)
    options = SUSPEND.override({"dead_letters_per_minute": 100})
    async with (
        open_sqlite(path, create=TABLES) as store,
        open_buffers(store, *TABLES, options=options) as buffers,
    ):
        failures = Failures(store)
        await buffers[ENTRIES].enqueue_many(ROWS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(buffers[ENTRIES].flush)
            assert isinstance(await failures.wait(), FloodError)
            assert buffers[ENTRIES].statistics().suspended
            assert isinstance(await failures.wait(), FloodError)
            await buffers[EVENTS].write(Event("meanwhile", 1))
            now = buffers[ENTRIES].statistics()
            assert (len(ROWS), 0) == (now.pending, now.dead_lettered)
            change(path, "ALTER TABLE entries RENAME TO other", CREATE)
    assert [(len(ROWS),)] == read(path, "SELECT count(*) FROM entries")
    assert [] == read(path, "SELECT * FROM forebay_dead_letters")


async def test_a_flood_waits_longer_than_other_failures(tmp_path: Path) -> None:
    """To find the refused rows holds the writer, so the next attempt is 60 s later."""
    path = tmp_path / "a.db"
    change(path, CHECKED)
    options = SUSPEND.override({"dead_letters_per_minute": 100})
    with pytest.raises(FlushError, match="refused more rows") as raised:
        async with (
            open_sqlite(path, create=TABLES) as store,
            open_buffers(store, *TABLES, options=options) as buffers,
        ):
            failures = Failures(store)
            await buffers[ENTRIES].enqueue_many(ROWS)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(buffers[ENTRIES].flush)
                await suspended(buffers[ENTRIES], failures)
                with trio.move_on_after(0.3) as waited:
                    await failures.wait()
                assert waited.cancelled_caught
                nursery.cancel_scope.cancel()
    assert 60.0 == suspension.FLOOD_DELAY
    assert len(ROWS) == raised.value.unsettled.count


class Pair(NamedTuple):
    k: int
    v: int


PAIRS = Table(Pair, name="pairs")
DEFERRED = (
    "CREATE TABLE parents (v INTEGER PRIMARY KEY)",
    "INSERT INTO parents VALUES (1)",
    "CREATE TABLE pairs (k, v INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
)


async def test_what_was_committed_of_the_batch_is_settled_first(tmp_path: Path) -> None:
    """A deferred foreign key fails at COMMIT, so the batch is committed in parts until the limit.

    Counts, tasks that wait and capacity are those of the parts, and each row is there once.
    """
    path = tmp_path / "a.db"
    change(path, *DEFERRED)
    rows = [Pair(k, 9 if k % 5 == 2 else 1) for k in range(40)]
    options = SUSPEND.override({"dead_letters_per_minute": 3, "capacity": 40})
    with pytest.raises(FlushError) as raised:
        async with (
            open_sqlite(path, pragmas={"foreign_keys": 1}) as store,
            open_buffers(store, PAIRS, options=options) as buffers,
        ):
            failures, buffer = Failures(store), buffers[PAIRS]
            await buffer.enqueue_many(rows)
            await failures.wait()
            now = buffer.statistics()
            assert (True, 3) == (now.suspended, now.dead_lettered)
            assert now.committed > 0
            assert (now.committed,) == read(path, "SELECT count(*) FROM pairs")[0]
            assert account_is_exact(buffers)
            # The first entry is committed, so a `flush` of it alone would have returned. The room
            # of the settled entries is free.
            for _ in range(now.committed + now.dead_lettered):
                buffer.enqueue_nowait(Pair(-1, 1))
            with pytest.raises(trio.WouldBlock):
                buffer.enqueue_nowait(Pair(-1, 1))
    ks = [int(k) for (k,) in read(path, "SELECT k FROM pairs")]
    named = [Pair(*each.row) for each in raised.value.unsettled.entries if isinstance(each, Write)]
    assert len(named) == raised.value.unsettled.count == 40
    letters = read(path, "SELECT count(*) FROM forebay_dead_letters")
    assert [(3,)] == letters
    assert 40 == len(ks) + 3 + sum(pair.k >= 0 for pair in named)
    assert set(ks).isdisjoint(pair.k for pair in named)


@pytest.mark.parametrize("on_failure", ["stop", "suspend"])
async def test_a_part_of_a_batch_is_not_acknowledged_in_a_lost_file(
    tmp_path: Path, on_failure: str
) -> None:
    """The file is deleted when one half of the batch is committed, before the other one fails."""
    path, calls = tmp_path / "a.db", 0
    change(path, *DEFERRED)

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:  # the batch was tried as a whole twice; this is its second half
            path.unlink()

    def hook(raw: sqlite3.Connection) -> None:
        raw.create_function("count_calls", 0, count)
        raw.execute(
            "CREATE TEMP TRIGGER counts AFTER INSERT ON main.pairs WHEN NEW.k = 39 "
            "BEGIN SELECT count_calls(); END"
        )

    rows = [Pair(k, 9 if k % 5 == 2 else 1) for k in range(40)]
    options = SUSPEND.override({"dead_letters_per_minute": 6, "on_failure": on_failure})
    with pytest.raises(FlushError) as raised:
        async with (
            open_sqlite(path, pragmas={"foreign_keys": 1}) as store,
            open_buffers(store, PAIRS, options=options) as buffers,
        ):
            await store.run(hook)
            await buffers[PAIRS].enqueue_many(rows)
            with pytest.raises(trio.BrokenResourceError):
                await buffers.flush()
    assert isinstance(raised.value.__cause__, StoreError)
    assert 3 <= calls
    assert (40, 0) == (raised.value.unsettled.count, buffers[PAIRS].statistics().committed)


# The end


async def test_a_table_that_never_comes_back(tmp_path: Path) -> None:
    """The drain tries once more, then spills and raises, long before its deadline of 60 s."""
    path, spill = tmp_path / "a.db", tmp_path / "left.spill"
    with pytest.raises(FlushError, match="there is no table 'entries'") as raised:
        async with (
            open_sqlite(path, create=TABLES) as store,
            open_buffers(store, *TABLES, options=SUSPEND, spill=spill) as buffers,
        ):
            failures = Failures(store)
            change(path, "DROP TABLE entries")
            await buffers[ENTRIES].enqueue_many(ROWS)
            await buffers[EVENTS].enqueue(Event("kept", 1))
            await flush_until_suspended(buffers[ENTRIES], failures)
            await buffers[ENTRIES].enqueue(Entry("late", 1, 1))
            leaving = trio.current_time()
    assert 20 > trio.current_time() - leaving
    assert len(ROWS) + 1 == raised.value.unsettled.count
    assert str(spill) == raised.value.spill
    assert isinstance(raised.value.__cause__, SchemaError)
    assert "\n" not in str(raised.value)
    assert [("kept", 1)] == read(path, "SELECT * FROM events")
    change(path, CREATE)
    async with open_sqlite(path) as store:
        assert len(ROWS) + 1 == len(await dead_letters.import_spill(store, spill))
        await dead_letters.replay(store)
    assert [(len(ROWS) + 1,)] == read(path, "SELECT count(*) FROM entries")


async def test_many_tasks_write_to_the_other_buffers(tmp_path: Path) -> None:
    """One of three buffers is suspended; 300 tasks write to the others, and each row is there."""
    path = tmp_path / "a.db"
    async with (
        open_sqlite(path, create=TABLES) as store,
        open_buffers(store, *TABLES, options=SUSPEND.override({"capacity": 500})) as buffers,
    ):
        failures = Failures(store)
        change(path, *RENAMED[0])
        async with trio.open_nursery() as outage:
            outage.start_soon(buffers[ENTRIES].enqueue_many, ROWS)  # more than it has room for
            outage.start_soon(buffers[ENTRIES].flush)
            await suspended(buffers[ENTRIES], failures)
            async with trio.open_nursery() as nursery:
                for task in range(300):
                    nursery.start_soon(buffers[EVENTS].write, Event("task", task))
                    nursery.start_soon(buffers[TOTALS].enqueue, Total("all", 1))
            await buffers[TOTALS].flush()
            assert [(300,)] == read(path, "SELECT count(*) FROM events")
            assert [(300,)] == read(path, "SELECT n FROM totals")
            now = buffers[ENTRIES].statistics()
            assert (True, 500, 1) == (now.suspended, now.pending, now.waiting)
            assert account_is_exact(buffers)
            change(path, *RENAMED[1])
    assert [(len(ROWS),)] == read(path, "SELECT count(*) FROM entries")


async def test_cancellation_while_suspended(tmp_path: Path) -> None:
    """The body ends, the drain tries once more, and all rows are there if the cause is gone."""
    path = tmp_path / "a.db"
    with trio.CancelScope() as scope:
        async with (
            open_sqlite(path, create=TABLES) as store,
            open_buffers(store, *TABLES, options=SUSPEND) as buffers,
            trio.open_nursery() as nursery,
        ):
            failures = Failures(store)
            change(path, *RENAMED[0])
            nursery.start_soon(buffers[ENTRIES].write, ROWS[0])
            await suspended(buffers[ENTRIES], failures)
            change(path, *RENAMED[1])
            scope.cancel()
    assert [tuple(ROWS[0])] == read(path, "SELECT * FROM entries")


@pytest.mark.parametrize("repaired", [True, False])
@pytest.mark.parametrize("signals", ["recipe", "plain"])
def test_ctrl_c_while_suspended(
    zygote: Zygote, tmp_path: Path, signals: str, repaired: bool
) -> None:
    """The program ends at once: without a loss if the cause is gone, and else with the entries."""
    path = tmp_path / "a.db"
    with zygote.run("service.py", path, signals, "suspend") as service:
        assert "open" == service.line()
        change(path, *RENAMED[0])
        service.send("go")
        assert "accepted" == service.line()
        assert "failed SQLITE_ERROR" == service.line()
        if repaired:
            change(path, *RENAMED[1])
        service.kill(signal.SIGINT)
        service.lines()
        status = service.wait()
        errors = service.errors()
    assert [(50,)] == read(path, "SELECT count(*) FROM events")
    if repaired:
        assert [(100,)] == read(path, "SELECT count(*) FROM entries")
    else:
        assert "FlushError: buffer 'entries' stopped" in errors
        assert "100 accepted entries" in errors
    assert ("KeyboardInterrupt" in errors) == (signals == "plain")
    assert (0 if repaired and signals == "recipe" else 1) == status  # 1: it ended with an exception


# What never suspends


@pytest.mark.parametrize("act", ACTIONS)
@pytest.mark.parametrize("was_suspended", [False, True])
async def test_a_lost_file_stops_the_buffer(
    tmp_path: Path, act: Callable[[Path], None], was_suspended: bool
) -> None:
    """Whether the buffer was suspended before or not, the entries are named."""
    path = tmp_path / "folder" / "a.db"
    path.parent.mkdir()
    with pytest.raises(FlushError) as raised:
        async with (
            open_sqlite(path, create=TABLES) as store,
            open_buffers(store, ENTRIES, options=SUSPEND) as buffers,
        ):
            await buffers[ENTRIES].write(Entry("kept", 0, 0))
            failures = Failures(store)
            if was_suspended:
                change(path, *RENAMED[0])
                await buffers[ENTRIES].enqueue(ROWS[0])
                await flush_until_suspended(buffers[ENTRIES], failures)
            act(path)
            with pytest.raises(trio.BrokenResourceError):
                await buffers[ENTRIES].write(ROWS[1])
    assert isinstance(raised.value.__cause__, StoreError)
    assert 1 + was_suspended == raised.value.unsettled.count


@pytest.mark.parametrize("was_suspended", [False, True])
async def test_damaged_pages_stop_the_buffer(tmp_path: Path, was_suspended: bool) -> None:
    """SQLITE_CORRUPT, in the commit or in the check of the table."""
    path = tmp_path / "a.db"
    with pytest.raises(FlushError, match="SQLITE_CORRUPT"):
        async with (
            open_sqlite(path, create=TABLES) as store,
            open_buffers(store, ENTRIES, options=SUSPEND) as buffers,
        ):
            await buffers[ENTRIES].write(Entry("before", 0, 0))
            failures = Failures(store)
            if was_suspended:
                change(path, *RENAMED[0])
                await buffers[ENTRIES].enqueue(ROWS[0])
                await flush_until_suspended(buffers[ENTRIES], failures)
                change(path, *RENAMED[1])
            damage(path)
            with pytest.raises(trio.BrokenResourceError):
                await buffers[ENTRIES].write(ROWS[1])
