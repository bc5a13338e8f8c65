"""`KeyValueStore`: bytes, deletes, and values with a time of their own."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import BufferOptions
from forebay.cache import open_cache
from forebay.cache._entries import entry_key
from tests.cache.test_key_values import change_all, payload
from tests.cache.tools import BY_HAND, NOON, SECOND, FakeClock, opened, writer_held

KEY = ("id", "acme", "app")


@pytest.mark.parametrize("memory_bytes", [0, 100_000])
@pytest.mark.parametrize("value", [b"", b"\0\xff\xfe", "é".encode(), b"x" * 10_000, b'{"a":1}'])
async def test_bytes_are_returned_unchanged(
    tmp_path: Path, value: bytes, memory_bytes: int
) -> None:
    """Before the flush, after it, and after a restart. They are no list of values."""
    async with opened(tmp_path, memory_bytes=memory_bytes) as cache:
        await cache.key_values.put_bytes(*KEY, value)
        assert value == await cache.key_values.get_bytes(*KEY)
        await cache.flush()
        assert value == await cache.key_values.get_bytes(*KEY)
        assert await cache.key_values.get(*KEY) is None
    async with opened(tmp_path, memory_bytes=memory_bytes) as cache:
        assert value == await cache.key_values.get_bytes(*KEY)
        assert await cache.key_values.get(*KEY) is None
        assert await cache.key_values.get_bytes("other", "acme", "app") is None


async def test_the_last_put_of_either_kind_counts(tmp_path: Path) -> None:
    """A list replaces bytes, and bytes replace a list. A list is read as bytes, too."""
    async with opened(tmp_path) as cache:
        for _ in range(2):
            await cache.key_values.put_bytes(*KEY, b"x")
            assert b"x" == await cache.key_values.get_bytes(*KEY)
            await cache.key_values.put(*KEY, ["é"])
            assert payload("é") == await cache.key_values.get(*KEY)
            assert payload("é").encode() == await cache.key_values.get_bytes(*KEY)
            await cache.flush()


async def test_the_table_has_the_size_of_each_value(tmp_path: Path) -> None:
    """In bytes, not in characters."""
    async with opened(tmp_path) as cache:
        await cache.key_values.put_bytes("bytes", "acme", "app", b"\0\0\0")
        await cache.key_values.put("list", "acme", "app", ["é"])
        await cache.flush()
        query = "SELECT key, size_bytes FROM key_value_entries ORDER BY key"
        expected = [
            ("keyvalue:acme:app:bytes", 3),
            ("keyvalue:acme:app:list", len(payload("é").encode())),
        ]
        assert expected == await cache.store.fetch_all(query)


@pytest.mark.parametrize("value", ["text", None, 1, bytearray(b"x"), memoryview(b"x"), [b"x"]])
async def test_only_bytes_are_bytes(tmp_path: Path, value: Any) -> None:
    """What could change later, or is of another type, is refused."""
    async with opened(tmp_path) as cache:
        with pytest.raises(TypeError, match=r"^value must be bytes, got "):
            await cache.key_values.put_bytes(*KEY, value)
        assert await cache.key_values.get_bytes(*KEY) is None


@pytest.mark.parametrize("memory_bytes", [0, 100_000])
@pytest.mark.parametrize("flushed", [False, True])
async def test_a_deleted_value_is_not_read_any_more(
    tmp_path: Path, mock_clock: MockClock, memory_bytes: int, flushed: bool
) -> None:
    """Neither from memory nor from the table, from the moment that `delete` returns."""
    del mock_clock
    async with opened(tmp_path, memory_bytes=memory_bytes) as cache:
        await cache.key_values.put(*KEY, ["a"])
        await cache.key_values.put("kept", "acme", "app", ["a"])
        if flushed:
            await cache.flush()
        await cache.key_values.delete(*KEY)
        assert await cache.key_values.get(*KEY) is None
        assert await cache.key_values.get_bytes(*KEY) is None
        await cache.flush()
        assert await cache.key_values.get(*KEY) is None
        assert payload("a") == await cache.key_values.get("kept", "acme", "app")
        await cache.key_values.put(*KEY, ["b"])
        assert payload("b") == await cache.key_values.get(*KEY)
    async with opened(tmp_path, memory_bytes=memory_bytes) as cache:
        assert payload("b") == await cache.key_values.get(*KEY)


async def test_a_delete_of_an_unknown_key_does_nothing(tmp_path: Path) -> None:
    """The names are checked as for `put`."""
    async with opened(tmp_path) as cache:
        await cache.key_values.delete(*KEY)
        with pytest.raises(ValueError, match=r"^cas_id must not be empty"):
            await cache.key_values.delete("", "acme", "app")


async def test_a_read_that_began_before_a_delete_does_not_cache_its_value(tmp_path: Path) -> None:
    """The read may return it, but later reads do not."""
    async with opened(tmp_path) as cache:
        await cache.key_values.put(*KEY, ["a"])
    async with opened(tmp_path) as cache:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.key_values.get, *KEY)
            nursery.start_soon(cache.key_values.delete, *KEY)
        assert await cache.key_values.get(*KEY) is None


async def test_an_older_value_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    """`written_at` decides, in whatever order the values arrive."""
    async with opened(tmp_path) as cache:
        assert await cache.key_values.put(*KEY, ["2"], written_at=NOON + 2)
        assert not await cache.key_values.put(*KEY, ["1"], written_at=NOON + 1)
        assert not await cache.key_values.put_bytes(*KEY, b"1", written_at=0)
        assert payload("2") == await cache.key_values.get(*KEY)
        assert await cache.key_values.put(*KEY, ["3"], written_at=NOON + 3)
        assert payload("3") == await cache.key_values.get(*KEY)
        assert await cache.key_values.put(*KEY, ["3 again"], written_at=NOON + 3)
        assert payload("3 again") == await cache.key_values.get(*KEY)


@pytest.mark.parametrize("memory_bytes", [0, 100_000])
@pytest.mark.parametrize("flushed", [False, True])
async def test_the_time_of_a_value_is_its_own(
    tmp_path: Path, mock_clock: MockClock, memory_bytes: int, flushed: bool
) -> None:
    """It is not that of an access. A put without a time has the current one, and always counts."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock, memory_bytes=memory_bytes, touch_interval=0.0) as cache:
        assert await cache.key_values.put(*KEY, ["a"], written_at=NOON - 10 * SECOND)
        clock.advance(60)
        assert payload("a") == await cache.key_values.get(*KEY)
        if flushed:
            await cache.flush()
        assert await cache.key_values.put(*KEY, ["b"], written_at=NOON - 9 * SECOND)
        assert await cache.key_values.put(*KEY, ["c"])
        if flushed:
            await cache.flush()
        assert not await cache.key_values.put(*KEY, ["d"], written_at=clock.now - 1)
        clock.advance(-120)
        assert await cache.key_values.put(*KEY, ["e"])
        assert payload("e") == await cache.key_values.get(*KEY)


async def test_of_many_concurrent_puts_the_latest_stays(tmp_path: Path) -> None:
    """Each compares itself with what was accepted before it."""
    async with opened(tmp_path, memory_bytes=0) as cache:

        async def put(number: int) -> None:
            await cache.key_values.put(*KEY, [str(number)], written_at=NOON + number)

        async with trio.open_nursery() as nursery:
            for number in (3, 9, 1, 7, 5, 2, 8):
                nursery.start_soon(put, number)
        assert payload("9") == await cache.key_values.get(*KEY)
        await cache.flush()
        assert payload("9") == await cache.key_values.get(*KEY)


@pytest.mark.parametrize(
    ("written_at", "error"),
    [("1", TypeError), (1.0, TypeError), (True, TypeError), (-1, ValueError), (2**63, ValueError)],
)
async def test_an_invalid_time_is_refused(
    tmp_path: Path, written_at: Any, error: type[Exception]
) -> None:
    """Nothing is stored."""
    async with opened(tmp_path) as cache:
        with pytest.raises(error, match=r"^written_at must be"):
            await cache.key_values.put(*KEY, ["a"], written_at=written_at)
        assert await cache.key_values.get(*KEY) is None


async def test_a_cancelled_delete_deletes_nothing(tmp_path: Path) -> None:
    """It waits while the buffer is full; the value stays, in memory too."""
    small = {"key_value_entries": BufferOptions(capacity=2)}
    async with open_cache(tmp_path, options=BY_HAND, buffer_overrides=small) as cache:
        await cache.key_values.put(*KEY, ["a"])
        await cache.flush()
        async with writer_held(cache):
            for name in ("b", "c"):
                await cache.key_values.put(name, "acme", "app", [])
            with trio.move_on_after(0.05) as waited:
                await cache.key_values.delete(*KEY)
            assert waited.cancelled_caught
            assert payload("a") == await cache.key_values.get(*KEY)
    async with opened(tmp_path) as cache:
        assert payload("a") == await cache.key_values.get(*KEY)


async def test_a_value_that_is_used_while_its_delete_waits_stays(tmp_path: Path) -> None:
    """An evictor chose it before; the buffer was full until after it was read."""
    small = {"key_value_entries": BufferOptions(capacity=2)}
    deleted: list[bool] = []
    async with open_cache(tmp_path, options=BY_HAND, buffer_overrides=small) as cache:
        await cache.key_values.put(*KEY, ["a"])
        await cache.flush()
        with cache.key_values.noting_use() as used:

            async def delete() -> None:
                deleted.append(await cache.key_values.delete_unused(entry_key(*KEY), used))

            async with trio.open_nursery() as nursery, writer_held(cache):
                for name in ("b", "c"):
                    await cache.key_values.put(name, "acme", "app", [])
                nursery.start_soon(delete)
                await wait_all_tasks_blocked()
                assert payload("a") == await cache.key_values.get(*KEY)
                assert [] == deleted
        await cache.flush()
        assert [False] == deleted
        assert payload("a") == await cache.key_values.get(*KEY)
    async with opened(tmp_path) as cache:
        assert payload("a") == await cache.key_values.get(*KEY)


async def test_a_change_by_another_process_does_not_revive_a_deleted_value(tmp_path: Path) -> None:
    """A delete leaves no trace in memory, so the table decides from then on."""
    async with opened(tmp_path) as cache:
        await cache.key_values.put(*KEY, ["a"])
        await cache.key_values.delete(*KEY)
        await cache.key_values.put(*KEY, ["b"])
        await cache.key_values.delete(*KEY)
        await cache.flush()
        change_all(tmp_path)
        assert await cache.key_values.get(*KEY) is None
        with sqlite3.connect(tmp_path / "cache.db") as other:
            assert (0,) == other.execute("SELECT COUNT(*) FROM key_value_entries").fetchone()
        other.close()
