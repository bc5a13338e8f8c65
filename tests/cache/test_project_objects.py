"""`Cache.delete_project` deletes the project's objects in the object storage, too."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from forebay.cache import (
    ArtifactKey,
    Cache,
    ObjectInfo,
    ReadThroughStatistics,
    S3Transfer,
    TransferType,
    UnavailableError,
)
from tests.cache.tools import FakeStorage, content_of, opened, until, worker

OURS = ArtifactKey("acme", "app", "cas", "a")
OTHERS = [ArtifactKey("acme", "app2", "cas", "a"), ArtifactKey("acme2", "app", "cas", "a")]


@asynccontextmanager
async def within_20_seconds() -> AsyncGenerator[trio.Nursery, None]:
    """Open a nursery, which is cancelled when a transfer waits for the wrong one."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            yield nursery


async def upload(cache: Cache, *names: ArtifactKey, content: bytes = b"x") -> None:
    """Store artifacts, and let the worker upload them."""
    for name in names:
        await cache.store_artifact(name, content)
    await worker(cache).run_once()


async def is_found(cache: Cache, name: ArtifactKey) -> bool:
    async with cache.reading_artifact(name) as reader:
        return reader is not None


async def queued(cache: Cache) -> dict[str, int]:
    """Return how many transfers of each type are queued."""
    return {each.value: len(await cache.transfers.pending(each, 10)) for each in TransferType}


async def test_the_objects_of_a_project_are_deleted(tmp_path: Path) -> None:
    """At the worker's next run, those that are not here included, and none of other projects."""
    storage = FakeStorage()
    elsewhere = ArtifactKey("acme", "app", "ac", "of another machine")
    storage.objects[str(elsewhere)] = b"x"
    async with opened(tmp_path, storage=storage) as cache:
        await upload(cache, OURS, *OTHERS)
        await cache.delete_project("acme", "app")
        assert not await is_found(cache, OURS)
        assert not await is_found(cache, elsewhere)
        assert ReadThroughStatistics(skipped=2) == cache.statistics().read_through
        assert {str(OURS), str(elsewhere)} < storage.objects.keys()
        await worker(cache).run_once()
        assert {str(name) for name in OTHERS} == storage.objects.keys()
        assert {"upload": 0, "download": 0, "delete": 0} == await queued(cache)
        await upload(cache, OURS)
        assert str(OURS) in storage.objects


async def test_the_deletion_is_committed_before_anything_is_deleted(tmp_path: Path) -> None:
    """A crash after `delete_project`, or an outage of the storage, only delays it."""
    storage = FakeStorage()
    storage.raises["acme/app/"] = UnavailableError("down")
    async with opened(tmp_path, storage=storage) as cache:
        await upload(cache, OURS)
        await cache.delete_project("acme", "app")
        # This reads what is committed.
        assert 1 == await cache.transfers.count(TransferType.DELETE)
        await cache.delete_project("acme", "app")
        assert await worker(cache).run_once()
        assert {"upload": 0, "download": 0, "delete": 1} == await queued(cache)
    storage.raises.clear()
    async with opened(tmp_path, storage=storage) as cache:
        assert not await is_found(cache, OURS)
        await worker(cache).run_once()
        assert {} == storage.objects
        assert {"upload": 0, "download": 0, "delete": 0} == await queued(cache)


async def test_later_copies_wait_for_the_deletion(tmp_path: Path) -> None:
    """Otherwise it would delete what is uploaded meanwhile."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await upload(cache, OURS)
        storage.stop()
        await cache.delete_project("acme", "app")
        async with within_20_seconds() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: storage.running == 1)
            await cache.store_artifact(OURS, b"newer")
            await cache.transfers.enqueue_download("acme", "app", "cas", "acme/app/cas/b")
            await cache.store_artifact(OTHERS[0], b"x")
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: storage.running == 2)
            assert [("delete", "acme/app/"), ("upload", str(OTHERS[0]))] == [
                (kind, key) for kind, key, _ in storage.calls[-2:]
            ]
            storage.gate.set()
        assert {str(OTHERS[0]): b"x"} == storage.objects
        await worker(cache).run_once()
        assert {str(OTHERS[0]): b"x", str(OURS): b"newer"} == storage.objects


async def test_the_deletion_waits_for_copies_in_progress(tmp_path: Path) -> None:
    """Otherwise an upload that ends after it would leave its object."""

    class ReadsAtOnce(FakeStorage):
        async def upload(self, transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
            content = path.read_bytes()
            await self._call("upload", transfer.key)
            self.objects[transfer.key] = content

    storage = ReadsAtOnce()
    async with opened(tmp_path, storage=storage) as cache:
        await cache.store_artifact(OURS, b"x")
        storage.stop()
        async with within_20_seconds() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: storage.running == 1)
            await cache.delete_project("acme", "app")
            await worker(cache).run_once()  # it starts nothing
            assert [("upload", str(OURS))] == [(kind, key) for kind, key, _ in storage.calls]
            storage.gate.set()
        assert {str(OURS)} == storage.objects.keys()
        await worker(cache).run_once()
        assert {} == storage.objects


async def test_a_fetch_of_a_deleted_project_is_discarded(tmp_path: Path) -> None:
    """A reader that waits for the object storage meanwhile does not bring an artifact back."""
    storage = FakeStorage()
    storage.objects[str(OURS)] = b"x"
    storage.stop()
    found: list[bool] = []
    async with opened(tmp_path, storage=storage) as cache:

        async def read() -> None:
            found.append(await is_found(cache, OURS))

        async with within_20_seconds() as nursery:
            nursery.start_soon(read)
            await until(lambda: storage.running == 1)
            await cache.delete_project("acme", "app")
            storage.gate.set()
        assert [False] == found
        assert await content_of(cache, str(OURS)) is None


async def test_a_deletion_that_is_removed_from_the_queue_blocks_nothing(tmp_path: Path) -> None:
    """An operator may give up on it; the objects stay."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await upload(cache, OURS)
        await cache.delete_project("acme", "app")
        [deletion] = await cache.transfers.pending(TransferType.DELETE, 10)
        await cache.transfers.delete([deletion.id])
        assert await is_found(cache, OURS)


async def test_without_a_storage_no_deletion_is_queued(tmp_path: Path) -> None:
    """There are no objects, and nobody would take it from the queue."""
    async with opened(tmp_path) as cache:
        await cache.store_artifact(OURS, b"x")
        await cache.delete_project("acme", "app")
        assert [] == await cache.transfers.pending(TransferType.DELETE, 10)


@pytest.mark.parametrize(
    ("account", "project", "error"),
    [("", "app", ValueError), ("a/b", "app", ValueError), ("acme", None, TypeError)],
)
async def test_invalid_handles_are_refused(
    tmp_path: Path, account: str, project: str, error: type[Exception]
) -> None:
    """Nothing is queued."""
    async with opened(tmp_path, storage=FakeStorage()) as cache:
        with pytest.raises(error, match=r"^(account|project) "):
            await cache.transfers.enqueue_deletion(account, project)
        assert [] == await cache.transfers.pending(TransferType.DELETE, 10)
