"""`CacheArtifacts.store` and `reading`: the content, row and file of an artifact are one."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tracemalloc
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from forebay import BufferOptions
from forebay.cache import (
    Artifact,
    ArtifactReader,
    ArtifactStatistics,
    Cache,
    DigestMismatchError,
    SizeMismatchError,
    open_cache,
)
from forebay.cache.tables import CAS_ARTIFACTS
from tests.cache.tools import (
    BY_HAND,
    NOON,
    SECOND,
    FakeClock,
    content_of,
    opened,
    pieces,
    sha256,
    until,
    writer_held,
)

SMALL = b"content"
LARGE = os.urandom(200_000)


def partial_files(directory: Path) -> list[Path]:
    return list((directory / "artifacts" / "partial").iterdir())


@pytest.mark.parametrize("content", [b"", SMALL, LARGE[:65_535], LARGE[:65_536], LARGE])
@pytest.mark.parametrize("flushed", [False, True])
async def test_what_is_stored_is_read_with_its_digest_and_metadata(
    tmp_path: Path, content: bytes, *, flushed: bool
) -> None:
    """At once, before the flush, and after a restart."""
    clock = FakeClock()
    tags = {"x-artifact-tag": "séal", "content-type": "application/octet-stream"}
    expected = Artifact("a", len(content), sha256(content), tags, NOON)
    async with opened(tmp_path, clock) as cache:
        stored = await cache.artifacts.store(
            "a", pieces(content), size=len(content), sha256=sha256(content).upper(), metadata=tags
        )
        assert expected == stored
        if flushed:
            await cache.flush()
        assert expected == await cache.artifacts.find("a")
        assert content == await content_of(cache, "a")
    async with opened(tmp_path, clock) as cache:
        assert expected == await cache.artifacts.find("a")
        assert content == await content_of(cache, "a")
        assert content == cache.files.path("a").read_bytes()


@pytest.mark.parametrize("content", [b"", LARGE[:4096], LARGE[:65_535]])
async def test_a_small_artifact_is_stored_and_opened_by_one_call_of_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """A hop to a thread is what limits how many requests a server answers."""
    run_sync = trio.to_thread.run_sync
    calls: list[str] = []

    async def counting(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        calls.append(repr(call))
        return await run_sync(call, *arguments, **options)

    options = BufferOptions(flush_interval=3600)
    async with open_cache(tmp_path, options=BY_HAND, buffer_options=options) as cache:
        monkeypatch.setattr(trio.to_thread, "run_sync", counting)
        await cache.artifacts.store("a", pieces(content), size=len(content))
        assert 1 == len(calls), calls
        assert content == await content_of(cache, "a")
        assert 2 == len(calls), calls
        async with cache.artifacts.reading("b") as missing:
            assert missing is None
        assert 3 == len(calls), calls


@pytest.mark.parametrize("chunks", [SMALL, bytearray(SMALL), memoryview(SMALL)])
async def test_the_content_may_be_in_one_piece(tmp_path: Path, chunks: Any) -> None:
    """Bytes of any kind are taken as they are."""
    async with opened(tmp_path) as cache:
        assert sha256(SMALL) == (await cache.artifacts.store("a", chunks)).sha256
        assert SMALL == await content_of(cache, "a")


async def test_a_key_that_was_never_stored_is_not_found(tmp_path: Path) -> None:
    """There is no reader, and no artifact."""
    async with opened(tmp_path) as cache:
        assert await content_of(cache, "a") is None
        assert await cache.artifacts.find("a") is None


@pytest.mark.parametrize("size", [0, 199_999, 200_001, 2**40])
async def test_an_upload_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    """Nothing is stored, and the artifact of this key stays as it was."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.store("a", SMALL)
        with pytest.raises(SizeMismatchError) as caught:
            await cache.artifacts.store("a", pieces(LARGE), size=size)
        assert ("a", size) == (caught.value.key, caught.value.expected)
        assert SMALL == await content_of(cache, "a")
        assert [] == partial_files(tmp_path)


async def test_an_upload_that_is_too_long_is_not_read_to_its_end(tmp_path: Path) -> None:
    """The first chunk that exceeds the size ends it."""
    read: list[int] = []

    async def endless() -> AsyncGenerator[bytes, None]:
        while True:
            read.append(10)
            yield bytes(10)

    async with opened(tmp_path) as cache:
        with pytest.raises(SizeMismatchError) as caught:
            await cache.artifacts.store("a", endless(), size=25)
        assert 30 == sum(read) == caught.value.received


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_an_upload_with_another_digest_is_refused(tmp_path: Path, content: bytes) -> None:
    """Nothing is stored."""
    async with opened(tmp_path) as cache:
        with pytest.raises(DigestMismatchError) as caught:
            await cache.artifacts.store("a", pieces(content), sha256=sha256(b"other"))
        assert (sha256(b"other"), sha256(content)) == (caught.value.expected, caught.value.received)
        assert await cache.artifacts.find("a") is None
        assert [] == partial_files(tmp_path)


@pytest.mark.parametrize(
    ("count", "size"), [(60_000, 1), (320, 65_000), (20, 1_000_000)], ids=["tiny", "usual", "large"]
)
async def test_an_upload_needs_little_memory(tmp_path: Path, count: int, size: int) -> None:
    """Whatever its length is, and whatever the length of its chunks is."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        for _ in range(count):
            yield bytes(size)

    async with opened(tmp_path) as cache:
        tracemalloc.start()
        try:
            await cache.artifacts.store("a", chunks(), size=count * size)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 500_000 + 3 * size


class UploadError(Exception):
    pass


@pytest.mark.parametrize("content", [SMALL, LARGE])
async def test_an_upload_that_breaks_off_stores_nothing(tmp_path: Path, content: bytes) -> None:
    """The error of the chunks is raised unchanged."""

    async def broken() -> AsyncGenerator[bytes, None]:
        yield content
        raise UploadError

    async with opened(tmp_path) as cache:
        with pytest.raises(UploadError):
            await cache.artifacts.store("a", broken())
        await cache.flush()
        assert await content_of(cache, "a") is None
        assert [] == partial_files(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"key": ""}, ValueError),
        ({"key": 7}, TypeError),
        ({"chunks": "text"}, TypeError),
        ({"chunks": [b"a"]}, TypeError),
        ({"size": -1}, ValueError),
        ({"size": 1.0}, TypeError),
        ({"sha256": "abc"}, ValueError),
        ({"sha256": bytes(32)}, TypeError),
        ({"metadata": {"a": 1}}, TypeError),
        ({"metadata": {"a": "\ud800"}}, ValueError),
        ({"metadata": "text"}, TypeError),
    ],
)
async def test_invalid_arguments_are_refused(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception]
) -> None:
    """Nothing is stored."""
    async with opened(tmp_path) as cache:
        with pytest.raises(error):
            await cache.artifacts.store(**{"key": "a", "chunks": SMALL, **arguments})
        assert await cache.artifacts.find("a") is None


async def test_a_chunk_that_is_not_bytes_is_refused(tmp_path: Path) -> None:
    """A number would otherwise be taken for as many zeros."""

    async def numbers() -> AsyncGenerator[Any, None]:
        yield 7

    async with opened(tmp_path) as cache:
        with pytest.raises(TypeError):
            await cache.artifacts.store("a", numbers())


async def test_a_reader_keeps_its_content_while_the_artifact_changes(tmp_path: Path) -> None:
    """The file stays as it was when it was opened."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.store("a", LARGE)
        async with cache.artifacts.reading("a") as reader:
            assert reader is not None
            await cache.artifacts.store("a", SMALL)
            await cache.artifacts.delete(["a"])
            assert LARGE == reader.file.read()
        assert reader.file.closed


async def test_the_statistics_count_hits_misses_and_uploads(tmp_path: Path) -> None:
    """With their bytes."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.store("a", SMALL)
        await content_of(cache, "a")
        await content_of(cache, "a")
        await content_of(cache, "b")
        assert (
            ArtifactStatistics(
                hits=2, misses=1, hit_bytes=2 * len(SMALL), stored=1, stored_bytes=len(SMALL)
            )
            == cache.artifacts.statistics()
        )


async def accepted(cache: Cache) -> int:
    return cache.buffers[CAS_ARTIFACTS].statistics().accepted


async def test_accesses_within_the_touch_interval_are_not_recorded(tmp_path: Path) -> None:
    """A thousand reads of one artifact make one entry."""
    clock = FakeClock()
    async with opened(tmp_path, clock, touch_interval=60.0) as cache:
        await cache.artifacts.store("a", SMALL)
        before = await accepted(cache)
        clock.advance(61)
        for _ in range(1_000):
            assert await content_of(cache, "a") is not None
        await cache.artifacts.track_access("a")
        await cache.artifacts.find("a")
        assert 1 == await accepted(cache) - before
        [artifact] = await cache.artifacts.oldest()
        assert NOON + 61 * SECOND == artifact.last_accessed_at
        assert sha256(SMALL) == artifact.sha256


@pytest.mark.parametrize("known", [1, 100], ids=["from the database", "from memory"])
@pytest.mark.parametrize("call", ["reading", "find", "track_access", "track_access with a size"])
async def test_a_read_never_waits_for_a_write(tmp_path: Path, call: str, known: int) -> None:
    """While the buffer is full, the access is not recorded."""
    clock = FakeClock()
    small = {"cas_artifacts": BufferOptions(capacity=4)}
    options = replace(BY_HAND, known_artifacts=known)
    async with open_cache(tmp_path, options=options, buffer_overrides=small, clock=clock) as cache:
        calls: dict[str, Callable[[], Any]] = {
            "reading": lambda: content_of(cache, "a"),
            "find": lambda: cache.artifacts.find("a"),
            "track_access": lambda: cache.artifacts.track_access("a"),
            "track_access with a size": lambda: cache.artifacts.track_access("a", size=len(SMALL)),
        }
        await cache.artifacts.store("a", SMALL)
        await cache.flush()
        async with writer_held(cache):
            for key in ("1", "2", "3", "4"):
                await cache.artifacts.track_access(key)
            for _ in range(20):
                clock.advance(1_000)
                with trio.fail_after(20):
                    await calls[call]()
            assert 4 == cache.buffers[CAS_ARTIFACTS].statistics().pending


async def test_track_access_asks_the_file_system_only_without_a_size(tmp_path: Path) -> None:
    """With a size, the row is written although there is no file."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.track_access("a", size=7)
        assert [("a", 7)] == [row[:2] for row in await cache.artifacts.oldest()]


async def test_an_access_keeps_the_digest_of_an_artifact_and_another_file_does_not(
    tmp_path: Path,
) -> None:
    """A file that was written by other means has no digest, even if its size is the same."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.store("a", b"first", metadata={"tag": "1"})
        await cache.artifacts.track_access("a")
        found = await cache.artifacts.find("a")
        assert found is not None
        assert ({"tag": "1"}, sha256(b"first")) == (found.metadata, found.sha256)
        async with cache.files.writing("a") as path:
            path.write_bytes(b"other")
        assert await cache.artifacts.find("a") is None
        await cache.artifacts.track_access("a")
        assert Artifact("a", 5) == await cache.artifacts.find("a")
        assert Artifact("a", 5) == await cache.artifacts.find("a")


async def test_a_file_without_its_row_is_not_found(tmp_path: Path) -> None:
    """Nothing is known of its content."""
    async with opened(tmp_path) as cache:
        async with cache.files.writing("a") as path:
            path.write_bytes(SMALL)
        assert await cache.artifacts.find("a") is None


@pytest.mark.parametrize(
    ("content", "found"), [(SMALL, SMALL), (b"altered", None), (b"short", None), (LARGE, None)]
)
async def test_a_file_with_another_time_is_found_if_it_has_the_digest(
    tmp_path: Path, content: bytes, found: bytes | None
) -> None:
    """A folder may be copied without the times of its files. Other content is never served."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.store("a", SMALL)
    async with opened(tmp_path) as cache:
        cache.files.path("a").write_bytes(content)
        for _ in range(2):
            assert found == await content_of(cache, "a")


async def test_a_deleted_artifact_is_not_found(tmp_path: Path) -> None:
    """Neither before the flush nor after it, and it can be stored again."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.store("a", SMALL)
        await cache.artifacts.delete(["a"])
        assert await content_of(cache, "a") is None
        await cache.flush()
        assert await content_of(cache, "a") is None
        await cache.artifacts.store("a", LARGE)
        assert LARGE == await content_of(cache, "a")


async def test_writers_of_one_key_leave_one_complete_upload(tmp_path: Path) -> None:
    """The bytes that are read at any time are those of one upload, with its digest."""
    contents = [os.urandom(size) for size in (7, 7, 100_000, 100_000, 200_000, 65_536)]
    seen: list[bytes | None] = []

    async with opened(tmp_path) as cache:
        await cache.artifacts.store("a", contents[0])

        async def write(content: bytes) -> None:
            for _ in range(10):
                await cache.artifacts.store("a", pieces(content))

        async def read() -> None:
            while cache.artifacts.statistics().stored < 61:
                seen.append(await content_of(cache, "a"))

        async with trio.open_nursery() as nursery:
            for content in contents:
                nursery.start_soon(write, content)
            nursery.start_soon(read)
        # A reader that opened the old file when the new row was accepted finds nothing.
        assert {content for content in seen if content is not None} <= set(contents)
        last = await content_of(cache, "a")
        assert last in contents
    async with opened(tmp_path) as cache:
        assert last == await content_of(cache, "a")


async def test_after_uploads_of_one_key_at_the_same_time_there_is_one(tmp_path: Path) -> None:
    """Its row is the one of its file, in whatever order the threads have worked."""
    contents = [os.urandom(60_000), b"x"]  # the second one is written faster
    async with opened(tmp_path) as cache:
        for _ in range(100):
            async with trio.open_nursery() as nursery:
                for content in contents:
                    nursery.start_soon(cache.artifacts.store, "a", content)
            assert await content_of(cache, "a") in contents


async def test_a_full_buffer_delays_an_upload_and_a_cancellation_leaves_the_old_one(
    tmp_path: Path,
) -> None:
    """Nothing is stored before the row is accepted."""
    small = {"cas_artifacts": BufferOptions(capacity=4)}
    async with open_cache(tmp_path, options=BY_HAND, buffer_overrides=small) as cache:
        await cache.artifacts.store("a", SMALL)
        await cache.flush()
        async with writer_held(cache):
            for key in ("1", "2", "3", "4"):
                await cache.artifacts.track_access(key)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cache.artifacts.store, "a", LARGE)
                await until(lambda: cache.buffers[CAS_ARTIFACTS].statistics().waiting == 1)
                assert SMALL == await content_of(cache, "a")
                nursery.cancel_scope.cancel()
        assert SMALL == await content_of(cache, "a")
        assert [] == partial_files(tmp_path)
    async with opened(tmp_path) as cache:
        assert SMALL == await content_of(cache, "a")


async def test_a_project_is_deleted_while_nothing_can_be_written(tmp_path: Path) -> None:
    """What was stored a moment ago too, and within the timeout although the buffer is full."""
    small = {"cas_artifacts": BufferOptions(capacity=4)}
    async with open_cache(tmp_path, options=BY_HAND, buffer_overrides=small) as cache:
        await cache.artifacts.store("acme/app/committed", SMALL)
        await cache.flush()
        async with writer_held(cache):
            for key in ("acme/app/pending", "acme/other/a", "other/app/a", "acme/app2/a"):
                await cache.artifacts.store(key, SMALL)
            with trio.fail_after(20):
                assert 2 == await cache.artifacts.delete_project("acme", "app", flush_timeout=0.1)
            assert await content_of(cache, "acme/app/committed") is None
            assert await content_of(cache, "acme/app/pending") is None
            assert SMALL == await content_of(cache, "acme/app2/a")
        await cache.flush()
        # The deletes of the rows found no capacity. It is safe to repeat.
        await cache.artifacts.delete_project("acme", "app")
        keys = {artifact.key for artifact in await cache.artifacts.oldest()}
        assert {"acme/other/a", "other/app/a", "acme/app2/a"} == keys


async def test_stores_are_refused_once_the_cache_is_closed(tmp_path: Path) -> None:
    """An upload that is still being received then stores nothing."""
    resume = trio.Event()

    async def slow() -> AsyncGenerator[bytes, None]:
        await resume.wait()
        yield SMALL

    async with trio.open_nursery() as nursery:

        async def store(cache: Cache) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await cache.artifacts.store("a", slow())

        async with opened(tmp_path) as cache:
            nursery.start_soon(store, cache)
            await trio.testing.wait_all_tasks_blocked()
        resume.set()
    for call in (cache.artifacts.store("a", SMALL), cache.artifacts.find("a")):
        with pytest.raises(trio.ClosedResourceError):
            await call
    with pytest.raises(trio.ClosedResourceError):
        async with cache.artifacts.reading("a"):
            raise AssertionError
    assert [] == partial_files(tmp_path)


@pytest.mark.parametrize("content", [b"", SMALL, LARGE[:65_537], LARGE])
async def test_an_artifact_is_read_in_chunks(tmp_path: Path, content: bytes) -> None:
    """Each reading begins at the start, whatever was read before; a chunk is not empty."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.store("a", content)
        async with cache.artifacts.reading("a") as reader:
            assert reader is not None
            for _ in range(2):
                chunks = [chunk async for chunk in reader.chunks()]
                assert content == b"".join(chunks)
                assert all(0 < len(chunk) <= 131_072 for chunk in chunks)
                reader.file.seek(1)


async def test_the_chunks_of_a_file_that_became_shorter_end_in_an_error(tmp_path: Path) -> None:
    """A server that sends them does not take what is left for the whole."""
    async with opened(tmp_path) as cache:
        await cache.artifacts.store("a", LARGE)
        async with cache.artifacts.reading("a") as reader:
            assert reader is not None
            async with aclosing(reader.chunks()) as chunks:
                assert LARGE[:131_072] == await anext(chunks)
                os.truncate(cache.files.path("a"), len(LARGE) - 1)
                with pytest.raises(OSError, match="'a'"):
                    await anext(chunks)


OLD_SCHEMA = """
CREATE TABLE cas_artifacts (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    size_bytes INTEGER,
    last_accessed_at INTEGER NOT NULL,
    inserted_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
INSERT INTO cas_artifacts VALUES (1, 'old', 3, 5, 5, 5);
"""


async def test_a_cache_of_an_earlier_version_opens_and_works(tmp_path: Path) -> None:
    """Its artifacts have no digest until they are stored again."""
    async with opened(tmp_path):
        pass
    (tmp_path / "cache.db").unlink()
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
        connection.executescript(OLD_SCHEMA)
    name = hashlib.sha256(b"old").hexdigest()
    (tmp_path / "artifacts" / name[:2]).mkdir()
    (tmp_path / "artifacts" / name[:2] / name).write_bytes(b"old")
    for _ in range(2):
        async with opened(tmp_path) as cache:
            assert Artifact("old", 3) == await cache.artifacts.find("old")
            async with cache.artifacts.reading("old") as reader:
                assert isinstance(reader, ArtifactReader)
                assert b"old" == reader.content == reader.file.read()
            assert {"old"} == await cache.artifacts.existing_keys(["old"])
    async with opened(tmp_path) as cache:
        await cache.artifacts.store("old", SMALL, metadata={"tag": "1"})
    async with opened(tmp_path) as cache:
        assert SMALL == await content_of(cache, "old")
