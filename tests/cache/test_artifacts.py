"""`CacheArtifacts`: what is known of each artifact agrees with its file."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from forebay.cache import ArtifactFiles, Cache, CacheArtifacts, CasArtifact, Removal
from forebay.cache._workers import CloseGuard
from forebay.cache.tables import CAS_ARTIFACTS, S3_TRANSFERS
from tests.cache.tools import NOON, ODD_TEXTS, SECOND, FakeClock, opened, write_file


async def rows(cache: Cache) -> list[tuple[Any, ...]]:
    return await cache.store.fetch_all(
        "SELECT key, size_bytes, last_accessed_at, inserted_at, updated_at "
        "FROM cas_artifacts ORDER BY key"
    )


async def keys(cache: Cache) -> list[str]:
    await cache.flush()
    return [row[0] for row in await rows(cache)]


async def test_an_access_notes_the_size_of_the_file_and_the_time(tmp_path: Path) -> None:
    """A row has the file's size in bytes, and the time in microseconds UTC, three times."""
    async with opened(tmp_path) as cache:
        await write_file(cache, "acme/app/a", 123)
        await cache.artifacts.track_access("acme/app/a")
        await cache.flush()
        assert [("acme/app/a", 123, NOON, NOON, NOON)] == await rows(cache)


async def test_an_access_without_a_file_has_no_size(tmp_path: Path) -> None:
    """The size is NULL where there is no file to be seen, and 0 where it is empty."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access("none")
        await write_file(cache, "empty", 0)
        await cache.artifacts.track_access("empty")
        await cache.flush()
        assert [("empty", 0), ("none", None)] == [row[:2] for row in await rows(cache)]


@pytest.mark.parametrize("size", [2**31, 2**32, 2**32 + 1, 5 * 2**40])
async def test_sizes_past_32_bits_are_whole(tmp_path: Path, size: int) -> None:
    """Artifacts of gigabytes and terabytes have the size that they have."""
    async with opened(tmp_path) as cache:
        for key in ("a", "b"):
            await write_file(cache, key, size)
            await cache.artifacts.track_access(key)
        assert [size, size] == [artifact.size_bytes for artifact in await cache.artifacts.oldest()]
        assert 2 * size == await cache.artifacts.total_bytes()
        assert {"a": size, "b": size} == (await cache.artifacts.delete(["a", "b"])).freed


@pytest.mark.parametrize("flushed", [False, True])
async def test_a_later_access_replaces_size_and_times_but_keeps_the_insertion(
    tmp_path: Path, mock_clock: MockClock, *, flushed: bool
) -> None:
    """`inserted_at` is the first access's; size, last access and update are the last one's."""
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
        # And a file that is gone leaves no size behind.
        cache.files.path("a").unlink()
        await cache.artifacts.track_access("a")
        await cache.flush()
        assert [("a", None, later, NOON, later)] == await rows(cache)


@pytest.mark.parametrize("flushed", [False, True])
async def test_a_clock_set_back_makes_no_artifact_in_use_the_oldest(
    tmp_path: Path, mock_clock: MockClock, *, flushed: bool
) -> None:
    """The last access never goes back, in the buffer or in the table."""
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
        # What was deleted is new again, at whatever time it is.
        await cache.artifacts.delete(["hot"])
        await cache.artifacts.track_access("hot")
        assert ["hot", "cold"] == [artifact.key for artifact in await cache.artifacts.oldest()]


async def test_oldest_is_in_the_order_of_last_access(tmp_path: Path, mock_clock: MockClock) -> None:
    """The least recently used come first; what was not flushed yet counts; ties go by key."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
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


async def test_oldest_gives_500_unless_told(tmp_path: Path) -> None:
    """The default is one batch of an eviction."""
    async with opened(tmp_path) as cache:
        for i in range(501):
            await cache.artifacts.track_access(str(i))
        assert 500 == len(await cache.artifacts.oldest())
        with pytest.raises(ValueError, match="limit must be 1 or more, got -1"):
            await cache.artifacts.oldest(-1)
        with pytest.raises(TypeError, match="limit must be int, got '5' of type str"):
            await cache.artifacts.oldest("5")  # type: ignore[arg-type]  # the point


async def test_eviction_order_is_read_from_an_index(tmp_path: Path) -> None:
    """However large the table, the oldest are found without sorting it."""
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
async def test_deletes_and_accesses_end_as_if_each_had_been_alone(
    tmp_path: Path, mock_clock: MockClock, steps: Sequence[Step], expected: list[str]
) -> None:
    """In one batch and across batches, the last of them decides."""
    del mock_clock
    async with opened(tmp_path) as cache:
        for step in steps:
            await step(cache)
        assert set(expected) == await cache.artifacts.existing_keys(["a"])
        assert expected == await keys(cache)


async def test_write_then_delete_leaves_nothing(tmp_path: Path, mock_clock: MockClock) -> None:
    """An access that is deleted before it was flushed is written nowhere."""
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
    """A key that was deleted and used again in one batch does not keep its first insertion."""
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
    """What is deleted is gone from the disk; keys that are not there are no error."""
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
    """It is skipped with a warning, so that nobody forgets what is on the disk."""
    async with opened(tmp_path) as cache:
        for key in ("stuck", "b"):
            await cache.artifacts.track_access(key)
        cache.files.path("stuck").mkdir(parents=True)
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            removal = await cache.artifacts.delete(["stuck", "b"])
        assert (["b"], ["stuck"]) == (list(removal.freed), list(removal.failed))
        assert ["stuck"] == await keys(cache)
        [record] = caplog.records
        assert "'stuck' cannot be removed and is skipped" in record.getMessage()


class WrittenMeanwhile(ArtifactFiles):
    """Files of which some come back right after they were removed."""

    comes_back: Callable[[], Awaitable[None]]

    async def remove(self, keys: Iterable[str]) -> Removal:
        removal = await super().remove(keys)
        await self.comes_back()
        return removal


async def test_a_file_that_comes_back_during_its_deletion_is_not_forgotten(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A file written and tracked between its removal and the delete of its row has a row."""
    del mock_clock
    async with opened(tmp_path) as cache:
        files = WrittenMeanwhile(tmp_path / "artifacts")
        artifacts = CacheArtifacts(
            cache.store,
            cache.buffers[CAS_ARTIFACTS],
            cache.buffers[S3_TRANSFERS],
            files,
            clock=FakeClock(),
            guard=CloseGuard(),
        )

        async def come_back() -> None:
            await write_file(cache, "a", 20)
            await cache.artifacts.track_access("a")

        files.comes_back = come_back
        await write_file(cache, "a", 10)
        await cache.artifacts.track_access("a")
        await artifacts.delete(["a", "b"])
        await cache.flush()
        assert [("a", 20)] == [row[:2] for row in await rows(cache)]


async def test_a_project_is_deleted_by_its_prefix_and_no_other(tmp_path: Path) -> None:
    """Projects of which one name begins with another's, or matches it as a pattern, are safe."""
    theirs = ["acme/app2/a", "acme/ap/a", "acme/app", "acme/app0", "acmeX/app/a", "ACME/APP/a"]
    ours = ["acme/app/", "acme/app/a", "acme/app/b/c", "acme/app/\U0010ffff"]
    async with opened(tmp_path) as cache:
        for key in theirs + ours:
            await write_file(cache, key, 1)
            await cache.artifacts.track_access(key)
        assert len(ours) == await cache.artifacts.delete_project("acme", "app")
        assert sorted(theirs) == await keys(cache)
        sizes = await cache.files.sizes(theirs + ours)
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
async def test_the_handles_of_a_project_are_no_pattern(
    tmp_path: Path, project: str, other: str
) -> None:
    """Characters that mean something to LIKE, GLOB, C or SQL mean themselves."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access(f"acme/{project}/x")
        await cache.artifacts.track_access(f"acme/{other}/x")
        assert 1 == await cache.artifacts.delete_project("acme", project)
        assert [f"acme/{other}/x"] == await keys(cache)


async def test_a_project_larger_than_a_batch_is_deleted_whole(tmp_path: Path) -> None:
    """Batches of 500 go on behind a file that cannot be removed."""
    async with opened(tmp_path) as cache:
        for i in range(1_203):
            await cache.artifacts.track_access(f"acme/app/{i:04}")
        # The first of the second batch, next to the last of the first in every way.
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
async def test_a_prefix_that_is_no_project_is_refused(
    tmp_path: Path, account: str, project: str, words: str
) -> None:
    """Nobody deletes a part of a project, or all of them, by a slip."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access("acme/a/b/c")
        with pytest.raises(ValueError, match=words):
            await cache.artifacts.delete_project(account, project)
        assert ["acme/a/b/c"] == await keys(cache)


async def test_existing_keys_takes_a_hundred_thousand(tmp_path: Path) -> None:
    """More keys than a statement may have parameters are no error, and none is missed."""
    there = [f"acme/app/{i}" for i in range(0, 100_000, 97)]
    async with opened(tmp_path) as cache:
        for key in there:
            await cache.artifacts.track_access(key)
        found = await cache.artifacts.existing_keys(f"acme/app/{i}" for i in range(100_000))
        assert set(there) == found
        assert set() == await cache.artifacts.existing_keys([])


async def test_existing_keys_sees_what_is_not_flushed(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Accesses and deletes count from the moment they are accepted."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access("a")
        await cache.artifacts.track_access("b")
        assert {"a", "b"} == await cache.artifacts.existing_keys(["a", "b", "c", "a"])
        await cache.artifacts.delete(["a"])
        assert {"b"} == await cache.artifacts.existing_keys(["a", "b", "c"])


async def test_total_bytes_is_the_sum_of_the_sizes_that_are_known(tmp_path: Path) -> None:
    """It is 0 of nothing, and passes over artifacts without a size."""
    async with opened(tmp_path) as cache:
        assert 0 == await cache.artifacts.total_bytes()
        await cache.artifacts.track_access("none")
        assert 0 == await cache.artifacts.total_bytes()
        await write_file(cache, "a", 10)
        await cache.artifacts.track_access("a")
        assert 10 == await cache.artifacts.total_bytes()


@pytest.mark.parametrize("text", ODD_TEXTS)
async def test_any_text_is_a_key(tmp_path: Path, text: str) -> None:
    """Keys of any characters have a file and a row of their own, and come back as they were."""
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
async def test_what_is_no_key_is_refused_to_the_caller_alone(
    tmp_path: Path, key: Any, error: type[Exception], words: str
) -> None:
    """A bad key is named where it enters; nothing of the call is done, and the buffer goes on."""
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
async def test_one_text_is_not_taken_for_many(tmp_path: Path, given: Any, words: str) -> None:
    """A single key where many are meant is refused, not taken apart into characters."""
    async with opened(tmp_path) as cache:
        for key in ("good", "g", "o", "d"):
            await cache.artifacts.track_access(key)
        for call in (
            cache.artifacts.delete(given),
            cache.artifacts.existing_keys(given),
            cache.files.remove(given),
            cache.files.sizes(given),
        ):
            with pytest.raises(TypeError, match=f"^{words}$"):
                await call
        assert ["d", "g", "good", "o"] == await keys(cache)


async def test_stopping_flushes_the_accesses(tmp_path: Path, mock_clock: MockClock) -> None:
    """Accesses that wait for their flush are in the table after a restart."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access("a")
    async with opened(tmp_path) as cache:
        assert ["a"] == await keys(cache)
