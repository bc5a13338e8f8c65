"""`CacheArtifacts`: the rows of artifacts agree with their files."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import BufferOptions
from forebay.cache import Cache, CasArtifact, Removal, open_cache
from forebay.cache.tables import CAS_ARTIFACTS
from tests.cache.tools import (
    BY_HAND,
    NOON,
    ODD_TEXTS,
    SECOND,
    FakeClock,
    opened,
    until,
    write_file,
    writer_held,
)
from tests.log_records import own_records


async def rows(cache: Cache) -> list[tuple[Any, ...]]:
    return await cache.store.fetch_all(
        "SELECT key, size_bytes, last_accessed_at, inserted_at, updated_at "
        "FROM cas_artifacts ORDER BY key"
    )


async def keys(cache: Cache) -> list[str]:
    await cache.flush()
    return [row[0] for row in await rows(cache)]


async def test_an_access_records_the_size_of_the_file_and_the_time(tmp_path: Path) -> None:
    """A new row has the file's size in bytes, and three times the current time in microseconds."""
    async with opened(tmp_path) as cache:
        await write_file(cache, "acme/app/a", 123)
        await cache.artifacts.track_access("acme/app/a")
        await cache.flush()
        assert [("acme/app/a", 123, NOON, NOON, NOON)] == await rows(cache)


async def test_an_access_without_a_file_has_no_size(tmp_path: Path) -> None:
    """The size is NULL if the file does not exist, and 0 if it is empty."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access("none")
        await write_file(cache, "empty", 0)
        await cache.artifacts.track_access("empty")
        await cache.flush()
        assert [("empty", 0), ("none", None)] == [row[:2] for row in await rows(cache)]


@pytest.mark.parametrize("size", [2**31, 2**32, 2**32 + 1, 5 * 2**40])
async def test_sizes_may_exceed_32_bits(tmp_path: Path, size: int) -> None:
    """The sizes of artifacts of gigabytes and terabytes are exact."""
    async with opened(tmp_path) as cache:
        for key in ("a", "b"):
            await write_file(cache, key, size)
            await cache.artifacts.track_access(key)
        assert [size, size] == [artifact.size_bytes for artifact in await cache.artifacts.oldest()]
        assert 2 * size == await cache.artifacts.total_bytes()
        assert {"a": size, "b": size} == (await cache.artifacts.delete(["a", "b"])).freed


@pytest.mark.parametrize("flushed", [False, True])
async def test_a_later_access_replaces_size_and_times_but_not_the_insertion(
    tmp_path: Path, mock_clock: MockClock, *, flushed: bool
) -> None:
    """`inserted_at` is the time of the first access; the other columns are of the last one."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        await cache.artifacts.track_access("a")
        if flushed:
            await cache.flush()
        clock.advance(10)
        await write_file(cache, "a", 7)
        await cache.artifacts.track_access("a")
        await cache.flush()
        later = NOON + 10 * SECOND
        assert [("a", 7, later, NOON, later)] == await rows(cache)
        # If the file does not exist any more, the size is NULL.
        cache.files.path("a").unlink()
        await cache.artifacts.track_access("a")
        await cache.flush()
        assert [("a", None, later, NOON, later)] == await rows(cache)


@pytest.mark.parametrize("flushed", [False, True])
async def test_a_clock_that_is_set_back_does_not_make_an_artifact_in_use_the_oldest(
    tmp_path: Path, mock_clock: MockClock, *, flushed: bool
) -> None:
    """The last access never decreases, in the buffer or in the table."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        await cache.artifacts.track_access("cold")
        clock.advance(10)
        await cache.artifacts.track_access("hot")
        if flushed:
            await cache.flush()
        clock.advance(-3600)
        await write_file(cache, "hot", 7)
        await cache.artifacts.track_access("hot")
        assert [("cold", NOON), ("hot", NOON + 10 * SECOND)] == [
            (artifact.key, artifact.last_accessed_at) for artifact in await cache.artifacts.oldest()
        ]
        assert ("hot", 7) == (await rows(cache))[1][:2]
        # A deleted artifact that is used again gets the current time, even an earlier one.
        await cache.artifacts.delete(["hot"])
        await cache.artifacts.track_access("hot")
        assert ["hot", "cold"] == [artifact.key for artifact in await cache.artifacts.oldest()]


async def test_oldest_is_in_the_order_of_last_access(tmp_path: Path, mock_clock: MockClock) -> None:
    """Pending accesses count, and artifacts with the same time are in the order of their keys."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock, touch_interval=0.0) as cache:
        for key in ("c", "b", "a"):
            clock.advance(1)
            await cache.artifacts.track_access(key)
        await cache.flush()
        clock.advance(1)
        for key in ("y", "x", "c"):
            await cache.artifacts.track_access(key)
        assert ["b", "a", "c", "x", "y"] == [a.key for a in await cache.artifacts.oldest()]
        first = await cache.artifacts.oldest(3)
        assert ["b", "a", "c"] == [a.key for a in first]
        assert ["x", "y"] == [a.key for a in await cache.artifacts.oldest(3, after=first[-1])]
        assert (
            CasArtifact("b", None, NOON + 2 * SECOND, NOON + 2 * SECOND, NOON + 2 * SECOND)
            == (first[0])
        )


async def test_oldest_returns_500_by_default(tmp_path: Path) -> None:
    """The default is the size of one batch of an eviction."""
    async with opened(tmp_path) as cache:
        for i in range(501):
            await cache.artifacts.track_access(str(i))
        assert 500 == len(await cache.artifacts.oldest())
        with pytest.raises(ValueError, match="limit must be 1 or more, got -1"):
            await cache.artifacts.oldest(-1)
        with pytest.raises(TypeError, match="limit must be int, got '5' of type str"):
            await cache.artifacts.oldest("5")  # type: ignore[arg-type]  # the wrong type


async def test_eviction_order_is_read_from_an_index(tmp_path: Path) -> None:
    """The oldest artifacts are found without sorting the table."""
    async with opened(tmp_path) as cache:
        plan = await cache.store.fetch_all(
            "EXPLAIN QUERY PLAN SELECT * FROM cas_artifacts WHERE (last_accessed_at, key) > (?, ?) "
            "ORDER BY last_accessed_at, key LIMIT 500",
            (NOON, "a"),
        )
        assert ["SEARCH cas_artifacts USING INDEX cas_artifacts_last_accessed_at"] == [
            line[3].partition(" (")[0] for line in plan
        ]


Step = Callable[[Cache], Awaitable[object]]


async def access(cache: Cache) -> None:
    await cache.artifacts.track_access("a")


async def delete(cache: Cache) -> None:
    await cache.artifacts.delete(["a"])


async def flush(cache: Cache) -> None:
    await cache.flush()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((access, delete), []),
        ((access, flush, delete), []),
        ((delete, access), ["a"]),
        ((delete, flush, access), ["a"]),
        ((access, delete, access), ["a"]),
        ((access, flush, delete, access), ["a"]),
        ((access, delete, flush, access), ["a"]),
        ((access, flush, delete, flush, access), ["a"]),
        ((access, flush, access, delete), []),
        ((access, delete, access, delete), []),
        ((delete, access, delete, flush), []),
    ],
    ids=lambda value: "-".join(getattr(v, "__name__", v) for v in value) or "nothing",
)
async def test_deletes_and_accesses_have_the_effect_of_each_alone_in_order(
    tmp_path: Path, mock_clock: MockClock, steps: Sequence[Step], expected: list[str]
) -> None:
    """The last operation decides, within one batch and across batches."""
    del mock_clock
    async with opened(tmp_path) as cache:
        for step in steps:
            await step(cache)
        assert set(expected) == await cache.artifacts.existing_keys(["a"])
        assert expected == await keys(cache)


async def test_an_access_that_is_deleted_before_the_flush_is_not_written(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The delete supersedes the access."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access("a")
        await cache.artifacts.delete(["a"])
        await cache.flush()
        assert [] == await rows(cache)
        buffer = cache.buffers[CAS_ARTIFACTS].statistics()
        assert (2, 1, 1) == (buffer.accepted, buffer.committed, buffer.superseded)


async def test_an_access_after_a_delete_is_an_insertion(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A key that is deleted and used again in one batch gets a new `inserted_at`."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        await access(cache)
        await cache.flush()
        clock.advance(1)
        await delete(cache)
        await access(cache)
        await cache.flush()
        assert [("a", None, *[NOON + SECOND] * 3)] == await rows(cache)


async def test_a_delete_removes_the_file_and_the_row(tmp_path: Path) -> None:
    """Unknown keys are ignored."""
    async with opened(tmp_path) as cache:
        for key in ("a", "b"):
            await write_file(cache, key, 10)
            await cache.artifacts.track_access(key)
        removal = await cache.artifacts.delete(["a", "unknown"])
        assert Removal(freed={"a": 10, "unknown": 0}, failed={}) == removal
        assert ["b"] == await keys(cache)
        assert not cache.files.path("a").exists()
        assert cache.files.path("b").exists()
        assert Removal({}, {}) == await cache.artifacts.delete([])


async def test_a_file_that_cannot_be_removed_keeps_its_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is skipped with a warning, so the cache still accounts for the file."""
    async with opened(tmp_path) as cache:
        for key in ("stuck", "b"):
            await cache.artifacts.track_access(key)
        cache.files.path("stuck").mkdir(parents=True)
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            removal = await cache.artifacts.delete(["stuck", "b"])
        assert (["b"], ["stuck"]) == (list(removal.freed), list(removal.failed))
        assert ["stuck"] == await keys(cache)
        [record] = own_records(caplog)
        assert "'stuck' cannot be removed and is skipped" in record.getMessage()


async def test_a_file_that_is_written_again_during_its_deletion_has_a_row(tmp_path: Path) -> None:
    """It is tracked after the delete of its old row, which waits for the buffer."""
    small = {"cas_artifacts": BufferOptions(capacity=4)}
    async with open_cache(tmp_path, options=BY_HAND, buffer_overrides=small) as cache:
        await write_file(cache, "a", 10)
        await cache.artifacts.track_access("a")
        await cache.flush()
        async with trio.open_nursery() as nursery, writer_held(cache):
            for key in ("1", "2", "3", "4"):
                await cache.artifacts.track_access(key)
            nursery.start_soon(cache.artifacts.delete, ["a"])
            await until(lambda: cache.buffers[CAS_ARTIFACTS].statistics().waiting == 1)
            await write_file(cache, "a", 20)
            nursery.start_soon(cache.artifacts.track_access, "a")
            await wait_all_tasks_blocked()
        await cache.flush()
        assert ("a", 20) in [row[:2] for row in await rows(cache)]


async def test_delete_project_deletes_the_artifacts_with_its_prefix(tmp_path: Path) -> None:
    """Projects are kept whose handle begins with this one, or differs from it in case."""
    theirs = ["acme/app2/a", "acme/ap/a", "acme/app", "acme/app0", "acmeX/app/a", "ACME/APP/a"]
    ours = ["acme/app/", "acme/app/a", "acme/app/b/c", "acme/app/\U0010ffff"]
    async with opened(tmp_path) as cache:
        for key in theirs + ours:
            await write_file(cache, key, 1)
            await cache.artifacts.track_access(key)
        assert len(ours) == await cache.artifacts.delete_project("acme", "app")
        assert sorted(theirs) == await keys(cache)
        sizes = [await cache.files.size(key) for key in theirs + ours]
        assert [1] * len(theirs) + [None] * len(ours) == sizes
        assert 0 == await cache.artifacts.delete_project("acme", "app")


@pytest.mark.parametrize(
    ("project", "other"),
    [
        ("a_b", "aXb"),
        ("a%", "abc"),
        ("a*", "abc"),
        ("a?", "ab"),
        ("[ab]", "a"),
        ("a\0b", "a\0c"),
        ("a\0", "a"),
        ("a\nb", "a"),
        ("é", "e"),
        ("'; DROP TABLE cas_artifacts; --", "a"),
        ("\U0010ffff", "a"),
    ],
)
async def test_the_handles_of_a_project_are_not_patterns(
    tmp_path: Path, project: str, other: str
) -> None:
    """Characters that are special in LIKE, GLOB, C or SQL are ordinary characters."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access(f"acme/{project}/x")
        await cache.artifacts.track_access(f"acme/{other}/x")
        assert 1 == await cache.artifacts.delete_project("acme", project)
        assert [f"acme/{other}/x"] == await keys(cache)


async def test_all_of_a_large_project_is_deleted(tmp_path: Path) -> None:
    """Batches of 500 continue behind a file that cannot be removed."""
    async with opened(tmp_path) as cache:
        for i in range(1_203):
            await cache.artifacts.track_access(f"acme/app/{i:04}")
        # This is the first key of the second batch, and follows directly on the last of the first.
        await cache.artifacts.track_access("acme/app/0499\0")
        cache.files.path("acme/app/0000").mkdir(parents=True)
        assert 1_203 == await cache.artifacts.delete_project("acme", "app")
        assert ["acme/app/0000"] == await keys(cache)


@pytest.mark.parametrize(
    ("account", "project", "words"),
    [
        ("acme", "a/b", "project 'a/b' has a slash"),
        ("a/b", "app", "account 'a/b' has a slash"),
        ("", "app", "account must not be empty"),
        ("acme", "", "project must not be empty"),
    ],
)
async def test_an_invalid_handle_of_a_project_is_refused(
    tmp_path: Path, account: str, project: str, words: str
) -> None:
    """So a slip deletes neither a part of a project nor all projects."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access("acme/a/b/c")
        with pytest.raises(ValueError, match=words):
            await cache.artifacts.delete_project(account, project)
        assert ["acme/a/b/c"] == await keys(cache)


async def test_existing_keys_takes_a_hundred_thousand(tmp_path: Path) -> None:
    """The number of keys may exceed the limit of parameters of a statement."""
    there = [f"acme/app/{i}" for i in range(0, 100_000, 97)]
    async with opened(tmp_path) as cache:
        for key in there:
            await cache.artifacts.track_access(key)
        found = await cache.artifacts.existing_keys(f"acme/app/{i}" for i in range(100_000))
        assert set(there) == found
        assert set() == await cache.artifacts.existing_keys([])


async def test_existing_keys_sees_pending_accesses_and_deletes(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """They count from the moment they are accepted."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access("a")
        await cache.artifacts.track_access("b")
        assert {"a", "b"} == await cache.artifacts.existing_keys(["a", "b", "c", "a"])
        await cache.artifacts.delete(["a"])
        assert {"b"} == await cache.artifacts.existing_keys(["a", "b", "c"])


async def test_total_bytes_is_the_sum_of_the_known_sizes(tmp_path: Path) -> None:
    """It is 0 for an empty table, and ignores artifacts without a size."""
    async with opened(tmp_path) as cache:
        assert 0 == await cache.artifacts.total_bytes()
        await cache.artifacts.track_access("none")
        assert 0 == await cache.artifacts.total_bytes()
        await write_file(cache, "a", 10)
        await cache.artifacts.track_access("a")
        assert 10 == await cache.artifacts.total_bytes()


@pytest.mark.parametrize("text", ODD_TEXTS)
async def test_any_text_is_a_key(tmp_path: Path, text: str) -> None:
    """Keys of any characters have separate files and rows, and are read as they were written."""
    key = f"acme/app/{text}"
    async with opened(tmp_path) as cache:
        for i, each in enumerate((key, f"{key}x", "acme/app/x", key[:-1] + "/")):
            await write_file(cache, each, i + 1)
            await cache.artifacts.track_access(each)
        found = {a.key: a.size_bytes for a in await cache.artifacts.oldest()}
        assert {key: 1, f"{key}x": 2, "acme/app/x": 3, key[:-1] + "/": 4} == found
        assert {key} == await cache.artifacts.existing_keys([key, f"{key}y"])
        assert {key: 1} == (await cache.artifacts.delete([key])).freed
        assert key not in await keys(cache)
        assert 3 == await cache.artifacts.delete_project("acme", "app")


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        ("", ValueError, "keys? must not be empty"),
        ("a\ud800", ValueError, "surrogate pair at position 1"),
        (b"a", TypeError, "keys? must be str, got b'a' of type bytes"),
        (None, TypeError, "keys? must be str, got None"),
    ],
)
async def test_an_invalid_key_is_refused(
    tmp_path: Path, key: Any, error: type[Exception], words: str
) -> None:
    """The error has the key, the call has no effect, and the buffer continues."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access("good")
        for call in (
            cache.artifacts.track_access(key),
            cache.artifacts.delete(["good", key]),
            cache.artifacts.existing_keys(["good", key]),
        ):
            with pytest.raises(error, match=words):
                await call
        assert ["good"] == await keys(cache)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("good", "keys must be texts, not the single text 'good'; put it in a list"),
        (7, "keys must be texts, got 7 of type int"),
        (None, "keys must be texts, got None of type NoneType"),
    ],
)
async def test_a_single_text_is_refused_in_place_of_a_collection(
    tmp_path: Path, given: Any, words: str
) -> None:
    """It is not read as a collection of characters."""
    async with opened(tmp_path) as cache:
        for key in ("good", "g", "o", "d"):
            await cache.artifacts.track_access(key)
        for call in (
            cache.artifacts.delete(given),
            cache.artifacts.existing_keys(given),
            cache.files.remove(given),
        ):
            with pytest.raises(TypeError, match=f"^{words}$"):
                await call
        assert ["d", "g", "good", "o"] == await keys(cache)


async def test_closing_flushes_the_accesses(tmp_path: Path, mock_clock: MockClock) -> None:
    """Pending accesses are in the table after a restart."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access("a")
    async with opened(tmp_path) as cache:
        assert ["a"] == await keys(cache)
