"""`Evictor`: the least recently used artifacts are evicted until the usage is at the target."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import BufferOptions
from forebay.cache import (
    ArtifactFiles,
    Cache,
    CacheArtifacts,
    CacheOptions,
    CasArtifact,
    Evictor,
    EvictorStatistics,
    open_cache,
)
from forebay.cache.files import Usage
from forebay.cache.tables import CAS_ARTIFACTS, S3_TRANSFERS
from tests.cache.tools import (
    BY_HAND,
    NOON,
    SECOND,
    FakeClock,
    opened,
    until,
    write_file,
    writer_held,
)
from tests.log_records import own_records


async def fill(cache: Cache, clock: FakeClock, *sizes: int, start: int = 0) -> None:
    """Add artifacts with files of these sizes. The first one is the least recently used."""
    for i, size in enumerate(sizes, start):
        clock.advance(1)
        await write_file(cache, f"k{i}", size)
        await cache.artifacts.track_access(f"k{i}")


async def keys(cache: Cache) -> list[str]:
    return [artifact.key for artifact in await cache.artifacts.oldest(100_000)]


def files(cache: Cache, count: int) -> list[str]:
    return [f"k{i}" for i in range(count) if cache.files.path(f"k{i}").exists()]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((), []),
        ((80, 4), ["k0", "k1"]),  # 84 of 100 is below the watermark
        ((5,) * 16 + (4,), [f"k{i}" for i in range(17)]),
        ((5,) * 17, [f"k{i}" for i in range(2, 17)]),  # 85 is evicted down to 75
        ((84, 1), ["k1"]),  # a large artifact may leave less than the target
        ((1, 84), []),  # also if it is the last one
        ((200,), []),
    ],
)
async def test_artifacts_are_evicted_from_the_watermark_down_to_the_target(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    sizes: tuple[int, ...],
    expected: list[str],
) -> None:
    """From 85 % of the budget, files and rows are removed in the order of access, down to 75 %."""
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100) as cache:
        await fill(cache, clock, *sizes)
        done = await cache.evictor.run_once()
        assert expected == await keys(cache)
        assert sorted(expected) == sorted(files(cache, len(sizes)))
        assert len(sizes) - len(expected) == done.removed
        assert sum(sizes[: len(sizes) - len(expected)]) == done.freed_bytes
        assert int(sum(sizes) >= 85) == done.evictions
        assert [] == own_records(caplog)


async def test_an_artifact_that_was_just_used_stays(tmp_path: Path) -> None:
    """Also if its access is still pending."""
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100, touch_interval=0.0) as cache:
        await fill(cache, clock, 30, 30, 30)
        await cache.flush()
        clock.advance(1)
        await cache.artifacts.track_access("k0")
        await cache.evictor.run_once()
        assert ["k2", "k0"] == await keys(cache)


async def test_the_watermarks_are_options(tmp_path: Path) -> None:
    """Other values than the defaults have their effect."""
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100, high_watermark=0.5, target=0.0) as cache:
        await fill(cache, clock, 49)
        assert 0 == (await cache.evictor.run_once()).evictions
        await fill(cache, clock, 1, start=1)
        assert 2 == (await cache.evictor.run_once()).removed
        assert [] == await keys(cache)


async def test_a_missing_file_counts_as_removed(tmp_path: Path) -> None:
    """Its row is removed, and the size in the row counts as freed."""
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100) as cache:
        await fill(cache, clock, 40, 40, 10)
        cache.files.path("k0").unlink()
        done = await cache.evictor.run_once()
        assert (1, 40, 0) == (done.removed, done.freed_bytes, done.skipped)
        assert ["k1", "k2"] == await keys(cache)


@pytest.mark.parametrize("stuck", [1, 3, 600])
async def test_files_that_cannot_be_removed_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stuck: int
) -> None:
    """Each is logged and keeps its row, even if there are more of them than a batch holds."""
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100) as cache:
        for i in range(stuck):
            clock.advance(1)
            cache.files.path(f"stuck{i}").mkdir(parents=True)
            await cache.artifacts.track_access(f"stuck{i}")
        # Set to NULL, since these rows have no size that could count as freed.
        await cache.flush()
        await cache.store.run(forget_sizes)
        await fill(cache, clock, 40, 40, 10)
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            done = await cache.evictor.run_once()
        assert (1, stuck) == (done.removed, done.skipped)
        assert stuck == sum("is skipped" in record.getMessage() for record in own_records(caplog))
        assert [*(f"stuck{i}" for i in range(stuck)), "k1", "k2"] == await keys(cache)


def forget_sizes(raw: object) -> None:
    raw.execute("UPDATE cas_artifacts SET size_bytes = NULL")  # type: ignore[attr-defined]


class FilesOnDisk(ArtifactFiles):
    """Files on a disk whose usage the test sets."""

    def __init__(self, directory: Path, used: Callable[[], int], limit: int = 100) -> None:
        super().__init__(directory)
        self.used = used
        self.limit = limit

    async def disk_usage(self) -> Usage:
        return Usage(self.used(), self.limit)


def disk_evictor(cache: Cache, disk: FilesOnDisk) -> Evictor:
    return Evictor(cache.artifacts, disk, CacheOptions())


async def test_without_a_budget_the_usage_of_the_disk_counts(tmp_path: Path) -> None:
    """From 85 % of the disk, files are removed until it is at 75 %."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        await fill(cache, clock, 4, 4, 4, 4)
        full = FilesOnDisk(tmp_path / "artifacts", lambda: 84)
        assert 0 == (await disk_evictor(cache, full).run_once()).removed
        full.used = lambda: 85
        done = await disk_evictor(cache, full).run_once()
        assert (3, 12) == (done.removed, done.freed_bytes)
        assert ["k3"] == await keys(cache)


async def test_on_a_disk_the_sizes_of_the_files_count(tmp_path: Path) -> None:
    """An artifact frees the size of its file, not the size in its row."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        await fill(cache, clock, 5, 5, 5, 5)
        cache.files.path("k0").unlink()
        await cache.flush()
        await cache.store.run(forget_sizes)
        done = await disk_evictor(cache, FilesOnDisk(tmp_path / "artifacts", lambda: 90)).run_once()
        assert (15, 4) == (done.freed_bytes, done.removed)


async def test_an_evictor_with_nothing_left_to_evict_logs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run ends, even if other programs fill the disk."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        await fill(cache, clock, 1, 1)
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            evictor = disk_evictor(cache, FilesOnDisk(tmp_path / "artifacts", lambda: 99))
            done = await evictor.run_once()
        assert (2, 2) == (done.removed, done.freed_bytes)
        assert ["the usage is still 97 of 100 bytes, but no artifact is left to evict"] == [
            record.getMessage() for record in own_records(caplog)
        ]


async def test_nothing_is_evicted_if_the_usage_of_the_disk_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged as a warning, and the next run checks again."""

    def broken() -> int:
        raise OSError(5, "Input/output error")

    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        await fill(cache, clock, 1)
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            evictor = disk_evictor(cache, FilesOnDisk(tmp_path / "artifacts", broken))
            assert EvictorStatistics(runs=1) == await evictor.run_once()
        assert "Input/output error" in caplog.text
        assert ["k0"] == await keys(cache)


async def test_it_works_in_batches_of_500(tmp_path: Path, mock_clock: MockClock) -> None:
    """500 files are removed at a time, and then their rows."""
    del mock_clock
    batches: list[int] = []

    class Counted(ArtifactFiles):
        async def remove(self, keys):  # type: ignore[no-untyped-def]
            batches.append(len(keys))
            return await super().remove(keys)

    clock = FakeClock()
    options = replace(BY_HAND, budget_bytes=1_300, target=0.0)
    async with opened(tmp_path, clock) as cache:
        counted = Counted(tmp_path / "artifacts")
        artifacts = CacheArtifacts(
            cache.store,
            cache.buffers[CAS_ARTIFACTS],
            cache.buffers[S3_TRANSFERS],
            counted,
            clock=clock,
        )
        for i in range(1_203):
            await write_file(cache, f"k{i}", 1)
            await cache.artifacts.track_access(f"k{i}")
        await cache.flush()
        before = cache.buffers[CAS_ARTIFACTS].statistics()
        done = await Evictor(artifacts, counted, options).run_once()
        after = cache.buffers[CAS_ARTIFACTS].statistics()
        assert 1_203 == done.removed
        assert [500, 500, 203] == batches
        # Each batch is committed before the next one is read, so other writers get their turn.
        assert (1_000, 2) == (after.committed - before.committed, after.flushes - before.flushes)


@pytest.mark.parametrize("count", [500, 2_000])
async def test_the_work_is_proportional_to_the_artifacts(tmp_path: Path, count: int) -> None:
    """Rows are read in batches of 500, even if each file is missing and frees nothing."""
    reads: list[int] = []

    class Counted(CacheArtifacts):
        async def oldest(self, limit: int = 500, **options: Any) -> list[CasArtifact]:
            artifacts = await super().oldest(limit, **options)
            reads.append(len(artifacts))
            return artifacts

    def insert(raw: sqlite3.Connection) -> None:
        raw.executemany(
            "INSERT INTO cas_artifacts (key, size_bytes, last_accessed_at, inserted_at, updated_at)"
            " VALUES (?, 1000, ?, 0, 0)",
            ((f"k{i}", i) for i in range(count)),
        )

    async with opened(tmp_path) as cache:
        await cache.store.run(insert)
        disk = FilesOnDisk(tmp_path / "artifacts", lambda: 85)
        artifacts = Counted(
            cache.store,
            cache.buffers[CAS_ARTIFACTS],
            cache.buffers[S3_TRANSFERS],
            disk,
            clock=FakeClock(),
        )
        done = await Evictor(artifacts, disk, CacheOptions()).run_once()
        assert (count, 0) == (done.removed, done.freed_bytes)
        # The last two found nothing more, among the others and among those queued for upload.
        assert [500] * (count // 500) + [0, 0] == reads


@pytest.mark.parametrize("capacity", [2, 1_000])
async def test_it_does_not_wait_for_a_flush_that_cannot_succeed(
    tmp_path: Path, mock_clock: MockClock, capacity: int
) -> None:
    """On a full disk only eviction makes a flush possible, so it uses the committed rows."""
    mock_clock.rate = 100.0
    clock = FakeClock()
    small = {"cas_artifacts": BufferOptions(capacity=capacity)}
    options = replace(BY_HAND, budget_bytes=100)
    async with open_cache(tmp_path, options=options, buffer_overrides=small, clock=clock) as cache:
        await fill(cache, clock, *[10] * 9)
        await cache.flush()
        async with writer_held(cache):
            await cache.artifacts.track_access("k8")
            await cache.artifacts.track_access("k9")
            with trio.fail_after(20 * mock_clock.rate):
                done = await cache.evictor.run_once()
            assert (2, 20) == (done.removed, done.freed_bytes)
            assert [f"k{i}" for i in range(2, 9)] == files(cache, 9)
        # A later run deletes the rows for which the buffer had no capacity.
        await fill(cache, clock, 15, start=10)
        await cache.evictor.run_once()
        assert [] == [key for key in await keys(cache) if key in ("k0", "k1")]


async def test_an_upload_that_waits_for_the_buffer_does_not_stop_an_eviction(
    tmp_path: Path,
) -> None:
    """On a full disk, the buffer has no capacity before artifacts are evicted."""
    clock = FakeClock()
    options = replace(BY_HAND, budget_bytes=100)
    small = {"cas_artifacts": BufferOptions(capacity=4)}
    async with open_cache(tmp_path, options=options, buffer_overrides=small, clock=clock) as cache:
        await fill(cache, clock, *[10] * 10)
        await cache.flush()
        async with trio.open_nursery() as nursery, writer_held(cache):
            for key in ("1", "2", "3", "4"):
                await cache.artifacts.track_access(key)
            nursery.start_soon(cache.artifacts.store, "k0", b"new")
            await until(lambda: cache.buffers[CAS_ARTIFACTS].statistics().waiting == 1)
            with trio.fail_after(20):
                assert 3 == (await cache.evictor.run_once()).removed
            assert ["k0", *(f"k{i}" for i in range(4, 10))] == files(cache, 10)
        async with cache.artifacts.reading("k0") as reader:
            assert reader is not None
            assert b"new" == reader.content


async def accesses(cache: Cache) -> dict[str, int]:
    return {each.key: each.last_accessed_at for each in await cache.artifacts.oldest(10_000)}


async def test_an_access_in_the_future_counts_as_one_now(tmp_path: Path) -> None:
    """Artifacts that were used while the clock was ahead are evicted before those used later."""
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100) as cache:
        await fill(cache, clock, 10)
        clock.advance(3600)
        await fill(cache, clock, 10, 10, start=1)
        clock.advance(-3600)
        before = clock.now
        await cache.evictor.run_once()
        assert {"k0": NOON + SECOND, "k1": before, "k2": before} == await accesses(cache)
        await fill(cache, clock, *[10] * 6, start=3)
        assert 2 == (await cache.evictor.run_once()).removed
        assert [f"k{i}" for i in range(2, 9)] == await keys(cache)


async def test_future_accesses_are_corrected_in_short_transactions(tmp_path: Path) -> None:
    """500 rows at a time, so that other writers get their turn."""
    statements: list[str] = []

    def trace(raw: sqlite3.Connection, callback: Callable[[str], None] | None) -> None:
        raw.set_trace_callback(callback)

    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        clock.advance(3600)
        for i in range(1_203):
            await cache.artifacts.track_access(f"k{i}")
        await cache.flush()
        clock.advance(-3600)
        await cache.store.run(trace, statements.append)
        await cache.artifacts.correct_future_accesses()
        await cache.store.run(trace, None)
        assert {clock.now} == set((await accesses(cache)).values())
        updates = [each for each in statements if each.startswith("UPDATE main.cas_artifacts")]
        assert 3 == len(updates)
        assert 3 <= len([each for each in statements if each.startswith("COMMIT")])


async def test_future_accesses_that_cannot_be_corrected_do_not_stop_an_eviction(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning is logged, as on a full disk, and these artifacts are evicted last."""

    def refuse(raw: sqlite3.Connection) -> None:
        raw.execute(
            "CREATE TRIGGER refused BEFORE UPDATE OF last_accessed_at ON cas_artifacts "
            "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )

    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100) as cache:
        clock.advance(3600)
        await fill(cache, clock, 10, 10)
        clock.advance(-3600)
        await fill(cache, clock, *[10] * 7, start=2)
        await cache.flush()
        await cache.store.run(refuse)
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            assert 2 == (await cache.evictor.run_once()).removed
        assert ["k4", "k5", "k6", "k7", "k8", "k0", "k1"] == await keys(cache)
    [record] = own_records(caplog)
    assert "last accesses in the future cannot be corrected: disk full" == record.getMessage()


async def test_a_lock_does_not_delay_an_eviction_with_future_accesses(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The correction waits at most a second, and the next run repeats it."""
    mock_clock.rate = 100.0
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100) as cache:
        clock.advance(3600)
        await fill(cache, clock, 10)
        clock.advance(-3600)
        await fill(cache, clock, *[10] * 8, start=1)
        await cache.flush()
        other = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with trio.fail_after(20 * mock_clock.rate):
            assert 2 == (await cache.evictor.run_once()).removed
        assert [f"k{i}" for i in (0, *range(3, 9))] == files(cache, 9)
        other.close()
        await cache.evictor.run_once()
        assert clock.now == (await accesses(cache))["k0"]


async def test_a_run_that_fails_is_retried_at_the_next_interval(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A read that fails, for example for lack of file descriptors, does not end the worker."""
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100, eviction_interval=60.0) as cache:
        await until(lambda: cache.evictor.statistics().runs == 1)
        await fill(cache, clock, 50, 50)
        await cache.flush()
        await cache.store.run(rename, "cas_artifacts", "away")
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            await wait_all_tasks_blocked()
            mock_clock.jump(60)
            await until(lambda: "a run of the" in caplog.text)
        await cache.store.run(rename, "away", "cas_artifacts")
        await wait_all_tasks_blocked()
        mock_clock.jump(60)
        await until(lambda: cache.evictor.statistics().removed == 1)
    [record] = own_records(caplog)
    assert "no such table: cas_artifacts" in record.getMessage()


def rename(raw: object, old: str, new: str) -> None:
    raw.execute(f"ALTER TABLE {old} RENAME TO {new}")  # type: ignore[attr-defined]


@pytest.mark.parametrize("flushed", [False, True])
async def test_artifacts_that_are_queued_for_upload_are_evicted_last(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, flushed: bool
) -> None:
    """Even if they were used least recently. A warning has the number of lost uploads."""
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100) as cache:
        await fill(cache, clock, *[10] * 9)
        for key in ("k0", "k1", "k2", "none"):
            await cache.transfers.enqueue_upload("acme", "app", "cas", key)
        await cache.transfers.enqueue_download("acme", "app", "cas", "k3")
        if flushed:
            await cache.flush()
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            assert 2 == (await cache.evictor.run_once()).removed
        assert ["k0", "k1", "k2", "k5", "k6", "k7", "k8"] == await keys(cache)
        assert "" == caplog.text
        await write_file(cache, "k0", 90)
        await cache.artifacts.track_access("k0")
        with caplog.at_level(logging.WARNING, "forebay.cache"):
            assert 7 == (await cache.evictor.run_once()).removed
        assert [] == await keys(cache)
        assert ["3 artifacts were evicted before their queued upload, which is lost"] == [
            record.getMessage() for record in own_records(caplog)
        ]


async def test_a_budget_may_exceed_32_bits(tmp_path: Path) -> None:
    """A budget of terabytes is exact."""
    clock = FakeClock()
    tebi = 2**40
    async with opened(tmp_path, clock, budget_bytes=10 * tebi) as cache:
        await fill(cache, clock, *[3 * tebi] * 4)
        done = await cache.evictor.run_once()
        assert (2, 6 * tebi) == (done.removed, done.freed_bytes)


async def test_two_runs_at_once_evict_once(tmp_path: Path) -> None:
    """The second run waits for the first, and finds the usage below the watermark."""
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100) as cache:
        await fill(cache, clock, *[10] * 9)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.evictor.run_once)
            nursery.start_soon(cache.evictor.run_once)
        assert EvictorStatistics(runs=2, evictions=1, removed=2, freed_bytes=20) == (
            cache.evictor.statistics()
        )
        assert 7 == len(await keys(cache))


async def test_a_cache_stays_within_its_budget(tmp_path: Path) -> None:
    """It is below the watermark after each run, while four times its budget is added."""
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=10_000) as cache:
        for group in range(20):
            await fill(cache, clock, *[97] * 20, start=20 * group)
            await cache.evictor.run_once()
            left = files(cache, 20 * group + 20)
            assert 8_500 > 97 * len(left)
            assert left == await keys(cache)
        assert "k399" in left


async def test_it_runs_at_once_and_at_every_interval(tmp_path: Path, mock_clock: MockClock) -> None:
    """The worker runs when the cache opens, and again after each interval."""
    clock = FakeClock()
    async with opened(tmp_path, clock, budget_bytes=100, eviction_interval=60.0) as cache:
        await until(lambda: cache.evictor.statistics().runs == 1)
        await fill(cache, clock, 50, 50)
        await wait_all_tasks_blocked()
        assert 1 == cache.evictor.statistics().runs
        mock_clock.jump(60)
        await until(lambda: cache.evictor.statistics().runs == 2)
        assert ["k1"] == await keys(cache)


async def test_closing_ends_an_eviction_after_the_batch_in_progress(tmp_path: Path) -> None:
    """Closing waits for at most 500 files. The next opening evicts the others."""
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        for i in range(1_100):
            await cache.artifacts.track_access(f"k{i:04}")
        await cache.flush()
    async with opened(tmp_path, clock) as cache:
        evictor = disk_evictor(cache, FilesOnDisk(tmp_path / "artifacts", lambda: 99))
        stopping = trio.Event()
        async with trio.open_nursery() as nursery, writer_held(cache):
            # The first batch waits for its flush.
            await cache.key_values.put("id", "acme", "app", [])
            await cache.artifacts.track_access("k9999")
            nursery.start_soon(evictor.run, stopping)
            await wait_all_tasks_blocked(0.1)
            stopping.set()
        assert 500 == evictor.statistics().removed
        assert 601 == len(await keys(cache))


def test_statistics_add_up() -> None:
    """The sum of two runs has the sum of each count."""
    run = EvictorStatistics(runs=1, evictions=1, removed=2, freed_bytes=3 * SECOND, skipped=4)
    assert EvictorStatistics(2, 2, 4, 6 * SECOND, 8) == run + run
