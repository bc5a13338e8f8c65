"""`TransferWorker`: transfers leave the queue when they are done, missing, or failed too often."""

from __future__ import annotations

import errno
import logging
import math
import socket
import sqlite3
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import BufferOptions, RetryPolicy
from forebay.cache import (
    Cache,
    MissingError,
    ObjectInfo,
    RateLimitedError,
    S3Transfer,
    TransferStatistics,
    TransferType,
    UnavailableError,
    open_cache,
)
from tests.cache.tools import (
    BY_HAND,
    FakeClock,
    FakeStorage,
    opened,
    until,
    worker,
    write_file,
    writer_held,
)
from tests.log_records import own_records

DAY = 24 * 3600
HOUR = 3600


async def queue(cache: Cache, *keys: str, size: int = 3) -> None:
    """Write files, and queue their uploads."""
    for key in keys:
        await write_file(cache, key, size)
        await cache.transfers.enqueue_upload("acme", "app", "cas", key)


async def left(
    cache: Cache, transfer_type: TransferType = TransferType.UPLOAD
) -> list[tuple[str, int]]:
    return [(t.key, t.attempts) for t in await cache.transfers.pending(transfer_type, 10_000)]


async def test_an_upload_that_is_done_leaves_the_queue(tmp_path: Path) -> None:
    """The object has the content of the file."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "a", "b")
        assert not await worker(cache).run_once()
        assert {"a": b"\0\0\0", "b": b"\0\0\0"} == storage.objects
        assert [] == await left(cache)
        assert TransferStatistics(runs=1, done=2) == worker(cache).statistics()


async def test_a_download_that_is_done_is_a_file_and_an_access(tmp_path: Path) -> None:
    """The file has the content of the object, and a row, so that it can be evicted."""
    storage = FakeStorage()
    storage.objects["a"] = b"12345"
    async with opened(tmp_path, storage=storage) as cache:
        await cache.transfers.enqueue_download("acme", "app", "cas", "a")
        await worker(cache).run_once()
        assert b"12345" == cache.files.path("a").read_bytes()
        assert [("a", 5)] == [(a.key, a.size_bytes) for a in await cache.artifacts.oldest()]
        assert [] == await left(cache, TransferType.DOWNLOAD)


async def test_a_download_that_fails_does_not_change_the_file(tmp_path: Path) -> None:
    """An incomplete file does not replace a complete one."""
    storage = FakeStorage()

    async def half(_key: str, path: Path) -> None:
        path.write_bytes(b"half")
        await trio.lowlevel.checkpoint()
        raise ValueError

    storage.download = half  # type: ignore[assignment]
    async with opened(tmp_path, storage=storage) as cache:
        await write_file(cache, "a", 8)
        await cache.transfers.enqueue_download("acme", "app", "cas", "a")
        await worker(cache).run_once()
        assert 8 == await cache.files.size("a")
        assert [("a", 1)] == await left(cache, TransferType.DOWNLOAD)
        assert [] == list((tmp_path / "artifacts" / "partial").iterdir())


async def test_at_most_fifty_transfers_are_in_progress(tmp_path: Path) -> None:
    """The next transfer starts when one of the fifty ends."""
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
    """It reads all batches, and alternates between uploads and downloads."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage, transfer_batch=2, transfer_concurrency=1) as cache:
        await queue(cache, *(f"u{i}" for i in range(5)))
        for i in range(3):
            await cache.transfers.enqueue_download("acme", "app", "cas", f"d{i}")
        await worker(cache).run_once()
        assert ["u0", "d0", "u1", "d1", "u2", "d2", "u3", "u4"] == storage.keys
        assert [] == await left(cache)


async def test_the_same_key_is_uploaded_and_downloaded(tmp_path: Path) -> None:
    """One run tries both transfers; an upload during which the file changed is repeated."""
    storage = FakeStorage()
    storage.objects["a"] = b"xyz"
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "a")
        await cache.transfers.enqueue_download("acme", "app", "cas", "a")
        await worker(cache).run_once()
        assert {("upload", "a"), ("download", "a")} == {call[:2] for call in storage.calls}
        await worker(cache).run_once()
        assert TransferStatistics(runs=2, done=2) == worker(cache).statistics()
        assert [] == await left(cache)


async def test_rate_limited_transfers_stay_and_end_the_run(tmp_path: Path) -> None:
    """The run starts no more transfers, and the rejected one loses no attempt."""
    storage = FakeStorage()
    storage.raises["k2"] = RateLimitedError("slow down")
    async with opened(tmp_path, storage=storage, transfer_concurrency=1) as cache:
        await queue(cache, *(f"k{i}" for i in range(5)))
        assert await worker(cache).run_once()
        assert ["k0", "k1", "k2"] == storage.keys
        assert [("k2", 0), ("k3", 0), ("k4", 0)] == await left(cache)
        assert TransferStatistics(runs=1, done=2, rate_limited=1) == worker(cache).statistics()
        storage.raises.clear()
        assert not await worker(cache).run_once()
        assert [] == await left(cache)


async def test_rate_limited_transfers_stay_however_often_they_are_rejected(
    tmp_path: Path,
) -> None:
    """They are not dropped, as failed transfers are."""
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
    """It grows with each run in a row that completes no transfer, and ends after a normal run."""
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
            assert {trio.current_time()} == {time for _, _, time in storage.calls[calls:]}

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
        # A transfer is done beside the rejected one, so the pause starts again at its shortest.
        await queue(cache, "good")
        await run_comes_after(21.0)
        assert [("other", 0)] == await left(cache)
        await run_comes_after(11.0)
        await run_comes_after(21.0)


async def test_failed_transfers_are_counted_and_dropped_after_their_last_attempt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The count is in the table, so it continues after a restart."""
    storage = FakeStorage()
    storage.raises["bad"] = RuntimeError("no")
    statistics: list[TransferStatistics] = []
    clock = FakeClock()
    with caplog.at_level(logging.WARNING, "forebay.cache"):
        for attempts in range(1, 4):
            async with opened(tmp_path, clock, storage=storage, transfer_attempts=3) as cache:
                if attempts == 1:
                    await queue(cache, "bad")
                await worker(cache).run_once()
                assert ([("bad", attempts)] if attempts < 3 else []) == await left(cache)
                statistics.append(worker(cache).statistics())
            clock.advance(DAY)
    assert 3 == len(storage.calls)
    assert [(1, 0), (1, 0), (1, 1)] == [(s.failed, s.dropped) for s in statistics]
    assert "attempt 1 of 3" in caplog.text
    assert "is dropped, attempt 3 of 3: RuntimeError('no')" in caplog.text


async def test_a_transfer_that_fails_does_not_affect_others(tmp_path: Path) -> None:
    """It is tried once per run, and the transfers behind it are done."""
    storage = FakeStorage()
    storage.raises["k1"] = ValueError("odd")
    async with opened(tmp_path, storage=storage, transfer_batch=1) as cache:
        await queue(cache, "k0", "k1", "k2")
        await worker(cache).run_once()
        assert ["k0", "k1", "k2"] == sorted(storage.keys)
        assert [("k1", 1)] == await left(cache)


@pytest.mark.parametrize("transfer_type", list(TransferType))
async def test_a_transfer_with_nothing_to_copy_is_dropped_at_once(
    tmp_path: Path, transfer_type: TransferType
) -> None:
    """It is not retried if its file or object does not exist."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        if transfer_type is TransferType.UPLOAD:
            await cache.transfers.enqueue_upload("acme", "app", "cas", "a")
        else:
            await cache.transfers.enqueue_download("acme", "app", "cas", "a")
        await worker(cache).run_once()
        assert [] == await left(cache, transfer_type)
        assert TransferStatistics(runs=1, missing=1) == worker(cache).statistics()
        assert not cache.files.path("a").exists()


async def test_a_transfer_that_hangs_fails_at_its_timeout(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """It uses its place for at most 300 s."""
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


async def test_a_download_that_waits_for_a_buffer_does_not_fail(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The timeout does not include the wait for the table."""
    storage = FakeStorage()
    storage.objects["a"] = b"x"
    async with open_cache(
        tmp_path,
        storage=storage,
        options=BY_HAND,
        buffer_overrides={"cas_artifacts": BufferOptions(capacity=1)},
    ) as cache:
        await cache.transfers.enqueue_download("acme", "app", "cas", "a")
        await cache.flush()
        async with trio.open_nursery() as nursery, writer_held(cache):
            await cache.artifacts.track_access("other")
            nursery.start_soon(worker(cache).run_once)
            buffers = cache.buffers.statistics

            def waiting() -> bool:
                mock_clock.jump(1)  # the run waits a second for each flush
                return buffers()["cas_artifacts"].waiting == 1

            await until(waiting)
            mock_clock.jump(1_000)
            await wait_all_tasks_blocked()
        assert TransferStatistics(runs=1, done=1) == worker(cache).statistics()
        assert {"a"} == await cache.artifacts.existing_keys(["a"])
        assert [] == await left(cache, TransferType.DOWNLOAD)


async def test_two_runs_at_once_transfer_once(tmp_path: Path) -> None:
    """The second run skips the transfers of the first."""
    storage = FakeStorage()
    storage.stop()
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "a", "b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: storage.running == 2)
            nursery.start_soon(worker(cache).run_once)
            await wait_all_tasks_blocked(0.05)
            storage.gate.set()
        assert 2 == len(storage.calls)
        assert 2 == worker(cache).statistics().runs


async def test_a_run_that_is_cancelled_does_not_change_the_queue(tmp_path: Path) -> None:
    """The transfers in progress stay queued and lose no attempt."""
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


async def test_without_a_storage_transfers_stay_queued(tmp_path: Path) -> None:
    """They are done once the cache is opened with a storage."""
    async with opened(tmp_path) as cache:
        await queue(cache, "a")
        assert cache.transfer_worker is None
        assert cache.statistics().transfers is None
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await worker(cache).run_once()
    assert ["a"] == storage.keys


OUTAGES = [
    UnavailableError("503 Service Unavailable"),
    ConnectionRefusedError(111, "Connection refused"),
    ConnectionResetError(),
    TimeoutError(),
    socket.gaierror(-3, "Temporary failure in name resolution"),
    ssl.SSLCertVerificationError("certificate has expired"),
    trio.BrokenResourceError("the connection was reset"),
    OSError(errno.ENETUNREACH, "Network is unreachable"),
    OSError(errno.EHOSTUNREACH, "No route to host"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EMFILE, "Too many open files"),
    ExceptionGroup("parts", [ConnectionResetError(), ValueError("cut short")]),
]


@pytest.mark.parametrize("error", OUTAGES, ids=repr)
async def test_an_outage_of_hours_does_not_empty_the_queue(
    tmp_path: Path, mock_clock: MockClock, error: Exception
) -> None:
    """No transfer loses an attempt during the outage, and all are done after it."""
    storage = FakeStorage()
    names = [f"k{i}" for i in range(60)]
    storage.raises = dict.fromkeys([*names, "d"], error)
    clock = FakeClock()
    async with opened(tmp_path, clock, storage=storage, transfer_interval=5.0) as cache:
        await until(lambda: worker(cache).statistics().runs == 1)
        await queue(cache, *names)
        await cache.transfers.enqueue_download("acme", "app", "cas", "d")
        for runs in range(2, 52):
            await wait_all_tasks_blocked()
            mock_clock.jump(305)
            clock.advance(305)
            await until(lambda runs=runs: worker(cache).statistics().runs == runs)  # type: ignore[misc]
        assert [(name, 0) for name in names] == await left(cache)
        assert [("d", 0)] == await left(cache, TransferType.DOWNLOAD)
        assert 0 == worker(cache).statistics().failed
        storage.raises.clear()
        storage.objects["d"] = b"x"
        await worker(cache).run_once()
        assert [] == await left(cache)
        assert [] == await left(cache, TransferType.DOWNLOAD)
        assert 61 == worker(cache).statistics().done


async def test_the_worker_backs_off_during_an_outage(tmp_path: Path, mock_clock: MockClock) -> None:
    """The pauses grow as they do when the storage asks for fewer requests."""
    storage = FakeStorage()
    storage.raises["k"] = UnavailableError("down")
    backoff = RetryPolicy(initial_delay=10.0, multiplier=2.0, max_delay=30.0, jitter=0.0)
    async with opened(
        tmp_path, storage=storage, transfer_interval=1.0, transfer_backoff=backoff
    ) as cache:
        await until(lambda: worker(cache).statistics().runs == 1)
        await queue(cache, "k")
        times: list[float] = []
        for pause in (1.0, 11.0, 21.0, 31.0, 31.0):
            await wait_all_tasks_blocked()
            mock_clock.jump(pause)
            runs = worker(cache).statistics().runs
            await until(lambda runs=runs: worker(cache).statistics().runs > runs)  # type: ignore[misc]
            times.append(trio.current_time())
        assert times == [time for _, _, time in storage.calls]


async def test_an_outage_is_logged_once_per_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning has the number of transfers, and the error of the last one."""
    storage = FakeStorage()
    storage.raises = {f"k{i}": UnavailableError("down") for i in range(3)}
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, *storage.raises)
        storage.stop()
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker(cache).run_once)
                await until(lambda: storage.running == 3)
                storage.gate.set()
        statistics = worker(cache).statistics()
    [record] = own_records(caplog)
    assert "the storage is unavailable: 3 transfers stay in the queue" in record.getMessage()
    assert "UnavailableError('down')" in record.getMessage()
    assert TransferStatistics(runs=1, unavailable=3) == statistics


async def test_a_run_ends_when_more_transfers_are_unavailable_than_done(tmp_path: Path) -> None:
    """The rest of the queue is not tried during an outage."""
    storage = FakeStorage()
    names = [f"k{i}" for i in range(20)]
    storage.raises = dict.fromkeys(names[3:], UnavailableError("down"))
    async with opened(tmp_path, storage=storage, transfer_concurrency=1) as cache:
        await queue(cache, *names)
        assert await worker(cache).run_once()
        assert names[:7] == storage.keys
        assert [(name, 0) for name in names[3:]] == await left(cache)
        expected = TransferStatistics(runs=1, done=3, unavailable=4)
        assert expected == worker(cache).statistics()


async def test_a_transfer_that_is_unavailable_while_others_are_done_has_failed(
    tmp_path: Path,
) -> None:
    """If one object makes the server fail every time, its transfer is dropped in the end."""
    storage = FakeStorage()
    storage.raises["bad"] = UnavailableError("500 Internal Server Error")
    clock = FakeClock()
    async with opened(tmp_path, clock, storage=storage, transfer_attempts=4) as cache:
        await queue(cache, "bad")
        for run in range(1, 5):
            await queue(cache, f"good{run}")
            assert not await worker(cache).run_once()
            assert ([("bad", run)] if run < 4 else []) == await left(cache)
            clock.advance(DAY)
        expected = TransferStatistics(runs=4, done=4, unavailable=4, failed=4, dropped=1)
        assert expected == worker(cache).statistics()


async def test_the_transfers_of_earlier_runs_do_not_count_as_available(tmp_path: Path) -> None:
    """Each run decides by its own transfers whether the storage is available."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, *(f"k{i}" for i in range(5)))
        await worker(cache).run_once()
        storage.raises["late"] = UnavailableError("down")
        await queue(cache, "late")
        assert await worker(cache).run_once()
        assert [("late", 0)] == await left(cache)


async def test_downloads_do_not_count_as_available_uploads(tmp_path: Path) -> None:
    """With credentials that may only read, uploads are unavailable and lose no attempt."""
    storage = FakeStorage()
    storage.raises["up"] = UnavailableError("403 Forbidden")
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "up")
        for i in range(5):
            storage.objects[f"d{i}"] = b"x"
            await cache.transfers.enqueue_download("acme", "app", "cas", f"d{i}")
        assert await worker(cache).run_once()
        assert [("up", 0)] == await left(cache)
        assert [] == await left(cache, TransferType.DOWNLOAD)


async def test_the_delay_of_a_failed_transfer_grows(tmp_path: Path) -> None:
    """It is retried after its delay, also across a restart, and not at every interval."""
    storage = FakeStorage()
    storage.raises["bad"] = RuntimeError("no")
    clock = FakeClock()
    retry = RetryPolicy(initial_delay=10.0, multiplier=4.0, max_delay=100.0, jitter=0.0)
    changes = {"transfer_retry": retry, "transfer_attempts": 100}
    async with opened(tmp_path, clock, storage=storage, **changes) as cache:
        await queue(cache, "bad")
        await worker(cache).run_once()
    assert 1 == len(storage.calls)
    for tried, delay in enumerate((10, 40, 100, 100), start=1):
        async with opened(tmp_path, clock, storage=storage, **changes) as cache:
            clock.advance(delay - 1)
            await worker(cache).run_once()
            assert tried == len(storage.calls)
            clock.advance(1)
            await worker(cache).run_once()
            assert tried + 1 == len(storage.calls)
            await worker(cache).run_once()
            assert tried + 1 == len(storage.calls)


async def test_a_failed_transfer_is_retried_for_hours_by_default(tmp_path: Path) -> None:
    """It is not dropped within five hours, so it outlasts outages with unknown errors."""
    storage = FakeStorage()
    storage.raises["bad"] = RuntimeError("unknown to the worker")
    clock = FakeClock()
    async with opened(tmp_path, clock, storage=storage) as cache:
        await queue(cache, "bad")
        for _ in range(5 * HOUR // 300 - 1):
            clock.advance(300)
            await worker(cache).run_once()
        assert [] != await left(cache)
        clock.advance(DAY)
        for _ in range(3):
            await worker(cache).run_once()
            clock.advance(DAY)
        assert [] == await left(cache)
        assert (8, 1) == (worker(cache).statistics().failed, worker(cache).statistics().dropped)


async def test_a_delay_that_is_too_long_is_ignored(
    tmp_path: Path,
) -> None:
    """If the clock was a year ahead at a failure, the transfer is tried once the clock is right."""
    storage = FakeStorage()
    storage.raises["bad"] = RuntimeError("no")
    clock = FakeClock()
    async with opened(tmp_path, clock, storage=storage) as cache:
        clock.advance(365 * DAY)
        await queue(cache, "bad")
        await worker(cache).run_once()
        clock.advance(-365 * DAY)
        storage.raises.clear()
        await worker(cache).run_once()
        assert [] == await left(cache)


async def test_a_rejected_transfer_does_not_starve_those_behind_it(
    tmp_path: Path,
) -> None:
    """A run starts behind the last transfer of the previous run, and ends with that one."""
    storage = FakeStorage()
    storage.raises["k0"] = RateLimitedError("slow down")
    async with opened(tmp_path, storage=storage, transfer_concurrency=1) as cache:
        await queue(cache, *(f"k{i}" for i in range(4)))
        assert await worker(cache).run_once()
        assert ["k0"] == storage.keys
        assert await worker(cache).run_once()
        assert ["k0", "k1", "k2", "k3", "k0"] == storage.keys
        assert [("k0", 0)] == await left(cache)


async def test_many_rejected_transfers_take_turns(tmp_path: Path) -> None:
    """The numbers of attempts differ by at most one, also for new transfers."""
    storage = FakeStorage()
    names = [f"k{i}" for i in range(7)]
    storage.raises = dict.fromkeys(names, RateLimitedError("slow down"))
    async with opened(tmp_path, storage=storage, transfer_concurrency=1) as cache:
        await queue(cache, *names[:5])
        for run in range(20):
            if run == 10:
                await queue(cache, *names[5:])
            await worker(cache).run_once()
        tried = [storage.keys[10:].count(name) for name in names]
        assert ([*names[:5], *names[:5]], 10) == (storage.keys[:10], sum(tried))
        assert {1, 2} == set(tried)


async def test_rejected_uploads_do_not_starve_downloads(tmp_path: Path) -> None:
    """The runs begin with uploads and downloads in turn."""
    storage = FakeStorage()
    storage.raises = {f"u{i}": RateLimitedError("slow down") for i in range(3)}
    async with opened(tmp_path, storage=storage, transfer_concurrency=1) as cache:
        await queue(cache, *storage.raises)
        for i in range(3):
            storage.objects[f"d{i}"] = b"x"
            await cache.transfers.enqueue_download("acme", "app", "cas", f"d{i}")
        for _ in range(6):
            await worker(cache).run_once()
        assert [] == await left(cache, TransferType.DOWNLOAD)
        assert ["u0", "d0", "u1", "u2", "d1", "u0", "u1", "d2", "u2"] == storage.keys


async def test_slow_uploads_leave_places_to_downloads(tmp_path: Path) -> None:
    """The second of two places is used by a download, however many uploads were queued before."""
    storage = FakeStorage()
    storage.stop()
    async with opened(tmp_path, storage=storage, transfer_concurrency=2) as cache:
        await queue(cache, *(f"u{i}" for i in range(10)))
        await cache.transfers.enqueue_download("acme", "app", "cas", "d")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: storage.running == 2)
            assert ["d", "u0"] == sorted(storage.keys)
            storage.gate.set()


async def test_a_slow_transfer_does_not_delay_the_next_batch(tmp_path: Path) -> None:
    """The next transfers of the queue use the places of those that are done."""
    storage = FakeStorage()
    hanging = trio.Event()
    upload = storage.upload

    async def slow(transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
        if transfer.key == "k0":
            await hanging.wait()
        await upload(transfer, path, info)

    storage.upload = slow  # type: ignore[method-assign]
    async with opened(tmp_path, storage=storage, transfer_batch=2, transfer_concurrency=2) as cache:
        await queue(cache, *(f"k{i}" for i in range(9)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: len(storage.objects) == 8)
            hanging.set()
        assert 9 == len(storage.objects)


async def test_a_slow_transfer_does_not_delay_later_ones(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Uploads and downloads continue at the next interval; the slow one is not started again."""
    mock_clock.rate = 1.0  # whatever sleeps wakes up, also while the cache is closed
    storage = FakeStorage()
    hanging = trio.Event()
    upload = storage.upload

    async def slow(transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
        if transfer.key == "slow":
            storage.calls.append(("upload", transfer.key, 0.0))
            await hanging.wait()
        else:
            await upload(transfer, path, info)

    storage.upload = slow  # type: ignore[method-assign]
    storage.objects = {f"down{i}": b"x" for i in range(3)}
    async with opened(
        tmp_path, storage=storage, transfer_interval=5.0, transfer_timeout=math.inf
    ) as cache:

        def done(count: int) -> bool:
            mock_clock.jump(1)
            return worker(cache).statistics().done == count

        await queue(cache, "slow")
        await until(lambda: done(0) and storage.keys == ["slow"])
        for i in range(3):
            await queue(cache, f"fast{i}")
            await cache.transfers.enqueue_download("acme", "app", "cas", f"down{i}")
            await until(lambda i=i: done(2 * i + 2))  # type: ignore[misc]
        assert 1 == storage.keys.count("slow")
        hanging.set()
        await until(lambda: done(7))


async def test_a_transfer_is_not_tried_again_before_its_result_is_known(tmp_path: Path) -> None:
    """A run classifies unavailable transfers at its end; until then other runs skip them."""
    storage = FakeStorage()
    storage.raises["bad"] = UnavailableError("500")
    hanging = trio.Event()
    upload = storage.upload

    async def slow(transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
        if transfer.key == "slow":
            await hanging.wait()
        await upload(transfer, path, info)

    storage.upload = slow  # type: ignore[method-assign]
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "slow", "bad")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: worker(cache).statistics().unavailable == 1)
            await queue(cache, "late")
            await worker(cache).run_once()
            assert ["bad", "late"] == sorted(storage.keys)
            hanging.set()
        assert [("bad", 1)] == await left(cache)
        storage.raises.clear()


async def test_the_runs_share_the_places(tmp_path: Path) -> None:
    """At most `transfer_concurrency` transfers are in progress, in all runs together."""
    storage = FakeStorage()
    storage.stop()
    async with opened(tmp_path, storage=storage, transfer_concurrency=3) as cache:
        async with trio.open_nursery() as nursery:
            for i in range(4):
                await queue(cache, f"a{i}", f"b{i}")
                nursery.start_soon(worker(cache).run_once)
                await until(lambda i=i: storage.running == min(2 * i + 2, 3))  # type: ignore[misc]
            await wait_all_tasks_blocked(0.05)
            storage.gate.set()
        assert (3, 8) == (storage.most, len(storage.calls))


async def test_the_row_of_a_download_is_committed_before_its_transfer_is_deleted(
    tmp_path: Path,
) -> None:
    """A crash leaves the row, the transfer, or both."""
    storage = FakeStorage()
    storage.objects["a"] = b"x"
    async with opened(tmp_path, storage=storage) as cache:
        await cache.transfers.enqueue_download("acme", "app", "cas", "a")
        await cache.flush()
        accepted = cache.buffers.statistics()["s3_transfers"].accepted
        async with trio.open_nursery() as nursery, writer_held(cache):
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: cache.buffers.statistics()["cas_artifacts"].pending == 1)
            await wait_all_tasks_blocked(0.05)
            assert accepted == cache.buffers.statistics()["s3_transfers"].accepted
        assert [] == await left(cache, TransferType.DOWNLOAD)
        assert {"a"} == await cache.artifacts.existing_keys(["a"])


async def test_a_run_that_fails_is_retried_at_the_next_interval(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A read that fails, for example for lack of file descriptors, does not end the worker."""

    def rename(raw: object, old: str, new: str) -> None:
        raw.execute(f"ALTER TABLE {old} RENAME TO {new}")  # type: ignore[attr-defined]

    def passes() -> bool:
        mock_clock.jump(1)
        return True

    async with opened(tmp_path, storage=FakeStorage(), transfer_interval=5.0) as cache:
        await until(lambda: worker(cache).statistics().runs == 1)
        await queue(cache, "a")
        await cache.flush()
        await cache.store.run(rename, "s3_transfers", "away")
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            await until(lambda: passes() and "a run of the" in caplog.text)
        await cache.store.run(rename, "away", "s3_transfers")
        await until(lambda: passes() and worker(cache).statistics().done == 1)
    assert "no such table: s3_transfers" in caplog.text


async def test_a_run_ignores_transfers_that_are_queued_during_it(tmp_path: Path) -> None:
    """So it ends even if transfers are queued all the time."""
    storage = FakeStorage()
    upload = storage.upload

    async def feeding(transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
        await queue(cache, f"{transfer.key}+")
        await upload(transfer, path, info)

    storage.upload = feeding  # type: ignore[method-assign]
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "a", "b")
        await worker(cache).run_once()
        assert ["a", "b"] == sorted(storage.keys)
        assert ["a+", "b+"] == sorted(key for key, _ in await left(cache))


async def test_a_transfer_that_is_deleted_during_a_run_is_not_tried(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A pending delete counts when the next batch is read."""
    del mock_clock
    storage = FakeStorage()
    upload = storage.upload

    async def deleting(transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
        await cache.transfers.delete([second.id])
        await upload(transfer, path, info)

    storage.upload = deleting  # type: ignore[method-assign]
    async with opened(tmp_path, storage=storage, transfer_batch=1, transfer_concurrency=1) as cache:
        await queue(cache, "k0", "k1", "k2")
        second = (await cache.transfers.pending(TransferType.UPLOAD, 10))[1]
        await worker(cache).run_once()
        assert ["k0", "k2"] == storage.keys


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("parts", list(errors))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (group(RateLimitedError("429")), TransferStatistics(runs=1, rate_limited=1)),
        (group(group(RateLimitedError("429"))), TransferStatistics(runs=1, rate_limited=1)),
        (
            group(ValueError("cut"), RateLimitedError("429"), UnavailableError("500")),
            TransferStatistics(runs=1, rate_limited=1),
        ),
        (group(ValueError("cut"), UnavailableError("500")), TransferStatistics(1, unavailable=1)),
        (group(MissingError("none")), TransferStatistics(runs=1, missing=1)),
        (group(MissingError("none"), ValueError("odd")), TransferStatistics(runs=1, failed=1)),
        (group(ValueError("odd")), TransferStatistics(runs=1, failed=1)),
    ],
    ids=repr,
)
async def test_a_group_of_exceptions_is_classified_by_its_members(
    tmp_path: Path, error: Exception, expected: TransferStatistics
) -> None:
    """Rate limits count before unavailability, then failures, then missing objects."""
    storage = FakeStorage()
    storage.raises["k"] = error
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "k")
        await worker(cache).run_once()
        assert expected == worker(cache).statistics()


async def test_a_failure_that_cannot_be_recorded_does_not_stop_the_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The attempt is not counted, and the transfer is retried."""

    def limit(raw: object, what: str) -> None:
        raw.execute(what)  # type: ignore[attr-defined]

    storage = FakeStorage()
    storage.raises["bad"] = RuntimeError("no")
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "bad")
        await cache.store.run(
            limit,
            "CREATE TRIGGER refused BEFORE UPDATE ON s3_transfers "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END",
        )
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            await worker(cache).run_once()
        assert "this attempt is not counted, since the database cannot be written" in caplog.text
        assert [("bad", 0)] == await left(cache)
        await cache.store.run(limit, "DROP TRIGGER refused")
        await worker(cache).run_once()
        assert [("bad", 1)] == await left(cache)


async def test_a_worker_of_a_closed_cache_does_not_run(tmp_path: Path) -> None:
    """`run_once` of both workers raises, whatever their options."""
    async with opened(tmp_path, storage=FakeStorage(), budget_bytes=None) as cache:
        pass
    for run_once in (worker(cache).run_once, cache.evictor.run_once):
        with pytest.raises(trio.ClosedResourceError, match="open_cache block"):
            await run_once()


async def test_a_slow_transfer_does_not_delay_others_after_a_backoff(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Later transfers wait for the backoff after an outage, but not for the slow transfer."""
    mock_clock.rate = 1.0  # whatever sleeps wakes up, also while the cache is closed
    storage = FakeStorage()
    hanging = trio.Event()
    upload, rejected = storage.upload, False

    async def odd(transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
        nonlocal rejected
        if transfer.key == "slow":
            await hanging.wait()
        elif transfer.key == "bad" and not rejected:
            rejected = True
            raise UnavailableError("for now")
        await upload(transfer, path, info)

    storage.upload = odd  # type: ignore[method-assign]
    async with opened(
        tmp_path, storage=storage, transfer_interval=5.0, transfer_timeout=math.inf
    ) as cache:

        def holds(condition: Callable[[], bool]) -> bool:
            mock_clock.jump(1)
            return condition()

        try:
            await queue(cache, "slow", "bad")
            await until(lambda: holds(lambda: rejected))
            await queue(cache, "later")
            await until(lambda: holds(lambda: "later" in storage.keys))
            assert "slow" not in storage.keys
        finally:
            hanging.set()  # else the cache would wait for it
        await until(lambda: holds(lambda: worker(cache).statistics().done == 2))


@pytest.mark.parametrize("error", [None, ValueError("odd")], ids=repr)
async def test_a_transfer_that_ends_after_the_batch_was_read_is_not_repeated(
    tmp_path: Path, error: Exception | None
) -> None:
    """A run skips a transfer that an earlier run finished, even if its own batch still has it."""
    storage = FakeStorage()
    tried: list[str] = []
    slow_started, slow_may_end, second_may_end = trio.Event(), trio.Event(), trio.Event()

    async def upload(transfer: S3Transfer, path: Path, info: ObjectInfo) -> None:
        del path, info
        tried.append(transfer.key)
        if transfer.key == "slow":
            slow_started.set()
            await slow_may_end.wait()
            if error is not None:
                raise error
        elif tried.count(transfer.key) == 1:
            await slow_started.wait()
            raise RateLimitedError("slow down")
        else:
            await second_may_end.wait()

    storage.upload = upload  # type: ignore[method-assign]
    async with opened(tmp_path, storage=storage, transfer_concurrency=2) as cache:
        await queue(cache, "rejected", "slow")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: worker(cache).statistics().rate_limited == 1)
            nursery.start_soon(worker(cache).run_once)
            # The second run has read both transfers, and waits for the place of the slow one.
            await until(lambda: sorted(tried) == ["rejected", "rejected", "slow"])
            slow_may_end.set()
            await until(lambda: worker(cache).statistics().runs == 1)
            second_may_end.set()
        assert ["rejected", "rejected", "slow"] == sorted(tried)
        assert 2 == worker(cache).statistics().runs


async def test_two_contents_of_a_key_are_not_uploaded_at_once(tmp_path: Path) -> None:
    """Otherwise the older one could be the last to arrive."""
    storage = FakeStorage()
    storage.stop()
    async with opened(tmp_path, storage=storage) as cache:
        stored = await cache.artifacts.store("k", b"content")
        for sha256 in ("", stored.sha256 or ""):
            await cache.transfers.enqueue_upload("acme", "app", "cas", "k", sha256=sha256)
        await queue(cache, "other")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker(cache).run_once)
            await until(lambda: storage.running == 2)
            assert ["k", "other"] == sorted(storage.keys)
            storage.gate.set()
        # The second one has the content that the first one has uploaded, so it may be skipped.
        await worker(cache).run_once()
        assert [] == await cache.transfers.pending("upload", 10)


async def test_transfers_are_done_while_the_database_is_locked(tmp_path: Path) -> None:
    """A run reads what is committed, does it once, and does not wait for the lock."""
    storage = FakeStorage()
    async with opened(tmp_path, storage=storage) as cache:
        await queue(cache, "a", "b")
        await cache.flush()
        other = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await cache.transfers.delete([(await cache.transfers.pending("upload", 1))[0].id])
        with trio.fail_after(60):
            await worker(cache).run_once()
            await worker(cache).run_once()
        assert ["b"] == storage.keys
        other.rollback()
        other.close()
        assert [] == await cache.transfers.pending("upload", 10)
