"""`KeyValueEvictor`: values that were not used for long are deleted, then those over the budget."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import OptionsError
from forebay.cache import Cache, CacheOptions, EvictorStatistics
from forebay.cache.tables import KEY_VALUE_ENTRIES
from tests.cache.tools import FakeClock, opened, until
from tests.log_records import own_records

DAY = 24 * 3600.0


async def put(cache: Cache, clock: FakeClock, *names: str, size: int = 100) -> None:
    """Put a value of this size under each name, a second after the one before."""
    for name in names:
        clock.advance(1)
        await cache.key_values.put_bytes(name, "acme", "app", bytes(size))


async def present(cache: Cache, names: Sequence[str]) -> list[str]:
    """Return the names that have a value, which is read from the table."""
    prefix = "keyvalue:acme:app:"
    await cache.flush()
    rows = await cache.store.fetch_all("SELECT key FROM key_value_entries")
    stored = {key.removeprefix(prefix) for (key,) in rows}
    assert stored <= set(names)
    found = [name for name in names if await cache.key_values.get_bytes(name, "acme", "app")]
    assert sorted(stored) == sorted(found)
    return found


@pytest.mark.parametrize("memory_bytes", [0, 10**6])
async def test_a_value_is_deleted_once_it_was_not_used_for_the_maximum_age(
    tmp_path: Path, memory_bytes: int
) -> None:
    """A read counts as a use. The default is 30 days."""
    assert 30 * DAY == CacheOptions().key_value_max_age
    clock = FakeClock()
    async with opened(tmp_path, clock, memory_bytes=memory_bytes) as cache:
        await put(cache, clock, "a", "b", "c")
        clock.advance(29 * DAY)
        assert EvictorStatistics(runs=1) == await cache.key_value_evictor.run_once()
        assert await cache.key_values.get_bytes("b", "acme", "app") is not None
        clock.advance(DAY + 1)
        done = await cache.key_value_evictor.run_once()
        assert EvictorStatistics(runs=1, removed=2, freed_bytes=200) == done
        assert ["b"] == await present(cache, ["a", "b", "c"])
        assert done + EvictorStatistics(runs=1) == cache.statistics().key_value_evictor


async def test_values_without_a_maximum_age_stay(tmp_path: Path) -> None:
    """With infinity only the budget counts, and by default there is none."""
    clock = FakeClock()
    async with opened(tmp_path, clock, key_value_max_age=math.inf) as cache:
        await put(cache, clock, "a")
        clock.advance(1_000 * DAY)
        assert EvictorStatistics(runs=1) == await cache.key_value_evictor.run_once()
        assert ["a"] == await present(cache, ["a"])


async def test_values_over_the_budget_are_deleted_down_to_the_target(tmp_path: Path) -> None:
    """Nothing is deleted below the high watermark, and then until the target is reached."""
    clock = FakeClock()
    names = [f"v{i:02}" for i in range(10)]
    options: dict[str, Any] = {
        "key_value_budget_bytes": 1_000,
        "high_watermark": 0.9,
        "target": 0.5,
    }
    async with opened(tmp_path, clock, **options) as cache:
        await put(cache, clock, *names[:8])
        assert EvictorStatistics(runs=1) == await cache.key_value_evictor.run_once()
        await put(cache, clock, names[8])
        # The oldest value is used, so that it is not the first to go.
        clock.advance(100)
        assert await cache.key_values.get_bytes(names[0], "acme", "app") is not None
        done = await cache.key_value_evictor.run_once()
        assert EvictorStatistics(runs=1, evictions=1, removed=4, freed_bytes=400) == done
        kept = [names[0], *names[5:9]]
        assert kept == await present(cache, names)
        await put(cache, clock, names[9])
        assert EvictorStatistics(runs=1) == await cache.key_value_evictor.run_once()


async def test_age_and_size_are_counted_once(tmp_path: Path) -> None:
    """What was deleted for its age counts towards the target, while its delete is pending too."""
    clock = FakeClock()
    options: dict[str, Any] = {
        "key_value_budget_bytes": 1_000,
        "high_watermark": 0.9,
        "target": 0.5,
    }
    names = [f"v{i}" for i in range(15)]
    async with opened(tmp_path, clock, **options) as cache:
        await put(cache, clock, *names[:5])
        clock.advance(31 * DAY)
        await put(cache, clock, *names[5:13])
        done = await cache.key_value_evictor.run_once()
        assert EvictorStatistics(runs=1, removed=5, freed_bytes=500) == done
        await put(cache, clock, *names[13:])
        done = await cache.key_value_evictor.run_once()
        assert EvictorStatistics(runs=1, evictions=1, removed=5, freed_bytes=500) == done
        assert names[10:] == await present(cache, names)


async def test_many_values_are_deleted_in_batches(tmp_path: Path) -> None:
    """More values than one batch has, many of them with the same time."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        for i in range(1_203):
            await cache.key_values.put_bytes(f"v{i}", "acme", "app", b"x")
        clock.advance(31 * DAY)
        await put(cache, clock, "new")
        done = await cache.key_value_evictor.run_once()
        assert (1_203, 1_203) == (done.removed, done.freed_bytes)
        assert ["new"] == await present(cache, ["new"])


@pytest.mark.parametrize("memory_bytes", [0, 10**6])
@pytest.mark.parametrize("how", ["put", "get"])
async def test_a_value_that_is_used_while_it_is_evicted_stays(
    tmp_path: Path, memory_bytes: int, how: str
) -> None:
    """Whatever the order of the tasks: a put that has returned is not lost."""
    clock = FakeClock()
    names = [f"v{i}" for i in range(600)]
    async with opened(tmp_path, clock, memory_bytes=memory_bytes) as cache:
        await put(cache, clock, *names)
        clock.advance(31 * DAY)
        kept: list[str] = []

        async def use() -> None:
            for name in reversed(names):
                if cache.key_value_evictor.statistics().runs:
                    return
                if how == "put":
                    await cache.key_values.put_bytes(name, "acme", "app", b"new")
                elif await cache.key_values.get_bytes(name, "acme", "app") is None:
                    return
                kept.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.key_value_evictor.run_once)
            await use()
        assert kept
        assert set(kept) <= set(await present(cache, names))


async def test_nothing_is_evicted_while_the_database_is_locked(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Pending accesses are not known then. The next run evicts."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        await put(cache, clock, "old")
        await cache.flush()
        clock.advance(31 * DAY)
        other = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await put(cache, clock, "old")
        done: list[EvictorStatistics] = []

        async def run() -> None:
            done.append(await cache.key_value_evictor.run_once())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)

            def ended() -> bool:
                mock_clock.jump(0.3)
                return bool(done)

            await until(ended)
        assert [EvictorStatistics(runs=1)] == done
        assert logging.WARNING in {record.levelno for record in own_records(caplog)}
        other.rollback()
        other.close()
        mock_clock.rate = 1.0
        assert ["old"] == await present(cache, ["old"])


async def test_the_evictor_runs_at_every_interval(tmp_path: Path, mock_clock: MockClock) -> None:
    """It is one of the cache's workers."""
    clock = FakeClock()
    async with opened(tmp_path, clock, eviction_interval=60.0, memory_bytes=0) as cache:
        await put(cache, clock, "a")
        await until(lambda: cache.statistics().key_value_evictor.runs == 1)
        await cache.flush()
        clock.advance(31 * DAY)
        assert 0 == cache.statistics().key_value_evictor.removed
        await wait_all_tasks_blocked()
        mock_clock.jump(60)
        await until(lambda: cache.statistics().key_value_evictor.runs == 2)
        assert 1 == cache.statistics().key_value_evictor.removed
    with pytest.raises(trio.ClosedResourceError):
        await cache.key_value_evictor.run_once()


@pytest.mark.parametrize("changes", [{"key_value_max_age": 60.0}, {"touch_interval": 30 * DAY}])
def test_a_maximum_age_within_the_touch_interval_is_refused(changes: dict[str, Any]) -> None:
    """Reads would not keep a value."""
    with pytest.raises(OptionsError, match=r"^key_value_max_age = "):
        CacheOptions(**changes)


async def test_the_order_of_eviction_is_an_index(tmp_path: Path) -> None:
    """Neither the order nor the total size reads the payloads."""
    async with opened(tmp_path) as cache:
        assert "key_value_entries" == KEY_VALUE_ENTRIES.name
        for query in (
            "SELECT SUM(size_bytes) FROM key_value_entries",
            """
            SELECT key, size_bytes, last_accessed_at FROM key_value_entries
            WHERE (last_accessed_at, key) > (1, 'a') ORDER BY last_accessed_at, key LIMIT 5
            """,
        ):
            plan = await cache.store.fetch_all(f"EXPLAIN QUERY PLAN {query}")
            assert len(plan) == 1
            assert "COVERING INDEX" in str(plan)
