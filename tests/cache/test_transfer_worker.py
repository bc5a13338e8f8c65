"""`TransferWorker`: what is done leaves the queue, what is not done stays, within bounds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import RetryPolicy
from forebay.cache import Cache, RateLimitedError, TransferStatistics, TransferType, TransferWorker
from tests.cache.tools import FakeStorage, opened, until, write_file


async def queue(cache: Cache, *keys: str, size: int = 3) -> None:
    """Queue uploads of artifacts, whose files are there."""
    for key in keys:
        await write_file(cache, key, size)
        await cache.transfers.enqueue_upload("acme", "app", "cas", key)


async def left(cache: Cache, way: TransferType = TransferType.UPLOAD) -> list[tuple[str, int]]:
    return [(t.key, t.attempts) for t in await cache.transfers.pending(way, 10_000)]


def worker(cache: Cache) -> TransferWorker:
    assert cache.transfer_worker is not None
    return cache.transfer_worker


async def test_an_upload_that_is_done_leaves_the_queue(tmp_path: Path) -> None:
    """The object has what the file has."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "a", "b")
        assert not await worker(cache).run_once()
        assert {"a": b"\0\0\0", "b": b"\0\0\0"} == storage.objects
        assert [] == await left(cache)
        assert TransferStatistics(runs=1, done=2) == worker(cache).statistics()


async def test_a_download_that_is_done_is_a_file_and_an_access(tmp_path: Path) -> None:
    """The file has what the object has, and the table knows of it, so that it can be evicted."""
    storage = FakeStorage()
    storage.objects["a"] = b"12345"
    async with opened(tmp_path, storage=storage) as cache:
        await cache.transfers.enqueue_download("acme", "app", "cas", "a")
        await worker(cache).run_once()
        assert b"12345" == cache.files.path("a").read_bytes()
        assert [("a", 5)] == [(a.key, a.size_bytes) for a in await cache.artifacts.oldest()]
        assert [] == await left(cache, TransferType.DOWNLOAD)


async def test_a_download_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Half a file never takes the place of a whole one."""
    storage = FakeStorage()

    async def half(_key: str, path: Path) -> None:
        path.write_bytes(b"half")
        await trio.lowlevel.checkpoint()
        raise ConnectionResetError

    storage.download = half  # type: ignore[assignment]
    async with opened(tmp_path, storage=storage) as cache:
        await write_file(cache, "a", 8)
        await cache.transfers.enqueue_download("acme", "app", "cas", "a")
        await worker(cache).run_once()
        assert 8 == await cache.files.size("a")
        assert [("a", 1)] == await left(cache, TransferType.DOWNLOAD)
        assert [] == list((tmp_path / "artifacts" / "partial").iterdir())


async def test_fifty_are_under_way_at_once_and_no_more(tmp_path: Path) -> None:
    """The next transfer starts when one of the fifty is done."""
    storage = FakeStorage()
    storage.stop()
    async with opened(tmp_path, storage=storage) as cache:
        for i in range(120):
            await cache.transfers.enqueue_download("acme", "app", "cas", f"k{i}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: storage.running == 50)
            await wait_all_tasks_blocked()
            assert 50 == storage.running
            storage.gate.set()
        assert 50 == storage.most
        assert 120 == len(storage.calls)


async def test_a_run_goes_through_the_queue_once_in_batches(tmp_path: Path) -> None:
    """All batches are worked off, uploads and downloads in turn, so that neither has to wait."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage, transfer_batch=2, transfer_concurrency=1) as cache:
        await queue(cache, *(f"u{i}" for i in range(5)))
        for i in range(3):
            await cache.transfers.enqueue_download("acme", "app", "cas", f"d{i}")
        await worker(cache).run_once()
        assert ["u0", "u1", "d0", "d1", "u2", "u3", "d2", "u4"] == storage.keys
        assert [] == await left(cache)


async def test_the_same_key_is_uploaded_and_downloaded(tmp_path: Path) -> None:
    """Both ways of one key are done in one run."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "a")
        await cache.transfers.enqueue_download("acme", "app", "cas", "a")
        await worker(cache).run_once()
        assert [("upload", "a"), ("download", "a")] == [call[:2] for call in storage.calls]
        assert TransferStatistics(runs=1, done=2) == worker(cache).statistics()


async def test_rate_limited_transfers_stay_and_end_the_run(tmp_path: Path) -> None:
    """Nothing more is asked of the storage; what it turned away has lost no attempt."""
    storage = FakeStorage()
    storage.raises["k2"] = RateLimitedError("slow down")
    async with opened(tmp_path, storage=storage, transfer_concurrency=1) as cache:
        await queue(cache, *(f"k{i}" for i in range(5)))
        await cache.transfers.enqueue_download("acme", "app", "cas", "d")
        assert await worker(cache).run_once()
        assert ["k0", "k1", "k2"] == storage.keys
        assert [("k2", 0), ("k3", 0), ("k4", 0)] == await left(cache)
        assert TransferStatistics(runs=1, done=2, rate_limited=1) == worker(cache).statistics()
        storage.raises.clear()
        assert not await worker(cache).run_once()
        assert [] == await left(cache)


async def test_rate_limited_transfers_stay_however_often_they_are_turned_away(
    tmp_path: Path,
) -> None:
    """They are not among the failed ones, which are dropped after some attempts."""
    storage = FakeStorage()
    storage.raises["k"] = RateLimitedError("slow down")
    async with opened(tmp_path, storage=storage, transfer_attempts=2) as cache:
        await queue(cache, "k")
        for _ in range(10):
            await worker(cache).run_once()
        assert [("k", 0)] == await left(cache)


async def test_the_pause_after_rate_limited_runs_grows_and_ends(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Each run in a row that is turned away adds a longer pause; one that is not, none."""
    storage = FakeStorage()
    storage.raises["k"] = RateLimitedError("slow down")
    backoff = RetryPolicy(initial_delay=10.0, multiplier=2.0, max_delay=30.0, jitter=0.0)
    async with opened(
        tmp_path, storage=storage, transfer_interval=1.0, transfer_backoff=backoff
    ) as cache:
        await until(lambda: worker(cache).statistics().runs == 1)

        async def run_comes_after(seconds: float) -> None:
            calls, runs = len(storage.calls), worker(cache).statistics().runs
            await wait_all_tasks_blocked()
            mock_clock.jump(seconds - 0.25)
            await wait_all_tasks_blocked()
            mock_clock.jump(0.25)
            await until(lambda: worker(cache).statistics().runs == runs + 1)
            assert [trio.current_time()] == [time for _, _, time in storage.calls[calls:]]

        await queue(cache, "k")
        await run_comes_after(1.0)
        for pause in (11.0, 21.0, 31.0, 31.0):
            await run_comes_after(pause)
        storage.raises.clear()
        await run_comes_after(31.0)
        storage.raises["other"] = RateLimitedError("slow down")
        await queue(cache, "other")
        await run_comes_after(1.0)
        await run_comes_after(11.0)


async def test_failed_transfers_are_counted_and_dropped_after_their_last_attempt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The count is in the table: a restart does not begin it anew."""
    storage = FakeStorage()
    storage.raises["bad"] = RuntimeError("no")
    statistics: list[TransferStatistics] = []
    with caplog.at_level(logging.WARNING, "forebay.cache"):
        for attempts in range(1, 4):
            async with opened(tmp_path, storage=storage, transfer_attempts=3) as cache:
                if attempts == 1:
                    await queue(cache, "bad")
                await worker(cache).run_once()
                assert ([("bad", attempts)] if attempts < 3 else []) == await left(cache)
                statistics.append(worker(cache).statistics())
    assert 3 == len(storage.calls)
    assert [(1, 0), (1, 0), (1, 1)] == [(s.failed, s.dropped) for s in statistics]
    assert "attempt 1 of 3" in caplog.text
    assert "is dropped, attempt 3 of 3: RuntimeError('no')" in caplog.text


async def test_a_transfer_that_fails_is_its_own_affair(tmp_path: Path) -> None:
    """It is tried once a run, and others are done meanwhile, those behind it too."""
    storage = FakeStorage()
    storage.raises["k1"] = ValueError("odd")
    async with opened(tmp_path, storage=storage, transfer_batch=1) as cache:
        await queue(cache, "k0", "k1", "k2")
        await worker(cache).run_once()
        assert ["k0", "k1", "k2"] == storage.keys
        assert [("k1", 1)] == await left(cache)


@pytest.mark.parametrize("way", list(TransferType))
async def test_what_is_missing_is_given_up_at_once(tmp_path: Path, way: TransferType) -> None:
    """A file, or an object, that is not there will not come by trying again."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        if way is TransferType.UPLOAD:
            await cache.transfers.enqueue_upload("acme", "app", "cas", "a")
        else:
            await cache.transfers.enqueue_download("acme", "app", "cas", "a")
        await worker(cache).run_once()
        assert [] == await left(cache, way)
        assert TransferStatistics(runs=1, missing=1) == worker(cache).statistics()
        assert not cache.files.path("a").exists()


async def test_a_transfer_that_hangs_has_failed_at_its_timeout(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """It holds its place for 300 s at the most."""
    storage = FakeStorage()
    storage.stop()
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: storage.running == 1)
            mock_clock.jump(301)
        assert [("a", 1)] == await left(cache)
        assert TransferStatistics(runs=1, failed=1) == worker(cache).statistics()


async def test_two_runs_at_once_transfer_once(tmp_path: Path) -> None:
    """The second waits for the first, and finds an empty queue."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "a", "b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            nursery.start_soon(worker(cache).run_once)
        assert 2 == len(storage.calls)


async def test_a_run_that_is_cancelled_leaves_the_queue(tmp_path: Path) -> None:
    """What was under way is there for the next run, and has lost no attempt."""
    storage = FakeStorage()
    storage.stop()
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "a", "b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: storage.running == 2)
            nursery.cancel_scope.cancel()
        assert [("a", 0), ("b", 0)] == await left(cache)
        storage.gate.set()
        await worker(cache).run_once()
        assert [] == await left(cache)


async def test_without_a_storage_transfers_wait(tmp_path: Path) -> None:
    """A cache without an object storage queues, for the day it has one."""
    async with opened(tmp_path) as cache:
        await queue(cache, "a")
        assert cache.transfer_worker is None
        assert cache.statistics().transfers is None
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await worker(cache).run_once()
    assert ["a"] == storage.keys
