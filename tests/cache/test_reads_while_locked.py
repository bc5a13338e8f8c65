"""Reads while another process has locked the database: they use the committed rows."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay.cache import Cache
from tests.cache.tools import opened, write_file

OLD, NEW = "acme/app/old", "acme/app/new"


async def use(cache: Cache, key: str, size: int) -> None:
    await write_file(cache, key, size)
    await cache.artifacts.track_access(key)
    await cache.transfers.enqueue_upload("acme", "app", "cas", key)


@asynccontextmanager
async def locked(folder: Path) -> AsyncGenerator[tuple[Cache, Callable[[], None]], None]:
    """Open a cache with one artifact committed and one pending, and lock its database.

    Yields the cache, and a function that releases the lock.
    """
    async with opened(folder) as cache:
        await use(cache, OLD, 10)
        await cache.flush()
        other = sqlite3.connect(folder / "cache.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            await use(cache, NEW, 5)
            yield cache, other.rollback
        finally:
            other.close()


Call = Callable[..., Awaitable[Any]]


async def oldest(cache: Cache, **timeout: Any) -> object:
    return [artifact.key for artifact in await cache.artifacts.oldest(**timeout)]


async def total_bytes(cache: Cache, **timeout: Any) -> object:
    return await cache.artifacts.total_bytes(**timeout)


async def pending(cache: Cache, **timeout: Any) -> object:
    return [each.key for each in await cache.transfers.pending("upload", 10, **timeout)]


async def delete_project(cache: Cache, **timeout: Any) -> object:
    return await cache.artifacts.delete_project("acme", "app", **timeout)


CALLS: list[tuple[Call, object, object]] = [
    (oldest, [OLD], [NEW, OLD]),  # both have one time, so they are in the order of their keys
    (total_bytes, 10, 15),
    (pending, [OLD], [OLD, NEW]),
    (delete_project, 2, 2),  # it knows what was tracked a moment ago
]
CALL_IDS = [call.__name__ for call, _, _ in CALLS]


@pytest.mark.parametrize(("call", "committed", "everything"), CALLS, ids=CALL_IDS)
async def test_a_read_uses_the_committed_rows_after_a_second(
    tmp_path: Path, mock_clock: MockClock, call: Call, committed: object, everything: object
) -> None:
    """The default of `flush_timeout` is 1.0. Until it has passed, the read waits for the flush."""
    del everything
    mock_clock.rate = 1.0
    async with locked(tmp_path) as (cache, release):
        answers: list[object] = []

        async def read() -> None:
            answers.append(await call(cache))

        mock_clock.rate = 0.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked(0.01)
            mock_clock.jump(0.9)
            await wait_all_tasks_blocked(0.01)
            assert [] == answers
            mock_clock.jump(0.11)
        assert [committed] == answers
        mock_clock.rate = 1.0  # the drain may back off once more
        release()


@pytest.mark.parametrize("seconds", [0, 0.01])
@pytest.mark.parametrize(("call", "committed", "everything"), CALLS, ids=CALL_IDS)
async def test_the_timeout_is_an_argument(
    tmp_path: Path, call: Call, committed: object, everything: object, seconds: float
) -> None:
    """After the lock is released, the same call sees everything that was accepted."""
    async with locked(tmp_path) as (cache, release):
        with trio.fail_after(20):
            assert committed == await call(cache, flush_timeout=seconds)
        release()
        if call is delete_project:  # both are deleted already
            assert 0 == await call(cache)
            assert set() == await cache.artifacts.existing_keys([OLD, NEW])
        else:
            assert everything == await call(cache)


@pytest.mark.parametrize(("call", "committed", "everything"), CALLS, ids=CALL_IDS)
async def test_with_an_infinite_timeout_a_read_waits_for_the_lock(
    tmp_path: Path, call: Call, committed: object, everything: object
) -> None:
    """The answer then has everything that was accepted."""
    del committed
    async with locked(tmp_path) as (cache, release):
        answers: list[object] = []

        async def read() -> None:
            answers.append(await call(cache, flush_timeout=math.inf))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked(0.2)
            assert [] == answers
            release()
        assert [everything] == answers


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (-1, ValueError, "must be 0 or more, got -1"),
        (math.nan, ValueError, "must be 0 or more, got nan"),
        ("1", TypeError, "must be a number, got '1' of type str"),
        (None, TypeError, "must be a number, got None of type NoneType"),
        (True, TypeError, "must be a number, got True of type bool"),
    ],
)
@pytest.mark.parametrize("call", [call for call, _, _ in CALLS])
async def test_an_invalid_timeout_is_refused(
    tmp_path: Path, call: Call, given: Any, error: type[Exception], words: str
) -> None:
    """The error has the name of the argument and the value."""
    async with opened(tmp_path) as cache:
        with pytest.raises(error, match=f"^flush_timeout {words}$"):
            await call(cache, flush_timeout=given)


async def test_keys_that_exist_are_known_while_the_database_is_locked(tmp_path: Path) -> None:
    """`existing_keys` needs no flush: pending accesses and deletes count at once."""
    async with locked(tmp_path) as (cache, _release):
        assert {OLD, NEW} == await cache.artifacts.existing_keys([OLD, NEW])
