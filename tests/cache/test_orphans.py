"""Opening a cache removes the artifact files without a row, and no other files."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from forebay import BufferOptions, DrainError, dead_letters
from forebay.cache import Cache, open_cache
from forebay.cache import _orphans as orphans
from tests.cache.tools import BY_HAND, ODD_TEXTS, FakeStorage, opened, write_file, writer_held
from tests.log_records import own_records


def there(folder: Path) -> list[Path]:
    """Return the paths of all files below `artifacts`."""
    return sorted(path for path in (folder / "artifacts").rglob("*") if path.is_file())


async def add(cache: Cache, *keys: str, size: int = 1) -> None:
    for key in keys:
        await write_file(cache, key, size)
        await cache.artifacts.track_access(key)


CRASH = """
import os, signal, sys
import trio
from forebay import BufferOptions
from forebay.cache import open_cache

async def main():
    never = BufferOptions(flush_interval=float("inf"))
    async with open_cache(sys.argv[1], buffer_options=never) as cache:
        for key in ("stored", "lost"):
            async with cache.files.writing(key) as path:
                path.write_bytes(b"12345")
            await cache.artifacts.track_access(key)
            if key == "stored":
                await cache.flush()
        async with cache.files.writing("unfinished") as path:
            os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""


async def test_a_file_without_a_row_after_a_crash_is_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The process is killed between the write of a file and the flush of its row."""
    died = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path)], check=False, timeout=60)
    assert -signal.SIGKILL == died.returncode
    assert 3 == len(there(tmp_path))
    with caplog.at_level(logging.WARNING, "forebay.cache"):
        async with opened(tmp_path) as cache:
            assert [cache.files.path("stored")] == there(tmp_path)
            assert {"stored"} == await cache.artifacts.existing_keys(["stored", "lost"])
    assert ["removed 1 files without a row, of 5 bytes"] == [
        record.getMessage() for record in own_records(caplog)
    ]


@pytest.mark.parametrize("batch", [1, 2, 5_000])
async def test_files_with_a_row_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """No key is skipped, in any number of batches."""
    monkeypatch.setattr(orphans, "_BATCH", batch)
    keys = [*ODD_TEXTS, *(f"k{i}" for i in range(20))]
    async with opened(tmp_path) as cache:
        await add(cache, *keys)
        await write_file(cache, "orphan", 1)
    async with opened(tmp_path) as cache:
        assert sorted(cache.files.path(key) for key in keys) == there(tmp_path)


async def test_a_file_that_is_queued_for_upload_stays(tmp_path: Path) -> None:
    """It stays without a row in `cas_artifacts` until it is uploaded."""
    storage = FakeStorage()
    async with opened(tmp_path) as cache:
        for key in ("up", "down"):
            await write_file(cache, key, 1)
        await cache.transfers.enqueue_upload("acme", "app", "cas", "up")
        await cache.transfers.enqueue_download("acme", "app", "cas", "down")
    async with opened(tmp_path, storage=storage) as cache:
        assert [cache.files.path("up")] == there(tmp_path)
        assert cache.transfer_worker is not None
        await cache.transfer_worker.run_once()
    assert ["up"] == list(storage.objects)
    async with opened(tmp_path):
        assert [] == there(tmp_path)


async def test_other_files_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Files with other names stay. A file that cannot be removed is logged as a warning."""
    async with opened(tmp_path) as cache:
        await add(cache, "a")
        stuck = cache.files.path("stuck")
    stuck.mkdir(parents=True)
    others = [tmp_path / "artifacts" / "README", stuck.parent / "notes", stuck.parent / ("x" * 64)]
    for path in others:
        path.write_bytes(b"x")
    with caplog.at_level(logging.WARNING, "forebay.cache"):
        async with opened(tmp_path) as cache:
            assert sorted([*others, cache.files.path("a")]) == there(tmp_path)
            assert stuck.is_dir()
    [record] = own_records(caplog)
    assert f"file '{stuck}' without a row cannot be removed" in record.getMessage()


async def test_files_stay_while_their_rows_may_be_in_a_spill(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """After a failed drain the rows are in a spill, so no file is removed while it exists."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            async with open_cache(
                tmp_path, options=BY_HAND, buffer_options=BufferOptions(drain_timeout=0.01)
            ) as cache:
                await add(cache, "a")
                nursery.start_soon(hold, cache)
                await held.wait()
            raise AssertionError

    async def hold(cache: Cache) -> None:
        async with writer_held(cache):
            held.set()
            with trio.CancelScope(shield=True):
                while not (tmp_path / "unsettled.spill").exists():
                    mock_clock.jump(0.1)
                    await trio.lowlevel.checkpoint()

    held = trio.Event()
    with pytest.RaisesGroup(DrainError, flatten_subgroups=True):
        await run()
    with caplog.at_level(logging.WARNING, "forebay.cache"):
        async with opened(tmp_path) as cache:
            assert [cache.files.path("a")] == there(tmp_path)
    assert "files without a row are not removed" in caplog.text
    (tmp_path / "unsettled.spill").unlink()
    async with opened(tmp_path):
        assert [] == there(tmp_path)


@pytest.mark.parametrize("name", ["unsettled.spill.1", "unsettled.spill.part"])
async def test_files_stay_while_there_is_any_spill(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The spill of a second failed drain has a number, and an unfinished one has a suffix."""
    async with opened(tmp_path) as cache:
        await write_file(cache, "a", 1)
    (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING, "forebay.cache"):
        async with opened(tmp_path) as cache:
            assert [cache.files.path("a")] == there(tmp_path)
    assert str(tmp_path / name) in caplog.text


@pytest.mark.parametrize("table", ["cas_artifacts", "s3_transfers"])
async def test_files_stay_while_their_rows_may_be_dead_letters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, table: str
) -> None:
    """The files exist when an operator replays the dead letters."""

    def execute(raw: object, sql: str) -> None:
        raw.execute(sql)  # type: ignore[attr-defined]

    refuse = f"CREATE TRIGGER no BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"
    async with opened(tmp_path) as cache:
        await cache.store.run(execute, refuse)
        await write_file(cache, "a", 1)
        if table == "cas_artifacts":
            await cache.artifacts.track_access("a")
        else:
            await cache.transfers.enqueue_upload("acme", "app", "cas", "a")
    with caplog.at_level(logging.WARNING, "forebay.cache"):
        async with opened(tmp_path) as cache:
            assert [cache.files.path("a")] == there(tmp_path)
            await cache.store.run(execute, "DROP TRIGGER no")
            assert 1 == await dead_letters.purge(cache.store, buffer=table)
    assert "among the 1 dead letters of cas_artifacts and s3_transfers" in caplog.text
    async with opened(tmp_path) as cache:
        assert [] == there(tmp_path)


@pytest.mark.parametrize("key", ["x'00ff'", "CAST(x'ff' AS TEXT)", "''"])
async def test_files_stay_if_a_key_is_not_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    """A cache opens in spite of an invalid row of another program."""

    def insert(raw: object) -> None:
        raw.execute(  # type: ignore[attr-defined]
            "INSERT INTO cas_artifacts (key, last_accessed_at, inserted_at, updated_at) "  # noqa: S608  # a constant
            f"VALUES ({key}, 0, 0, 0)"
        )

    async with opened(tmp_path) as cache:
        await write_file(cache, "a", 1)
        await cache.store.run(insert)
    with caplog.at_level(logging.WARNING, "forebay.cache"):
        async with opened(tmp_path) as cache:
            assert ([cache.files.path("a")] if key != "''" else []) == there(tmp_path)
    assert (key != "''") == ("the keys cannot be read" in caplog.text)


async def test_an_unfinished_file_that_cannot_be_removed_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder among the unfinished files is logged as a warning, and the cache opens."""
    partial = tmp_path / "artifacts" / "partial"
    (partial / "folder").mkdir(parents=True)
    (partial / "file").touch()
    with caplog.at_level(logging.WARNING, "forebay.cache"):
        async with opened(tmp_path):
            assert [partial / "folder"] == list(partial.iterdir())
    [record] = own_records(caplog)
    assert f"unfinished file '{partial / 'folder'}' cannot be removed" in record.getMessage()


async def test_other_tasks_run_while_files_are_checked(tmp_path: Path) -> None:
    """Opening a cache with many files does not block the event loop."""
    async with opened(tmp_path) as cache:
        await add(cache, "a")
    steps = 0

    async def count() -> None:
        nonlocal steps
        while True:
            await trio.lowlevel.checkpoint()
            steps += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        async with opened(tmp_path):
            assert steps > 256
        nursery.cancel_scope.cancel()
