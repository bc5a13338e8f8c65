"""An artifact that is not here is fetched from the object storage, once for all readers."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import RetryPolicy
from forebay.cache import (
    ArtifactKey,
    Cache,
    RateLimitedError,
    ReadThroughStatistics,
    S3Transfer,
    TransferType,
    UnavailableError,
)
from forebay.cache.object_storage import ObjectInfo
from tests.cache.tools import FakeStorage, opened, until
from tests.log_records import own_records

NAME = ArtifactKey("acme", "app", "cas", "ab/x")


async def read(cache: Cache, name: ArtifactKey = NAME) -> bytes | None:
    async with cache.reading_artifact(name) as reader:
        return None if reader is None else reader.content


async def test_an_artifact_of_another_cache_is_served(tmp_path: Path) -> None:
    """With its metadata. It is here from then on, and is not uploaded again."""
    storage = FakeStorage()
    async with opened(tmp_path / "one", storage=storage) as one:
        await one.store_artifact(NAME, b"content", metadata={"tag": "é"})
        assert one.transfer_worker is not None
        await one.transfer_worker.run_once()
    storage.calls.clear()
    async with opened(tmp_path / "two", storage=storage) as two:
        async with two.reading_artifact(NAME) as reader:
            assert reader is not None
            assert (b"content", {"tag": "é"}) == (reader.content, reader.artifact.metadata)
        assert b"content" == await read(two)
        assert ["exists", "download"] == [call for call, _, _ in storage.calls]
        assert ReadThroughStatistics(fetched=1) == two.statistics().read_through
        await two.store_artifact(NAME, b"content")
        assert [] == await two.transfers.pending("upload", 1)
        assert (2, 1) == (two.statistics().artifacts.hits, two.statistics().artifacts.misses)
    async with opened(tmp_path / "two", storage=storage) as two:
        assert b"content" == await read(two)
        assert 2 == len(storage.calls)


async def test_the_storage_gets_the_parts_of_the_key(tmp_path: Path) -> None:
    """Account, project, kind and key, for both questions."""
    asked: list[S3Transfer] = []

    class Asked(FakeStorage):
        async def exists(self, transfer: S3Transfer) -> bool:
            asked.append(transfer)
            return await super().exists(transfer)

    async with opened(tmp_path, storage=Asked()) as cache:
        assert await read(cache) is None
        assert ReadThroughStatistics(missing=1) == cache.statistics().read_through
    [transfer] = asked
    expected = (TransferType.DOWNLOAD, "acme", "app", "cas", str(NAME))
    assert expected == transfer[1:6]


async def test_without_a_storage_a_miss_is_a_miss(tmp_path: Path) -> None:
    """Nobody is asked."""
    async with opened(tmp_path) as cache:
        assert await read(cache) is None
        assert cache.statistics().read_through is None


async def test_readers_of_one_key_share_a_fetch(tmp_path: Path) -> None:
    """A hundred readers miss at once; the object is downloaded once. Other keys do not wait."""
    storage = FakeStorage()
    storage.objects = {str(NAME): b"content"}
    storage.stop()
    found: list[bytes | None] = []
    async with opened(tmp_path, storage=storage) as cache:

        async def reader() -> None:
            found.append(await read(cache))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(reader)
            nursery.start_soon(read, cache, ArtifactKey("acme", "app", "cas", "other"))
            await until(lambda: storage.running == 2)
            storage.gate.set()
    assert [b"content"] * 100 == found
    assert 1 == sum(call == "download" for call, _, _ in storage.calls)
    assert 1 == storage.keys.count(str(NAME)) - 1


async def test_a_cancelled_reader_does_not_end_the_fetch_of_others(tmp_path: Path) -> None:
    """The next one that waits fetches it."""
    storage = FakeStorage()
    storage.objects = {str(NAME): b"content"}
    storage.stop()
    found: list[bytes | None] = []
    async with opened(tmp_path, storage=storage) as cache:

        async def reader() -> None:
            found.append(await read(cache))

        first = trio.CancelScope()

        async def cancelled() -> None:
            with first:
                await reader()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancelled)
            await until(lambda: storage.running == 1)
            nursery.start_soon(reader)
            await wait_all_tasks_blocked(0.02)
            first.cancel()
            storage.gate.set()
    assert [b"content"] == found


@pytest.mark.parametrize(
    "error", [UnavailableError("down"), RateLimitedError("slow"), ConnectionError("refused")]
)
async def test_an_unavailable_storage_is_not_asked_each_time(
    tmp_path: Path, mock_clock: MockClock, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader gets a miss. The storage is asked again after the backoff, which grows."""
    storage = FakeStorage()
    storage.objects = {str(NAME): b"content"}
    storage.raises[str(NAME)] = error
    backoff = RetryPolicy(initial_delay=10.0, multiplier=2.0, max_delay=100.0)
    async with opened(tmp_path, storage=storage, transfer_backoff=backoff) as cache:
        for failed, skipped in ((1, 0), (1, 1), (1, 2)):
            assert await read(cache) is None
            expected = ReadThroughStatistics(failed=failed, skipped=skipped)
            assert expected == cache.statistics().read_through
        assert [logging.WARNING] == [record.levelno for record in own_records(caplog)]
        mock_clock.jump(11)
        assert await read(cache) is None
        mock_clock.jump(6)
        assert await read(cache) is None
        assert ReadThroughStatistics(failed=2, skipped=3) == cache.statistics().read_through
        del storage.raises[str(NAME)]
        mock_clock.jump(21)
        assert b"content" == await read(cache)
        assert await read(cache, ArtifactKey("acme", "app", "cas", "none")) is None
        expected = ReadThroughStatistics(fetched=1, missing=1, failed=2, skipped=3)
        assert expected == cache.statistics().read_through


async def test_an_odd_error_is_a_miss_of_one_artifact(tmp_path: Path) -> None:
    """The storage is asked for the next one."""
    storage = FakeStorage()
    other = ArtifactKey("acme", "app", "cas", "other")
    storage.objects = {str(NAME): b"content", str(other): b"other"}
    storage.raises[str(NAME)] = ValueError("odd")
    async with opened(tmp_path, storage=storage) as cache:
        assert await read(cache) is None
        assert b"other" == await read(cache, other)
        assert ReadThroughStatistics(fetched=1, failed=1) == cache.statistics().read_through


async def test_a_reader_waits_for_the_timeout_only(tmp_path: Path, mock_clock: MockClock) -> None:
    """A storage that does not answer is a miss after `read_through_timeout`."""
    storage = FakeStorage()
    storage.objects = {str(NAME): b"content"}
    storage.stop()
    async with opened(tmp_path, storage=storage, read_through_timeout=3.0) as cache:
        found: list[bytes | None] = []

        async def reader() -> None:
            found.append(await read(cache))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            await until(lambda: storage.running == 1)
            mock_clock.jump(2.9)
            await wait_all_tasks_blocked()
            assert [] == found
            mock_clock.jump(0.2)
        assert [None] == found
        assert await cache.artifacts.find(str(NAME)) is None


@pytest.mark.parametrize("through", ["reader", "queue"])
async def test_a_damaged_object_is_not_stored(tmp_path: Path, through: str) -> None:
    """Its SHA-256 is not that of the upload, so it is neither served nor kept."""
    storage = FakeStorage()
    storage.objects = {str(NAME): b"content, cut off"}
    storage.infos = {str(NAME): ObjectInfo("a" * 64)}
    async with opened(tmp_path, storage=storage) as cache:
        if through == "reader":
            assert await read(cache) is None
            assert ReadThroughStatistics(failed=1) == cache.statistics().read_through
        else:
            assert cache.transfer_worker is not None
            await cache.transfers.enqueue_download("acme", "app", "cas", str(NAME))
            await cache.transfer_worker.run_once()
            assert 1 == cache.transfer_worker.statistics().failed
        assert await cache.artifacts.find(str(NAME)) is None
        assert not cache.files.path(str(NAME)).exists()
        assert [] == list((tmp_path / "artifacts" / "partial").iterdir())


async def test_a_large_artifact_is_fetched_in_pieces(tmp_path: Path) -> None:
    """More than one piece, and more than is held in memory."""
    content = bytes(range(256)) * 20_000
    storage = FakeStorage()
    storage.objects = {str(NAME): content}
    async with opened(tmp_path, storage=storage) as cache:
        async with cache.reading_artifact(NAME) as reader:
            assert reader is not None
            assert content == await trio.to_thread.run_sync(reader.file.read)
        assert [] == list((tmp_path / "artifacts" / "partial").iterdir())


async def test_a_closed_cache_fetches_nothing(tmp_path: Path) -> None:
    """As every call of its stores."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage, read_through_timeout=math.inf) as cache:
        assert cache.read_through is not None
    with pytest.raises(trio.ClosedResourceError):
        await cache.read_through.fetch(NAME)
    with pytest.raises(trio.ClosedResourceError):
        await read(cache)
    with pytest.raises(trio.ClosedResourceError):
        await cache.store_artifact(NAME, b"x")
    assert [] == storage.calls
