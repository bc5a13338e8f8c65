"""`Buffer.get`: the row that the table will have once the pending entries are written."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from forebay import Buffer, BufferOptions, Max, Sum, Table, open_buffers
from forebay.stores import Batch, FailureKind, Outcome, Store
from forebay.testing import MemoryStore
from tests.wrapped_attempts import Commit, WrappedMemoryStore


class Hit(NamedTuple):
    url: str
    hits: int
    last: float


HITS = Table(Hit, name="hits", key="url", merge={"hits": Sum, "last": Max}, delete_by="last")
NEVER = BufferOptions(flush_interval=math.inf)


@asynccontextmanager
async def opened(
    store: Store | None = None, table: Table[Any] = HITS, options: BufferOptions = NEVER
) -> AsyncGenerator[Buffer[Any], None]:
    async with open_buffers(store or MemoryStore(), table, options=options) as buffers:
        yield buffers[table]


async def test_pending_entries_count_from_the_call_that_accepts_them() -> None:
    """Writes, updates, deletes and deletes by another column, with nothing flushed."""
    async with opened() as buffer:
        assert await buffer.get("a") is None
        await buffer.enqueue(Hit("a", 1, 1.0))
        assert await buffer.get("a") == Hit("a", 1, 1.0)
        await buffer.enqueue(Hit("a", 2, 0.5))
        assert await buffer.get("a") == Hit("a", 3, 1.0)
        await buffer.enqueue_update("a", hits=10)
        assert await buffer.get("a") == Hit("a", 10, 1.0)
        await buffer.enqueue_delete_by(1.0)
        assert await buffer.get("a") is None
        await buffer.enqueue_update("a", hits=5)
        assert await buffer.get("a") is None
        assert buffer.statistics().flushes == 0


async def test_the_table_has_what_was_settled() -> None:
    """A sum that the table has is not added again."""
    async with opened() as buffer:
        await buffer.write(Hit("a", 1, 1.0))
        await buffer.enqueue(Hit("a", 1, 2.0))
        assert await buffer.get("a") == Hit("a", 2, 2.0)
        await buffer.flush()
        assert await buffer.get("a") == Hit("a", 2, 2.0)


async def test_several_keys_at_once() -> None:
    """Rows that exist, under the keys as they were given; a key may be given twice."""
    async with opened() as buffer:
        await buffer.write(Hit("a", 1, 1.0))
        await buffer.enqueue(Hit("b", 1, 1.0))
        rows = await buffer.get_many(["a", "b", "c", "a"])
        assert rows == {"a": Hit("a", 1, 1.0), "b": Hit("b", 1, 1.0)}
        assert await buffer.get_many([]) == {}


async def test_a_flush_that_fails_hides_nothing(autojump_clock: MockClock) -> None:
    """Entries of a batch that is retried, and those behind it, count."""
    store = MemoryStore()
    store.fail_next(FailureKind.TRANSIENT, times=3)
    async with opened(store) as buffer, trio.open_nursery() as nursery:
        await buffer.enqueue(Hit("a", 1, 1.0))
        nursery.start_soon(buffer.flush)
        await wait_all_tasks_blocked()
        await buffer.enqueue(Hit("a", 1, 1.0))
        assert store.attempts == 1
        assert await buffer.get("a") == Hit("a", 2, 1.0)


async def test_a_refused_row_counts_until_the_table_refuses_it() -> None:
    """After that, the row is what it was before."""
    store = MemoryStore()
    async with opened(store) as buffer:
        await buffer.write(Hit("a", 1, 1.0))
        store.refuse(lambda _operation: True)
        await buffer.enqueue(Hit("a", 5, 1.0))
        assert await buffer.get("a") == Hit("a", 6, 1.0)
        await buffer.flush()
        assert await buffer.get("a") == Hit("a", 1, 1.0)


class Replaced(NamedTuple):
    key: str
    value: int


REPLACED = Table(Replaced, name="replaced", key="key")


async def test_a_refused_row_in_a_burst_that_goes_on_decides_nothing() -> None:
    """The burst still has entries that are not settled, and the refused one is among its first."""
    store = MemoryStore()
    store.refuse(lambda _operation: True)
    options = BufferOptions(flush_interval=math.inf, batch_size=2)
    async with opened(store, REPLACED, options) as buffer:
        store.stop()
        await buffer.enqueue_many(Replaced(f"{i}", i) for i in range(3))
        await wait_all_tasks_blocked()
        store.resume()
        await wait_all_tasks_blocked()
        assert buffer.statistics().dead_lettered == 2
        assert await buffer.get_many(["0", "1", "2"]) == {"2": Replaced("2", 2)}


async def test_other_tasks_run_while_many_entries_are_indexed() -> None:
    """The first call after many entries does not hold the event loop."""
    steps: list[int] = []

    async def count() -> None:
        while True:
            steps.append(1)
            await trio.lowlevel.checkpoint()

    options = BufferOptions(flush_interval=math.inf, capacity=20_000, batch_size=20_000)
    async with opened(options=options) as buffer, trio.open_nursery() as nursery:
        await buffer.enqueue_many([Hit(f"{i}", i, 1.0) for i in range(10_000)])
        nursery.start_soon(count)
        steps.clear()
        assert await buffer.get("5000") == Hit("5000", 5000, 1.0)
        assert len(steps) >= 9
        steps.clear()
        assert await buffer.get("6000") == Hit("6000", 6000, 1.0)
        assert len(steps) <= 3
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("key", ["pending", "stored", "neither"])
async def test_it_is_a_checkpoint(key: str) -> None:
    """Whether memory or the table has the answer; and with nothing to read."""
    async with opened() as buffer:
        await buffer.write(Hit("stored", 1, 1.0))
        await buffer.enqueue(Hit("pending", 1, 1.0))
        with assert_checkpoints():
            await buffer.get(key)
        with assert_checkpoints():
            await buffer.get_many([])
        with trio.CancelScope() as scope:
            scope.cancel()
            await buffer.get(key)
        assert scope.cancelled_caught


async def test_what_cannot_be_read_is_refused() -> None:
    """A table without a key, a key of a wrong type, a store that does not read."""

    class Writer(MemoryStore):
        unsupported_calls = Store.unsupported_calls

    appended = Table(Hit, name="hits")
    async with opened(table=appended) as buffer:
        with pytest.raises(TypeError):
            await buffer.get("a")
    async with opened() as buffer:
        with pytest.raises(TypeError):
            await buffer.get(1)
        with pytest.raises(TypeError):
            await buffer.get_many(["a", None])
        with pytest.raises(TypeError):
            await buffer.get_many("abc")
        with pytest.raises(ValueError, match="hits"):
            await buffer.get("\ud800")
    async with opened(Writer()) as buffer:
        with pytest.raises(TypeError):
            await buffer.get("a")
    with pytest.raises(trio.ClosedResourceError):
        await buffer.get("a")


class ReportsLate(WrappedMemoryStore):
    """A store whose commits take place before the buffer hears of them."""

    def __init__(self) -> None:
        super().__init__()
        self.report = trio.Event()

    async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
        outcome = await commit()
        await self.report.wait()
        return outcome


async def test_what_is_committed_but_not_settled_is_not_added_twice() -> None:
    """Between COMMIT and the moment when the buffer hears of it, the table is ahead."""
    store = ReportsLate()
    async with opened(store) as buffer, trio.open_nursery() as nursery:
        await buffer.enqueue(Hit("a", 1, 1.0))
        nursery.start_soon(buffer.flush)
        await wait_all_tasks_blocked()
        await buffer.enqueue(Hit("a", 10, 1.0))
        assert (buffer.statistics().pending, store.rows(HITS)) == (2, [Hit("a", 1, 1.0)])
        assert await buffer.get("a") == Hit("a", 11, 1.0)
        store.report.set()
