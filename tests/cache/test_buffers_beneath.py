"""The promises of the buffers hold for each of the three stores."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import BufferOptions, RetryPolicy
from forebay.cache import Cache, open_cache
from tests.cache.tools import BY_HAND, opened, until

TABLES = ("key_value_entries", "cas_artifacts", "s3_transfers")


async def write(cache: Cache, table: str, name: str) -> None:
    """Write one row to a table by means of its store."""
    if table == "key_value_entries":
        await cache.key_values.put(name, "acme", "app", [name])
    elif table == "cas_artifacts":
        await cache.artifacts.track_access(name)
    else:
        await cache.transfers.enqueue_upload("acme", "app", "cas", name)


async def names(cache: Cache, table: str) -> list[str]:
    rows = await cache.store.fetch_all(f"SELECT key FROM {table} ORDER BY key")  # noqa: S608  # a constant
    return [key.removeprefix("keyvalue:acme:app:") for (key,) in rows]


@pytest.mark.parametrize("table", TABLES)
async def test_a_flush_can_be_requested(tmp_path: Path, mock_clock: MockClock, table: str) -> None:
    """While the clock stands still, nothing is written before `flush`."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await write(cache, table, "a")
        await wait_all_tasks_blocked()
        assert ([], 1) == (await names(cache, table), cache.statistics().pending)
        await cache.flush()
        assert (["a"], 0) == (await names(cache, table), cache.statistics().pending)


@pytest.mark.parametrize("table", TABLES)
async def test_a_hundred_concurrent_writers_of_one_key_leave_one_row(
    tmp_path: Path, mock_clock: MockClock, table: str
) -> None:
    """They are coalesced into one write, in each table."""
    del mock_clock
    async with opened(tmp_path, touch_interval=0.0) as cache:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(write, cache, table, "a")
        await cache.flush()
        buffer = cache.statistics().buffers[table]
        assert ["a"] == await names(cache, table)
        assert (100, 100, 1) == (
            buffer.accepted,
            buffer.committed + buffer.superseded,
            buffer.flushes,
        )
        assert buffer.committed <= 2  # the first access of an artifact, and the last one


@pytest.mark.parametrize("table", TABLES)
async def test_a_refused_row_is_isolated(tmp_path: Path, mock_clock: MockClock, table: str) -> None:
    """It becomes a dead letter, and the rest of the batch is committed."""
    del mock_clock

    def refuse(raw: sqlite3.Connection) -> None:
        raw.execute(
            f"CREATE TRIGGER refused BEFORE INSERT ON {table} WHEN NEW.key LIKE '%bad' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )

    async with opened(tmp_path) as cache:
        await cache.store.run(refuse)
        for name in ("a", "bad", "c"):
            await write(cache, table, name)
        await cache.flush()
        buffer = cache.statistics().buffers[table]
        assert ["a", "c"] == await names(cache, table)
        assert (2, 1, 0) == (buffer.committed, buffer.dead_lettered, buffer.pending)


@pytest.mark.parametrize("table", TABLES)
async def test_a_full_batch_is_written_at_once(
    tmp_path: Path, mock_clock: MockClock, table: str
) -> None:
    """It is flushed because of its size, even with an infinite interval."""
    del mock_clock
    options = BufferOptions(flush_interval=math.inf, batch_size=10)
    async with open_cache(tmp_path, options=BY_HAND, buffer_options=options) as cache:
        for i in range(25):
            await write(cache, table, f"k{i:02}")
        await until(lambda: cache.statistics().buffers[table].committed >= 20)
        await wait_all_tasks_blocked()
        left = cache.statistics().pending
        assert left < 10
        assert 25 - left == len(await names(cache, table))


@pytest.mark.parametrize("table", TABLES)
async def test_a_flush_that_fails_is_counted_as_a_retry(tmp_path: Path, table: str) -> None:
    """While the database is locked, nothing is committed and `flush` does not return."""
    impatient = BufferOptions(retry=RetryPolicy(initial_delay=0.001, max_delay=0.01))
    async with open_cache(tmp_path, options=BY_HAND, buffer_options=impatient) as cache:
        other = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await write(cache, table, "a")
        done: list[str] = []

        async def flush() -> None:
            await cache.flush()
            done.append("flushed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flush)
            await until(lambda: cache.statistics().buffers[table].retries > 5)
            buffer = cache.statistics().buffers[table]
            assert (0, 0, 1) == (buffer.flushes, buffer.committed, buffer.pending)
            assert [] == done
            other.execute("ROLLBACK")
            other.close()
        buffer = cache.statistics().buffers[table]
        assert (1, 1, 0) == (buffer.flushes, buffer.committed, buffer.pending)
        assert ["flushed"] == done


async def test_a_delete_and_an_insert_of_its_key_are_one_transaction(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A reader never sees the queue without the key, or with the key twice."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await write(cache, "s3_transfers", "a")
        [old] = await cache.transfers.pending("upload", 1)
        await cache.transfers.delete([old.id])
        await write(cache, "s3_transfers", "a")
        seen: set[tuple[str, ...]] = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.flush)
            while cache.statistics().pending:
                seen.add(tuple(await names(cache, "s3_transfers")))
        assert {("a",)} == seen
        assert ["a"] == await names(cache, "s3_transfers")
