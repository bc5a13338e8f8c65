"""`KeyValueStore`: `get` returns what `put` stored, and rarely causes a write."""

from __future__ import annotations

import gc
import json
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import BufferOptions, open_buffers
from forebay.cache import Cache, KeyValueStore, open_cache
from forebay.cache.tables import KEY_VALUE_ENTRIES
from forebay.stores import StoredRows
from forebay.testing import MemoryStore
from tests.cache.tools import (
    BY_HAND,
    NOON,
    ODD_TEXTS,
    SECOND,
    FakeClock,
    opened,
    until,
    writer_held,
)

WEEK = 7 * 24 * 3600.0


async def rows(cache: Cache) -> list[tuple[Any, ...]]:
    return await cache.store.fetch_all(
        "SELECT key, payload, last_accessed_at, inserted_at, updated_at "
        "FROM key_value_entries ORDER BY key"
    )


def accepted(cache: Cache) -> int:
    return cache.buffers[KEY_VALUE_ENTRIES].statistics().accepted


def delete_all(raw: sqlite3.Connection) -> None:
    raw.execute("DELETE FROM key_value_entries")


def payload(*values: str) -> str:
    return json.dumps(
        {"entries": [{"value": v} for v in values]}, separators=(",", ":"), ensure_ascii=False
    )


async def test_a_value_is_stored_as_json_under_its_prefixed_key(tmp_path: Path) -> None:
    """The key has the account, the project and the id, and three columns have the current time."""
    async with opened(tmp_path) as cache:
        await cache.key_values.put("id", "acme", "app", ["a", "b"])
        await cache.flush()
        expected = '{"entries":[{"value":"a"},{"value":"b"}]}'
        assert [("keyvalue:acme:app:id", expected, NOON, NOON, NOON)] == await rows(cache)
        assert expected == await cache.key_values.get("id", "acme", "app")


@pytest.mark.parametrize(
    ("cas_id", "account", "project"),
    [("other", "acme", "app"), ("id", "other", "app"), ("id", "acme", "other")],
)
async def test_an_unknown_id_account_or_project_is_not_found(
    tmp_path: Path, cas_id: str, account: str, project: str
) -> None:
    """`get` returns None unless id, account and project are those of a `put`."""
    async with opened(tmp_path) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
        assert await cache.key_values.get(cas_id, account, project) is None
        await cache.flush()
        assert await cache.key_values.get(cas_id, account, project) is None


async def test_an_empty_list_of_values_is_a_value(tmp_path: Path) -> None:
    """An empty list is not the same as no entry, before the flush and after a restart."""
    async with opened(tmp_path) as cache:
        await cache.key_values.put("id", "acme", "app", [])
        assert '{"entries":[]}' == await cache.key_values.get("id", "acme", "app")
    async with opened(tmp_path) as cache:
        assert '{"entries":[]}' == await cache.key_values.get("id", "acme", "app")


async def test_the_latest_payload_of_a_key_wins(tmp_path: Path, mock_clock: MockClock) -> None:
    """The last of several puts of a key is read and stored, in one batch and across two."""
    del mock_clock  # stands still, so nothing is flushed unless requested
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        for batch in range(2):
            for value in ("first", "second"):
                clock.advance(1)
                await cache.key_values.put("id", "acme", "app", [f"{value} {batch}"])
            expected = payload(f"second {batch}")
            assert expected == await cache.key_values.get("id", "acme", "app")
            await cache.flush()
            [(_, stored, accessed, inserted, updated)] = await rows(cache)
            assert expected == stored
            assert clock.now == accessed == updated
            assert NOON + SECOND == inserted


async def test_a_put_is_read_before_it_is_flushed(tmp_path: Path, mock_clock: MockClock) -> None:
    """`get` returns a value that is not in the table yet."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
        assert payload("a") == await cache.key_values.get("id", "acme", "app")
        assert [] == await rows(cache)


@pytest.mark.parametrize("memory_bytes", [0, 700])
async def test_a_pending_value_that_is_not_cached_is_read(
    tmp_path: Path, mock_clock: MockClock, memory_bytes: int
) -> None:
    """The read does not cause a flush."""
    del mock_clock
    async with opened(tmp_path, memory_bytes=memory_bytes) as cache:
        for i in range(10):
            await cache.key_values.put(f"id{i}", "acme", "app", [str(i)])
        await cache.key_values.put("id0", "acme", "app", ["new"])
        expected = [payload("new"), *(payload(str(i)) for i in range(1, 10))]
        got = [await cache.key_values.get(f"id{i}", "acme", "app") for i in range(10)]
        assert expected == got
        assert 0 == cache.buffers[KEY_VALUE_ENTRIES].statistics().flushes
        await cache.flush()
        got = [await cache.key_values.get(f"id{i}", "acme", "app") for i in range(10)]
        assert expected == got


async def test_a_recorded_access_does_not_hide_a_pending_value(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A pending value that is not cached is read again after an access of it was recorded."""
    del mock_clock
    async with opened(tmp_path, memory_bytes=0, touch_interval=0.0) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
        for _ in range(3):
            assert payload("a") == await cache.key_values.get("id", "acme", "app")
        assert 4 == accepted(cache)
        assert 0 == cache.buffers[KEY_VALUE_ENTRIES].statistics().flushes


@contextmanager
def traced_memory() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many bytes were allocated and not freed in the block."""
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]

        def growth() -> int:
            gc.collect()
            return tracemalloc.get_traced_memory()[0] - before

        yield growth
    finally:
        tracemalloc.stop()


LARGE = 1_000_000


async def test_a_flushed_value_is_not_held_in_memory(tmp_path: Path, mock_clock: MockClock) -> None:
    """Pending values may exceed the bound in bytes, and are freed after the flush."""
    del mock_clock
    async with opened(tmp_path, memory_bytes=0) as cache:
        await cache.key_values.put("first", "acme", "app", ["a"])
        await cache.flush()
        with traced_memory() as growth:
            for i in range(10):
                await cache.key_values.put(f"id{i}", "acme", "app", ["x" * LARGE])
            assert 10 * LARGE < growth()
            for value in ("a", "b"):  # a buffer may hold the batch that it flushed last
                await cache.flush()
                await cache.key_values.put("last", "acme", "app", [value])
            assert LARGE > growth()


async def test_a_hot_key_does_not_hold_the_flushed_values_of_others(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A key that is always pending does not keep the values of other keys in memory."""
    del mock_clock
    async with opened(tmp_path, memory_bytes=0) as cache:
        await cache.key_values.put("first", "acme", "app", ["a"])
        await cache.flush()
        with traced_memory() as growth:
            await cache.key_values.put("hot", "acme", "app", ["1"])
            await cache.key_values.put("cold", "acme", "app", ["x" * LARGE])
            assert LARGE < growth()
            for value in ("2", "3"):  # a buffer may hold the batch that it flushed last
                async with trio.open_nursery() as nursery, writer_held(cache):
                    nursery.start_soon(cache.flush)
                    await wait_all_tasks_blocked()
                    await cache.key_values.put("hot", "acme", "app", [value])
                assert 1 == cache.statistics().pending
            await cache.key_values.put("last", "acme", "app", ["1"])
            assert LARGE // 2 > growth()


def change_all(folder: Path) -> None:
    """Change every payload, as another process may."""
    with sqlite3.connect(folder / "cache.db") as other:
        other.execute("UPDATE key_value_entries SET payload = 'changed'")
    other.close()


async def test_memory_is_bounded_in_bytes(tmp_path: Path) -> None:
    """The least recently used values are removed first, so that the others fit the bound."""
    async with opened(tmp_path, memory_bytes=100_000) as cache:
        for i in range(200):
            await cache.key_values.put(f"id{i}", "acme", "app", ["x" * 2_000])
            assert await cache.key_values.get("id0", "acme", "app") is not None
        await cache.flush()
        change_all(tmp_path)
        # Unchanged values come from memory. The most recently used are read first, so that a value
        # from the table does not replace a cached one before that is read.
        newest_first = ["id0", *(f"id{i}" for i in range(199, 0, -1))]
        read = [await cache.key_values.get(name, "acme", "app") for name in newest_first]
        cached = read.index("changed")
        assert {"changed"} == set(read[cached:])
        # Each value takes its 2,000 characters and about 550 bytes more.
        assert 100_000 // 3_000 < cached < 100_000 // 2_500


async def test_a_value_too_large_for_memory_replaces_a_small_one(tmp_path: Path) -> None:
    """The old value is removed from memory even if the new one does not fit."""
    async with opened(tmp_path, memory_bytes=2_000) as cache:
        await cache.key_values.put("id", "acme", "app", ["old"])
        await cache.key_values.put("id", "acme", "app", ["n" * 10_000])
        await cache.flush()
        assert payload("n" * 10_000) == await cache.key_values.get("id", "acme", "app")


async def test_a_value_is_kept_for_a_week_and_no_longer(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A change by another process is visible after the time to live, even for a hot key."""
    async with opened(tmp_path) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
        await cache.flush()
        change_all(tmp_path)
        mock_clock.jump(WEEK - 1)
        assert payload("a") == await cache.key_values.get("id", "acme", "app")
        mock_clock.jump(2)
        assert "changed" == await cache.key_values.get("id", "acme", "app")


async def test_one_access_per_interval_is_recorded(tmp_path: Path, mock_clock: MockClock) -> None:
    """A thousand reads within the interval record no access; the first one after it does."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock, touch_interval=60.0) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
        for recorded in range(3):
            for _ in range(1_000):
                await cache.key_values.get("id", "acme", "app")
            assert 1 + recorded == accepted(cache)
            clock.advance(59.9)
            await cache.key_values.get("id", "acme", "app")
            assert 1 + recorded == accepted(cache)
            clock.advance(0.1)
        await cache.flush()
        assert [(NOON + 120 * SECOND, NOON, NOON + 120 * SECOND)] == [
            row[2:] for row in await rows(cache)
        ]


@pytest.mark.parametrize("flushed", [False, True])
async def test_one_access_per_interval_is_recorded_for_a_value_that_is_not_cached(
    tmp_path: Path, mock_clock: MockClock, *, flushed: bool
) -> None:
    """The time of the last access then comes from the buffer or the table."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock, memory_bytes=0, touch_interval=60.0) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
        await cache.flush()
        clock.advance(61)
        for _ in range(10):
            await cache.key_values.get("id", "acme", "app")
            if flushed:
                await cache.flush()
        assert 2 == accepted(cache)


async def test_the_interval_continues_after_a_restart(tmp_path: Path) -> None:
    """An access is not recorded if one was recorded shortly before the restart."""
    clock = FakeClock()
    async with opened(tmp_path, clock, touch_interval=60.0) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
    clock.advance(59)
    async with opened(tmp_path, clock, touch_interval=60.0) as cache:
        await cache.key_values.get("id", "acme", "app")
        assert 0 == accepted(cache)
        clock.advance(1)
        await cache.key_values.get("id", "acme", "app")
        assert 1 == accepted(cache)


async def test_accesses_are_recorded_after_the_clock_is_set_back(tmp_path: Path) -> None:
    """A recorded access in the future does not prevent further ones until that time."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
        clock.advance(-3600)
        await cache.key_values.get("id", "acme", "app")
        assert 2 == accepted(cache)


@pytest.mark.parametrize("put_first", [True, False])
async def test_an_access_does_not_replace_a_pending_value(
    tmp_path: Path, mock_clock: MockClock, *, put_first: bool
) -> None:
    """A put and a recorded access in one batch leave the payload of the put and the later time."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock, touch_interval=0.0) as cache:
        await cache.key_values.put("id", "acme", "app", ["old"])
        await cache.flush()
        for put in (put_first, not put_first):
            clock.advance(1)
            if put:
                await cache.key_values.put("id", "acme", "app", ["new"])
            else:
                await cache.key_values.get("id", "acme", "app")
        await cache.flush()
        last = NOON + 2 * SECOND
        assert [("keyvalue:acme:app:id", payload("new"), last, NOON, last)] == await rows(cache)


async def test_an_access_does_not_insert_a_row(tmp_path: Path) -> None:
    """A read of a cached value does not restore its deleted row."""
    async with opened(tmp_path, touch_interval=0.0) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
        await cache.flush()
        await cache.store.run(delete_all)
        assert payload("a") == await cache.key_values.get("id", "acme", "app")
        await cache.flush()
        assert [] == await rows(cache)


async def test_a_read_does_not_wait_for_capacity_of_the_buffer(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """While the buffer is full, reads succeed and record no access."""
    del mock_clock
    clock = FakeClock()
    async with open_cache(
        tmp_path, options=BY_HAND, buffer_options=BufferOptions(capacity=2), clock=clock
    ) as cache:
        async with writer_held(cache):
            await cache.key_values.put("a", "acme", "app", ["a"])
            await cache.key_values.put("b", "acme", "app", ["b"])
            clock.advance(3600)
            assert payload("a") == await cache.key_values.get("a", "acme", "app")
            assert 2 == accepted(cache)
        await cache.flush()
        await cache.key_values.get("a", "acme", "app")
        assert 3 == accepted(cache)


async def test_a_hundred_concurrent_writers_of_one_key_leave_one_write_and_one_row(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """One row is committed, and the other puts are superseded."""
    del mock_clock
    async with opened(tmp_path) as cache:
        async with trio.open_nursery() as nursery:
            for i in range(100):
                nursery.start_soon(cache.key_values.put, "id", "acme", "app", [str(i)])
        read = await cache.key_values.get("id", "acme", "app")
        await cache.flush()
        assert [read] == [row[1] for row in await rows(cache)]
        buffer = cache.buffers[KEY_VALUE_ENTRIES].statistics()
        assert (100, 1, 99, 1) == (
            buffer.accepted,
            buffer.committed,
            buffer.superseded,
            buffer.flushes,
        )


@pytest.mark.parametrize("capacity", [1, 3, 100])
async def test_memory_and_table_agree_on_the_last_put(tmp_path: Path, capacity: int) -> None:
    """They agree even if many puts of one key wait for capacity at the same time."""
    async with open_cache(
        tmp_path, options=BY_HAND, buffer_options=BufferOptions(capacity=capacity)
    ) as cache:
        for group in range(20):
            async with trio.open_nursery() as nursery:
                # Enough puts for the last ones to be accepted at the same time.
                for i in range(9):
                    nursery.start_soon(cache.key_values.put, "id", "acme", "app", [f"{group} {i}"])
            await cache.flush()
            read = await cache.key_values.get("id", "acme", "app")
            assert [read] == [row[1] for row in await rows(cache)]


async def test_a_put_that_is_cancelled_while_it_waits_stores_nothing(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """`get` does not return a value that the buffer did not accept."""
    del mock_clock
    async with open_cache(
        tmp_path, options=BY_HAND, buffer_options=BufferOptions(capacity=1)
    ) as cache:
        async with writer_held(cache), trio.open_nursery() as nursery:
            await cache.key_values.put("id", "acme", "app", ["old"])
            nursery.start_soon(cache.key_values.put, "id", "acme", "app", ["new"])
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert payload("old") == await cache.key_values.get("id", "acme", "app")
        await cache.key_values.put("id", "acme", "app", ["newer"])
        assert payload("newer") == await cache.key_values.get("id", "acme", "app")


async def test_writes_during_a_flush_are_not_lost(tmp_path: Path, mock_clock: MockClock) -> None:
    """A put while a batch is being flushed is readable at once, and committed by the next batch."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await cache.key_values.put("a", "acme", "app", ["1"])
        await cache.key_values.put("b", "acme", "app", ["1"])
        async with trio.open_nursery() as nursery, writer_held(cache):
            nursery.start_soon(cache.flush)
            await wait_all_tasks_blocked()
            await cache.key_values.put("a", "acme", "app", ["2"])
            await cache.key_values.put("c", "acme", "app", ["2"])
            assert payload("2") == await cache.key_values.get("a", "acme", "app")
        await cache.flush()
        assert [payload("2"), payload("1"), payload("2")] == [row[1] for row in await rows(cache)]


async def test_closing_flushes_the_values(tmp_path: Path, mock_clock: MockClock) -> None:
    """A value that was pending when the cache was closed is read after a restart."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
    async with opened(tmp_path) as cache:
        assert payload("a") == await cache.key_values.get("id", "acme", "app")


async def test_a_flush_can_be_requested(tmp_path: Path, mock_clock: MockClock) -> None:
    """While the clock stands still, nothing is written before `flush`."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await cache.key_values.put("id", "acme", "app", ["a"])
        await wait_all_tasks_blocked()
        assert 1 == cache.statistics().pending
        assert [] == await rows(cache)
        await cache.flush()
        assert 0 == cache.statistics().pending
        assert 1 == len(await rows(cache))


class SlowReads(MemoryStore):
    """A store whose reads wait for `gate`, and then return the rows that they found before."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = 0
        self.gate = trio.Event()

    async def read_rows(self, *args: Any, **kwargs: Any) -> StoredRows:
        self.reading += 1
        rows = await super().read_rows(*args, **kwargs)
        await self.gate.wait()
        return rows


def key_values(buffer: Any, clock: FakeClock, memory_bytes: int = 10_000) -> KeyValueStore:
    return KeyValueStore(
        buffer,
        memory_bytes=memory_bytes,
        time_to_live=60.0,
        touch_interval=60.0,
        clock=clock,
    )


@pytest.mark.parametrize("memory_bytes", [0, 10_000])
async def test_a_read_that_is_slower_than_a_put_does_not_hide_the_put(
    autojump_clock: MockClock, memory_bytes: int
) -> None:
    """The older value that the read returns is not cached."""
    del autojump_clock
    reads = SlowReads()
    async with open_buffers(reads, KEY_VALUE_ENTRIES) as buffers:
        buffer = buffers[KEY_VALUE_ENTRIES]
        await key_values(buffer, FakeClock()).put("id", "acme", "app", ["old"])
        await buffer.flush()
        values = key_values(buffer, FakeClock(), memory_bytes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(values.get, "id", "acme", "app")
            await until(lambda: reads.reading == 1)
            await values.put("id", "acme", "app", ["new"])
            # The put is flushed and removed from memory before the read returns.
            await buffer.flush()
            await values.put("other", "acme", "app", ["x" * 9_000])
            reads.gate.set()
        assert payload("new") == await values.get("id", "acme", "app")


async def test_concurrent_reads_of_a_key_record_one_access(autojump_clock: MockClock) -> None:
    """Concurrent reads of the table see the access that one of them recorded."""
    del autojump_clock
    reads, clock = SlowReads(), FakeClock()
    async with open_buffers(reads, KEY_VALUE_ENTRIES) as buffers:
        buffer = buffers[KEY_VALUE_ENTRIES]
        await key_values(buffer, clock).put("id", "acme", "app", ["value"])
        await buffer.flush()
        clock.advance(3600)
        values = key_values(buffer, clock)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(values.get, "id", "acme", "app")
            await until(lambda: reads.reading == 10)
            reads.gate.set()
        assert 1 + 1 == buffer.statistics().accepted


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_read_leaves_nothing_behind(autojump_clock: MockClock, *, cancelled: bool) -> None:
    """A read that finds nothing, or is cancelled, frees all its memory."""
    del autojump_clock
    reads = SlowReads()
    async with open_buffers(reads, KEY_VALUE_ENTRIES) as buffers:
        values = key_values(buffers[KEY_VALUE_ENTRIES], FakeClock())

        async def read_many(first: int) -> None:
            reads.reading, reads.gate = 0, trio.Event()
            async with trio.open_nursery() as nursery:
                for i in range(first, first + 100):
                    nursery.start_soon(values.get, f"{i}" * 10_000, "acme", "app")
                await until(lambda: reads.reading == 100)
                if cancelled:
                    nursery.cancel_scope.cancel()
                reads.gate.set()

        await read_many(100)
        with traced_memory() as growth:
            await read_many(200)
            assert 100_000 > growth()


@pytest.mark.parametrize("text", ODD_TEXTS)
async def test_any_text_is_an_id_a_handle_and_a_value(tmp_path: Path, text: str) -> None:
    """Any characters are read as they were written, also from the table."""
    async with opened(tmp_path, memory_bytes=0) as cache:
        for names in ((text, "acme", "app"), ("id", text, "app"), ("id", "acme", text)):
            await cache.key_values.put(*names, [text, *names])
            await cache.flush()
            read = await cache.key_values.get(*names)
            assert read is not None
            assert {"entries": [{"value": v} for v in (text, *names)]} == json.loads(read)
        assert 3 == len(await rows(cache))


async def test_no_two_projects_share_a_key(tmp_path: Path) -> None:
    """Keys differ even if the handles contain the separator."""
    names = [("id", "a:b", "c"), ("id", "a", "b:c"), ("c:id", "a", "b"), ("id", "a%3Ab", "c")]
    async with opened(tmp_path) as cache:
        for i, (cas_id, account, project) in enumerate(names):
            await cache.key_values.put(cas_id, account, project, [str(i)])
        await cache.flush()
        assert len(names) == len(await rows(cache))
        for i, (cas_id, account, project) in enumerate(names):
            assert payload(str(i)) == await cache.key_values.get(cas_id, account, project)


@pytest.mark.parametrize(
    ("names", "values", "error", "words"),
    [
        (("", "acme", "app"), [], ValueError, "cas_id must not be empty"),
        (("id", "", "app"), [], ValueError, "account must not be empty"),
        (("id", "acme", ""), [], ValueError, "project must not be empty"),
        (("\ud800", "acme", "app"), [], ValueError, "cas_id .* surrogate pair at position 0"),
        ((b"id", "acme", "app"), [], TypeError, "cas_id must be str, got b'id'"),
        (("id", "acme", "app"), "text", TypeError, "put it in a list"),
        (("id", "acme", "app"), [1], TypeError, "values must be str, got 1"),
        (("id", "acme", "app"), ["\udfff"], ValueError, "values .* surrogate pair"),
    ],
)
async def test_an_invalid_argument_is_refused(
    tmp_path: Path, names: Any, values: Any, error: type[Exception], words: str
) -> None:
    """The error has the name of the argument, and the buffer continues."""
    async with opened(tmp_path) as cache:
        with pytest.raises(error, match=words):
            await cache.key_values.put(names[0], names[1], names[2], values)
        await cache.key_values.put("id", "acme", "app", ["good"])
        await cache.flush()
        assert 1 == len(await rows(cache))
