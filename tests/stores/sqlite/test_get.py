"""`Buffer.get` on real files: while flushes, locks and other programs are under way."""

from __future__ import annotations

import math
import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID, uuid4

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from forebay import (
    Buffer,
    BufferOptions,
    DecodeError,
    Delete,
    Json,
    Keep,
    Max,
    RetryPolicy,
    StoreError,
    Sum,
    Table,
    Update,
    Write,
    open_buffers,
    open_sqlite,
)
from forebay.stores import BatchError, FailureKind, Outcome
from tests import buffer_calls, one_by_one
from tests.wrapped_attempts import Commit, WrappedAttempt


class Counter(NamedTuple):
    key: str
    total: int
    first: int
    state: str | None


SUMS = Table(
    Counter,
    name="sums",
    key="key",
    merge={"total": Sum, "first": Keep, "state": Max},
    delete_by="state",
)
REPLACED = Table(Counter, name="replaced", key="key")
ALONE = Table(Counter, name="alone", key="key", merge={"total": Sum}, coalesce=False)


class Model:
    """The rows that a table should have, executed one by one."""

    def __init__(self, table: Table[Any]) -> None:
        self._table = table
        self._raw = sqlite3.connect(":memory:", isolation_level=None)
        columns = ", ".join(column.name for column in table.columns)
        self._raw.execute(f"CREATE TABLE {table.name} ({columns}, UNIQUE (key))")

    def close(self) -> None:
        self._raw.close()

    def execute(self, operation: Write | Update | Delete) -> None:
        one_by_one.execute(self._raw, self._table, [operation])

    def row(self, key: str) -> tuple[Any, ...] | None:
        rows = one_by_one.rows_of(self._raw, self._table)
        return next((row for row in rows if row[0] == key), None)


def random_operation(rng: random.Random, key: str) -> Write | Update | Delete:
    kind = rng.random()
    if kind < 0.1:
        return Delete(key)
    if kind < 0.4:
        return Update(key, {"total": rng.randrange(100)})
    state = rng.choice([None, "new", "old"])
    return Write(Counter(key, rng.randrange(100), rng.randrange(100), state))


async def work(buffer: Buffer[Counter], seed: int) -> None:
    """Execute random operations on keys of this task alone, and check each row after each one."""
    rng = random.Random(seed)  # no secret
    keys = [f"{seed} {i}" for i in range(3)]
    with closing(Model(buffer.table)) as model:
        for _ in range(20):
            operation = random_operation(rng, rng.choice(keys))
            buffer_calls.enqueue_nowait(buffer, operation)
            model.execute(operation)
            if rng.random() < 0.1:
                await buffer.flush()
            for key in keys:
                assert await buffer.get(key) == model.row(key)


@pytest.mark.parametrize("table", [SUMS, REPLACED, ALONE], ids=lambda table: table.name)
@pytest.mark.parametrize("batch_size", [1, 7, 1_000])
async def test_each_task_reads_what_it_wrote(
    path: Path, table: Table[Counter], batch_size: int
) -> None:
    """Ten tasks at once, beside flushes all the time, with batches of any size."""
    options = BufferOptions(flush_interval=0.0, batch_size=batch_size)
    async with (
        open_sqlite(path, create=[table]) as store,
        open_buffers(store, table, options=options) as buffers,
        trio.open_nursery() as nursery,
    ):
        for seed in range(10):
            nursery.start_soon(work, buffers[table], seed)


async def test_a_lock_delays_no_read(path: Path) -> None:
    """Another program holds the write lock; memory and the table together have the answer."""
    async with (
        open_sqlite(path, create=[SUMS]) as store,
        open_buffers(store, SUMS) as buffers,
    ):
        buffer = buffers[SUMS]
        await buffer.write(Counter("a", 1, 1, None))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(buffer.write, Counter("a", 2, 2, "new"))
                await wait_all_tasks_blocked()
                assert buffer.statistics().pending == 1
                assert await buffer.get("a") == Counter("a", 3, 1, "new")
                other.execute("ROLLBACK")
        assert await buffer.get("a") == Counter("a", 3, 1, "new")


async def test_a_change_by_another_program_is_seen(path: Path) -> None:
    """The row comes from the table, where others write too; pending entries come after it."""
    async with (
        open_sqlite(path, create=[SUMS]) as store,
        open_buffers(store, SUMS, options=BufferOptions(flush_interval=math.inf)) as buffers,
    ):
        buffer = buffers[SUMS]
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("INSERT INTO sums VALUES ('a', 5, 6, NULL)")
        assert await buffer.get("a") == Counter("a", 5, 6, None)
        await buffer.enqueue(Counter("a", 5, 7, "new"))
        assert await buffer.get("a") == Counter("a", 10, 6, "new")


async def test_more_keys_than_a_statement_has(path: Path) -> None:
    """With parts of a key, and with rows that do not exist among them."""

    class Pair(NamedTuple):
        a: int
        b: str
        value: float

    pairs = Table(Pair, name="pairs", key=("a", "b"))
    async with (
        open_sqlite(path, create=[pairs]) as store,
        open_buffers(store, pairs) as buffers,
    ):
        buffer = buffers[pairs]
        rows = [Pair(i, f"{i}", 2.0) for i in range(1_203)]
        await buffer.enqueue_many(rows[:1_000])
        await buffer.flush()
        await buffer.enqueue_many(rows[1_000:])
        found = await buffer.get_many((i, f"{i}") for i in range(2_000))
        assert list(found.values()) == rows
        assert await buffer.get((0, "1")) is None


class State(Enum):
    NEW = "new"
    DONE = "done"


class Job(NamedTuple):
    id: UUID
    state: State
    payload: Annotated[dict[str, Any], Json]
    due: datetime
    price: Decimal
    urgent: bool


JOBS = Table(Job, name="jobs", key="id", delete_by="due")


async def test_typed_columns_are_decoded(path: Path) -> None:
    """The same row, from memory and from the table; a value that does not decode is an error."""
    job = Job(
        uuid4(), State.NEW, {"a": [1]}, datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.0"), True
    )
    options = BufferOptions(flush_interval=math.inf)
    async with (
        open_sqlite(path, create=[JOBS]) as store,
        open_buffers(store, JOBS, options=options) as buffers,
    ):
        buffer = buffers[JOBS]
        await buffer.enqueue(job)
        in_memory = await buffer.get(job.id)
        await buffer.flush()
        assert in_memory == await buffer.get(job.id) == job
        await buffer.enqueue_update(job.id, state=State.DONE)
        assert await buffer.get(job.id) == job._replace(state=State.DONE)
        await buffer.enqueue_delete_by(job.due)
        assert await buffer.get(job.id) is None
        await buffer.write(job)
        await store.run(lambda raw: raw.execute("UPDATE jobs SET state = 'odd'").close())
        with pytest.raises(DecodeError) as caught:
            await buffer.get(job.id)
        assert (caught.value.column, caught.value.value) == ("state", "odd")


class Loose(NamedTuple):
    key: str
    value: int | str


LOOSE = Table(Loose, name="loose", key="key")


async def test_a_table_that_converts_values_is_refused(path: Path) -> None:
    """What memory has could differ from what the table will have. Writes are accepted."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE loose (key TEXT PRIMARY KEY, value TEXT)")
    async with open_sqlite(path) as store, open_buffers(store, LOOSE) as buffers:
        await buffers[LOOSE].write(Loose("a", 1))
        with pytest.raises(TypeError):
            await buffers[LOOSE].get("a")


async def test_a_read_by_key_inside_an_iteration_does_not_wait_for_it(path: Path) -> None:
    """Although iterations hold all connections for queries."""
    async with (
        open_sqlite(path, create=[SUMS], readers=1) as store,
        open_buffers(store, SUMS) as buffers,
    ):
        await buffers[SUMS].write(Counter("a", 1, 1, None))
        with trio.fail_after(30):
            async with store.iterate("SELECT * FROM sums", table=SUMS) as batches:
                async for [row] in batches:
                    assert await buffers[SUMS].get("a") == row


@pytest.mark.parametrize("value", ["abc", b"\x01", 0.5])
async def test_a_value_of_another_type_is_named(path: Path, value: object) -> None:
    """Another program stored it, and a pending sum has to be added to it."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE sums (key TEXT PRIMARY KEY, total, first, state TEXT)")
        raw.execute("INSERT INTO sums VALUES ('a', ?, 1, NULL)", (value,))
        raw.commit()
    async with open_sqlite(path) as store, open_buffers(store, SUMS) as buffers:
        await buffers[SUMS].enqueue(Counter("a", 1, 1, None))
        with pytest.raises(DecodeError) as caught:
            await buffers[SUMS].get("a")
        assert (caught.value.column, caught.value.value) == ("total", value)


async def test_other_tasks_run_and_a_cancellation_is_heard_during_many_keys(path: Path) -> None:
    """Keys are read in parts."""
    turns: list[int] = []

    async def count() -> None:
        while True:
            turns.append(1)
            await trio.lowlevel.checkpoint()

    async with (
        open_sqlite(path, create=[SUMS]) as store,
        open_buffers(store, SUMS) as buffers,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(count)
        turns.clear()
        await buffers[SUMS].get_many(f"{i}" for i in range(10_000))
        assert len(turns) >= 20
        drawn = iter(range(10**9))
        with trio.move_on_after(0.05) as scope:
            await buffers[SUMS].get_many(f"{i}" for i in drawn)
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


CHECKED = Table(Counter, name="checked", key="key", merge={"total": Sum}, coalesce=False)


@pytest.mark.parametrize("seed", range(20))
async def test_refused_rows_count_until_they_are_refused(path: Path, seed: int) -> None:
    """Random entries, of which the table refuses some, and flushes in between."""
    rng = random.Random(seed)  # no secret
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(
            "CREATE TABLE checked (key TEXT PRIMARY KEY, total INTEGER CHECK (total % 3 <> 0), "
            "first INTEGER, state TEXT)"
        )
    rows: dict[str, tuple[Any, ...]] = {}
    pending: list[Write | Update | Delete] = []
    options = BufferOptions(flush_interval=math.inf)
    async with open_sqlite(path) as store, open_buffers(store, CHECKED, options=options) as buffers:
        buffer = buffers[CHECKED]
        for _ in range(60):
            operation = random_operation(rng, rng.choice("abc"))
            buffer_calls.enqueue_nowait(buffer, operation)
            pending.append(operation)
            if rng.random() < 0.2:
                await buffer.flush()
                for each in pending:
                    after = applied(rows, each)
                    # SQLite checks the row of an upsert before it finds the conflict.
                    written = [each.row] if isinstance(each, Write) else []
                    if all(row[1] % 3 for row in [*after.values(), *written]):
                        rows = after
                pending.clear()
            expected = rows
            for each in pending:
                expected = applied(expected, each)
            found = await buffer.get_many(["a", "b", "c"])
            assert {key: tuple(row) for key, row in found.items()} == expected
        assert buffer.statistics().dead_lettered


def applied(
    rows: dict[str, tuple[Any, ...]], operation: Write | Update | Delete
) -> dict[str, tuple[Any, ...]]:
    """Return the rows after an operation that the table does not refuse."""
    rows = dict(rows)
    match operation:
        case Write((key, total, *others)):
            rows[key] = (key, total + (rows[key][1] if key in rows else 0), *others)
        case Update(key, columns) if key in rows:
            rows[key] = (key, columns["total"], *rows[key][2:])
        case Delete(key):
            rows.pop(key, None)
    return rows


async def test_a_suspended_buffer_is_read_once_its_table_is_back(path: Path) -> None:
    """Nothing that was accepted meanwhile is missing, nothing counts twice."""
    options = BufferOptions(
        on_failure="suspend", retry=RetryPolicy(initial_delay=0.001, max_delay=0.01)
    )
    async with (
        open_sqlite(path, create=[SUMS]) as store,
        open_buffers(store, SUMS, options=options) as buffers,
        trio.open_nursery() as nursery,
    ):
        buffer = buffers[SUMS]
        await buffer.write(Counter("a", 1, 1, None))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("ALTER TABLE sums RENAME TO hidden")
            nursery.start_soon(buffer.write, Counter("a", 2, 2, "new"))
            await wait_all_tasks_blocked()
            with pytest.raises((StoreError, sqlite3.Error)):
                await buffer.get("a")
            other.execute("ALTER TABLE hidden RENAME TO sums")
        assert await buffer.get("a") == Counter("a", 3, 1, "new")
        await buffer.flush()
        assert await buffer.get("a") == Counter("a", 3, 1, "new")


async def test_a_commit_in_doubt_is_counted_once(path: Path) -> None:
    """It took place, and the buffer does not know: the position in the file tells."""
    reported = trio.Event()

    async def in_doubt(commit: Commit) -> Outcome:
        outcome = await commit()
        if not reported.is_set():
            reported.set()
            raise BatchError("scripted", kind=FailureKind.IN_DOUBT, code="SCRIPTED")
        return outcome

    options = BufferOptions(retry=RetryPolicy(initial_delay=0.05, max_delay=0.05))
    async with open_sqlite(path, create=[SUMS]) as store:
        begin = store.begin
        store.begin = lambda batch: WrappedAttempt(begin(batch), in_doubt)  # type: ignore[assignment,method-assign,misc]
        async with (
            open_buffers(store, SUMS, options=options) as buffers,
            trio.open_nursery() as nursery,
        ):
            buffer = buffers[SUMS]
            nursery.start_soon(buffer.write, Counter("a", 1, 1, None))
            await reported.wait()
            assert buffer.statistics().pending == 1
            assert await buffer.get("a") == Counter("a", 1, 1, None)
        assert await store.fetch_all("SELECT total FROM sums") == [(1,)]


async def test_a_store_reads_any_number_of_keys_as_of_one_moment(path: Path) -> None:
    """A statement of SQLite has a limited number of parameters."""
    rows = [Job(uuid4(), State.NEW, {}, datetime.now(UTC), Decimal(1), True) for _ in range(1_200)]
    async with open_sqlite(path, create=[JOBS]) as store, open_buffers(store, JOBS) as buffers:
        await buffers[JOBS].enqueue_many(rows)
        await buffers.flush()
        keys = [str(row.id) for row in rows]
        found = await store.read_rows(JOBS, [*keys, "none"], stream="of no buffer")
    assert set(keys) == set(found.rows)
    assert found.position == 0
