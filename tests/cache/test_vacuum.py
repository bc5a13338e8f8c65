"""`DatabaseVacuum`: the database file shrinks after rows were deleted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from forebay.cache import Cache
from tests.cache.tools import opened
from tests.waiting import wait_until_async

COUNT = 2_000

PAGE = 4_096
"""SQLite's default page size, in bytes."""


async def fill(cache: Cache) -> None:
    for i in range(COUNT):
        await cache.artifacts.track_access(f"{i:0500}", size=1)
    await cache.flush()


async def delete_most(cache: Cache) -> None:
    await cache.artifacts.delete(f"{i:0500}" for i in range(COUNT) if i % 20)
    await cache.flush()
    await cache.store.checkpoint()


async def pages(cache: Cache) -> tuple[int, int]:
    """Return the number of all pages, and of the free ones."""
    [row] = await cache.store.fetch_all("SELECT * FROM pragma_page_count, pragma_freelist_count")
    return row[0], row[1]


def file_size(directory: Path) -> int:
    return (directory / "cache.db").stat().st_size


async def test_the_file_shrinks_to_what_is_in_use(tmp_path: Path) -> None:
    """Within its time, in transactions that lose no row."""
    async with opened(tmp_path) as cache:
        await fill(cache)
        await delete_most(cache)
        before = file_size(tmp_path)
        freed = await cache.vacuum.run_once(60)
        assert freed > 1_000_000
        assert file_size(tmp_path) <= before - freed
        count, free = await pages(cache)
        assert free <= 0.1 * count
        assert 0 == await cache.vacuum.run_once(60)
        left = [f"{i:0500}" for i in range(0, COUNT, 20)]
        assert set(left) == await cache.artifacts.existing_keys(left)
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()


async def test_a_file_that_is_mostly_used_stays_as_it_is(tmp_path: Path) -> None:
    """Rows that are added later need the free pages."""
    async with opened(tmp_path) as cache:
        await fill(cache)
        await cache.artifacts.delete(f"{i:0500}" for i in range(COUNT // 10))
        await cache.flush()
        _, free = await pages(cache)
        assert 0 < free
        assert 0 == await cache.vacuum.run_once(60)


async def test_a_run_without_time_frees_nothing(tmp_path: Path) -> None:
    """It begins no transaction after its time."""
    async with opened(tmp_path) as cache:
        await fill(cache)
        await delete_most(cache)
        assert 0 == await cache.vacuum.run_once(0)


async def test_a_run_waits_for_a_lock_no_longer_than_its_time(tmp_path: Path) -> None:
    """It frees the pages when the lock is released."""
    async with opened(tmp_path) as cache:
        await fill(cache)
        await delete_most(cache)
        other = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with trio.fail_after(20):
            assert 0 == await cache.vacuum.run_once(0.1)
        other.execute("ROLLBACK")
        other.close()
        assert 0 < await cache.vacuum.run_once(60)


async def test_the_worker_shrinks_the_file(tmp_path: Path) -> None:
    """At every interval of the evictors, until the cache is closed."""
    async with opened(tmp_path, eviction_interval=0.05) as cache:
        await fill(cache)
        full, _ = await pages(cache)
        await delete_most(cache)

        def size() -> int:
            return file_size(tmp_path)

        await wait_until_async(lambda: size() < full / 2 * PAGE, "half the file is gone", size)
        assert (await pages(cache))[0] < full / 2


async def test_a_database_of_an_earlier_version_keeps_its_size(tmp_path: Path) -> None:
    """It opens, and its pages are not freed before it was rebuilt."""
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
        connection.execute("CREATE TABLE other (a)")
    async with opened(tmp_path) as cache:
        await fill(cache)
        await delete_most(cache)
        assert 0 == await cache.vacuum.run_once(60)
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
        connection.execute("PRAGMA auto_vacuum = incremental")
        connection.execute("VACUUM")
    async with opened(tmp_path) as cache:
        await fill(cache)
        await delete_most(cache)
        assert 0 < await cache.vacuum.run_once(60)


@pytest.mark.parametrize(("given", "error"), [(-1, ValueError), ("1", TypeError)])
async def test_an_invalid_time_is_refused(
    tmp_path: Path, given: Any, error: type[Exception]
) -> None:
    """And so is a call after the cache was closed."""
    async with opened(tmp_path) as cache:
        with pytest.raises(error):
            await cache.vacuum.run_once(given)
    with pytest.raises(trio.ClosedResourceError):
        await cache.vacuum.run_once()
