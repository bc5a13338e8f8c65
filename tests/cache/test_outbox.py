"""An artifact's row and its queued upload are committed together; each content is uploaded once."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from forebay.cache import ArtifactKey, Cache, TransferStatistics
from forebay.cache.object_storage import ObjectInfo
from tests.cache.tools import FakeClock, FakeStorage, opened, sha256, until, worker

NAME = ArtifactKey("acme", "app", "cas", "x")


async def queued(cache: Cache) -> list[tuple[str, str]]:
    """Return the keys and contents of the queued uploads."""
    pending = await cache.transfers.pending("upload", 1_000)
    return [(transfer.key, transfer.sha256) for transfer in pending]


async def test_the_upload_is_queued_with_the_row(tmp_path: Path, mock_clock: MockClock) -> None:
    """Not before it: one flush commits both, and the transfer has all its columns."""
    del mock_clock
    async with opened(tmp_path, storage=FakeStorage()) as cache:
        await cache.store_artifact(NAME, b"content", metadata={"tag": "é"})
        await cache.buffers.flush()
        tables = await cache.store.fetch_all(
            "SELECT account_handle, project_handle, artifact_type, t.key, t.sha256, attempts, "
            "next_attempt_at, t.type FROM s3_transfers AS t JOIN cas_artifacts USING (key)"
        )
        expected = ("acme", "app", "cas", str(NAME), sha256(b"content"), 0, 0, "upload")
        assert [expected] == tables
        assert 1 == cache.buffers.statistics()["cas_artifacts"].accepted
        assert 0 == cache.buffers.statistics()["s3_transfers"].accepted
        [transfer] = await cache.transfers.pending("upload", 1)
        await cache.transfers.delete([transfer.id])
        assert [] == await queued(cache)


async def test_without_a_storage_nothing_is_queued(tmp_path: Path) -> None:
    """The queue would only grow. `upload_as` queues all the same."""
    async with opened(tmp_path) as cache:
        await cache.store_artifact(NAME, b"content")
        assert [] == await queued(cache)
        await cache.artifacts.store(str(NAME), b"content", upload_as=NAME)
        assert [(str(NAME), sha256(b"content"))] == await queued(cache)


async def test_a_content_is_uploaded_once(tmp_path: Path) -> None:
    """Storing it again uploads nothing, before and after a restart; another content is uploaded."""
    storage = FakeStorage()
    for restart in range(2):
        async with opened(tmp_path, storage=storage) as cache:
            for _ in range(3):
                await cache.store_artifact(NAME, b"first", metadata={"n": "1"})
                await worker(cache).run_once()
            assert 1 + restart * 2 == len(storage.calls)
            assert b"first" == storage.objects[str(NAME)]
            assert ObjectInfo(sha256(b"first"), {"n": "1"}) == storage.infos[str(NAME)]
            await cache.store_artifact(NAME, b"second")
            await worker(cache).run_once()
            assert b"second" == storage.objects[str(NAME)]
            if restart == 0:
                await cache.store_artifact(NAME, b"first", metadata={"n": "1"})
                await worker(cache).run_once()
            assert [] == await queued(cache)
    assert 4 == len(storage.calls)


async def test_an_explicit_upload_of_a_known_content_is_not_queued(tmp_path: Path) -> None:
    """`enqueue_upload` compares the SHA-256; without one it queues."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await cache.store_artifact(NAME, b"content")
        await worker(cache).run_once()
        key = str(NAME)
        await cache.transfers.enqueue_upload("acme", "app", "cas", key, sha256=sha256(b"content"))
        assert [] == await queued(cache)
        await cache.transfers.enqueue_upload("acme", "app", "cas", key, sha256=sha256(b"other"))
        await cache.transfers.enqueue_upload("acme", "app", "cas", key)
        assert [(key, sha256(b"other")), (key, "")] == await queued(cache)


async def test_an_upload_of_a_replaced_content_is_dropped(tmp_path: Path) -> None:
    """Only the current content is uploaded, also while the older upload failed before."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await cache.store_artifact(NAME, b"first")
        await cache.flush()
        await cache.store_artifact(NAME, b"second")
        assert 2 == len(await queued(cache))
        await worker(cache).run_once()
        await worker(cache).run_once()
        assert [] == await queued(cache)
        assert {str(NAME): b"second"} == storage.objects
        assert (1, 1) == (worker(cache).statistics().done, worker(cache).statistics().missing)


@pytest.mark.parametrize("again", [b"second", b"first"])
async def test_content_that_changes_during_its_upload_is_uploaded_again(
    tmp_path: Path, again: bytes
) -> None:
    """Whatever the storage got meanwhile, it ends with the content that the cache has."""
    storage = FakeStorage()
    storage.stop()
    async with opened(tmp_path, storage=storage) as cache:
        await cache.store_artifact(NAME, b"first")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: storage.running == 1)
            if again == b"first":
                await cache.store_artifact(NAME, b"between")
            await cache.store_artifact(NAME, again)
            storage.gate.set()
        for _ in range(3):
            await worker(cache).run_once()
        assert {str(NAME): again} == storage.objects
        assert [] == await queued(cache)
        calls = len(storage.calls)
        await cache.store_artifact(NAME, again)
        await worker(cache).run_once()
        assert calls == len(storage.calls)


async def test_accesses_and_deletes_do_not_change_the_outbox(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """An access of a pending artifact keeps its upload; a deleted one is stored and queued anew."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock, storage=FakeStorage(), touch_interval=0.0) as cache:
        await cache.store_artifact(NAME, b"content")
        clock.advance(10)
        assert await cache.artifacts.find(str(NAME)) is not None
        await cache.flush()
        assert [(str(NAME), sha256(b"content"))] == await queued(cache)
        await worker(cache).run_once()
        clock.advance(10)
        assert await cache.artifacts.find(str(NAME)) is not None
        assert [] == await queued(cache)
        await cache.artifacts.delete([str(NAME)])
        await cache.store_artifact(NAME, b"content")
        assert [(str(NAME), sha256(b"content"))] == await queued(cache)


async def test_odd_names_pass_through_the_outbox(tmp_path: Path) -> None:
    """The triggers read the parts from JSON."""
    parts = ["new\nline", "quote ' and \" both", "日本語", "\U0001f9d1 ", "back\\slash", "%"]
    names = [ArtifactKey(a, b, c, "x") for a in parts for b in parts[:2] for c in parts[1:3]]
    async with opened(tmp_path, storage=FakeStorage()) as cache:
        for name in names:
            await cache.store_artifact(name, b"x")
        transfers = await cache.transfers.pending("upload", 1_000)
        assert names == [
            ArtifactKey(each.account_handle, each.project_handle, each.artifact_type, "x")
            for each in transfers
        ]
        assert [str(name) for name in names] == [each.key for each in transfers]


WRITER = """
import itertools, math, sys, trio
from forebay import BufferOptions
from forebay.cache import ArtifactKey, CacheOptions, MissingError, open_cache

class Down:
    async def upload(self, transfer, path, info): raise ConnectionError
    async def download(self, transfer, path): raise ConnectionError
    async def exists(self, transfer): raise ConnectionError
    async def delete_project(self, account, project): raise ConnectionError

async def main():
    options = CacheOptions(transfer_interval=math.inf, eviction_interval=math.inf)
    flushing = BufferOptions(flush_interval=0.01, batch_size=7)
    async with open_cache(
        sys.argv[1], storage=Down(), options=options, buffer_options=flushing
    ) as cache:
        for n in itertools.count():
            name = ArtifactKey("acme", "app", "cas", str(n))
            await cache.store_artifact(name, str(n).encode())
            if n == 300:
                print("many", flush=True)

trio.run(main)
"""


@pytest.mark.parametrize("attempt", range(3))
def test_a_kill_leaves_each_row_with_its_upload(tmp_path: Path, attempt: int) -> None:
    """After kill -9 each committed artifact is in the queue, and nothing else is."""
    del attempt
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "many\n" == process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    with closing(sqlite3.connect(tmp_path / "cache.db")) as raw:
        rows = raw.execute("SELECT key, sha256 FROM cas_artifacts ORDER BY key").fetchall()
        transfers = raw.execute("SELECT key, sha256 FROM s3_transfers ORDER BY key").fetchall()
    assert rows
    assert rows == transfers
    assert Counter(key for key, _ in rows).most_common(1)[0][1] == 1


async def test_the_statistics_count_only_what_is_done(tmp_path: Path) -> None:
    """An upload that is to be repeated is not done."""
    storage = FakeStorage()
    storage.stop()
    async with opened(tmp_path, storage=storage) as cache:
        await cache.store_artifact(NAME, b"first")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: storage.running == 1)
            await cache.store_artifact(NAME, b"first")
            storage.gate.set()
        assert TransferStatistics(runs=1) == worker(cache).statistics()
        await worker(cache).run_once()
        assert TransferStatistics(runs=2, done=1) == worker(cache).statistics()
