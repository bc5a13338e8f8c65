"""`open_cache`: everything is opened together and closed in order, however the block ends."""

from __future__ import annotations

import dataclasses
import math
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import (
    BufferOptions,
    FlushError,
    OptionsError,
    RetryPolicy,
    SchemaError,
    StoreError,
    Write,
)
from forebay.cache import (
    Cache,
    CacheOptions,
    S3Transfer,
    TransferStatistics,
    TransferType,
    open_cache,
)
from tests.cache.tools import (
    BY_HAND,
    FakeClock,
    FakeStorage,
    opened,
    until,
    write_file,
    writer_held,
)


def stored(directory: Path, table: str) -> list[tuple[Any, ...]]:
    """Read a table with another connection, after the cache was closed."""
    connection = sqlite3.connect(directory / "cache.db")
    try:
        return connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608  # a constant
    finally:
        connection.close()


async def test_everything_is_in_one_folder(tmp_path: Path) -> None:
    """The folder and its parents are created, with access for the owner only."""
    folder = tmp_path / "some" / "where"
    async with opened(folder) as cache:
        await write_file(cache, "a", 1)
        assert ["artifacts", "cache.db", "cache.lock"] == sorted(
            path.name for path in folder.iterdir() if path.suffix not in {".db-wal", ".db-shm"}
        )
        assert 0 == folder.stat().st_mode & 0o077
        assert 0 == (folder / "cache.db").stat().st_mode & 0o077
        folders = [path for path in (folder / "artifacts").rglob("*") if path.is_dir()]
        for each in (folder / "artifacts", *folders):
            assert 0 == each.stat().st_mode & 0o077


async def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    """Opening raises the error of the store."""
    (tmp_path / "cache.db").write_bytes(b"not a database" * 1_000)
    with pytest.raises(StoreError, match=r"cache\.db"):
        async with opened(tmp_path):
            raise AssertionError


OPENING = """
import sys, trio
from forebay.cache import open_cache

async def main():
    async with open_cache(sys.argv[1]):
        print("open", flush=True)
        sys.stdin.read()

trio.run(main)
"""


async def test_one_process_at_a_time_uses_the_folder(tmp_path: Path) -> None:
    """A second opening fails at once and removes nothing. A crash releases the lock."""
    async with opened(tmp_path) as cache, cache.files.writing("a") as path:
        with pytest.raises(StoreError, match=f"'{tmp_path}' is open already"):
            async with opened(tmp_path):
                raise AssertionError
        assert path.exists()
    with subprocess.Popen(
        [sys.executable, "-c", OPENING, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert "open\n" == other.stdout.readline()
        with pytest.raises(StoreError, match="is open already"):
            async with opened(tmp_path):
                raise AssertionError
        other.kill()
    async with opened(tmp_path):
        pass


async def use(cache: Cache, name: str) -> None:
    await cache.key_values.put(name, "acme", "app", [name])
    await cache.artifacts.track_access(name)
    await cache.transfers.enqueue_upload("acme", "app", "cas", name)


async def first_run(cache: Cache) -> None:
    """Wait for the first run of the transfer worker, which finds an empty queue."""
    await until(lambda: cache.statistics().transfers == TransferStatistics(runs=1))


class BodyError(Exception):
    pass


@pytest.mark.parametrize("how", ["normally", "by an exception", "by cancellation"])
async def test_the_block_drains_however_it_ends(
    tmp_path: Path, mock_clock: MockClock, how: str
) -> None:
    """All accepted entries are committed, and the body's exception is raised unchanged."""
    del mock_clock
    with trio.CancelScope() as scope:
        try:
            async with opened(tmp_path, storage=FakeStorage(), transfer_interval=1.0) as cache:
                await first_run(cache)
                await use(cache, "a")
                if how == "by an exception":
                    raise BodyError  # noqa: TRY301  # the error of the body
                if how == "by cancellation":
                    scope.cancel()
                    await trio.sleep_forever()
        except BodyError:
            assert how == "by an exception"
    assert scope.cancelled_caught == (how == "by cancellation")
    for table in ("key_value_entries", "cas_artifacts", "s3_transfers"):
        assert 1 == len(stored(tmp_path, table))


async def test_calls_are_refused_first(tmp_path: Path) -> None:
    """The stores refuse calls while the workers finish their work."""
    storage = FakeStorage()
    storage.stop()
    refused: list[str] = []
    async with trio.open_nursery() as nursery:
        async with opened(tmp_path, storage=storage, transfer_interval=0.01) as cache:
            await use(cache, "a")
            await until(lambda: storage.running == 1)
            worker = cache.transfer_worker
            assert worker is not None
            calls: dict[str, Callable[[], Any]] = {
                "put": lambda: cache.key_values.put("b", "acme", "app", []),
                "get": lambda: cache.key_values.get("b", "acme", "app"),
                "track_access": lambda: cache.artifacts.track_access("b"),
                "oldest": cache.artifacts.oldest,
                "existing_keys": lambda: cache.artifacts.existing_keys(["b"]),
                "total_bytes": cache.artifacts.total_bytes,
                "delete": lambda: cache.artifacts.delete(["b"]),
                "delete_project": lambda: cache.artifacts.delete_project("acme", "app"),
                "upload": lambda: cache.transfers.enqueue_upload("acme", "app", "cas", "b"),
                "download": lambda: cache.transfers.enqueue_download("acme", "app", "cas", "b"),
                "pending": lambda: cache.transfers.pending(TransferType.UPLOAD, 1),
                "delete transfers": lambda: cache.transfers.delete(["b"]),
                "evict": cache.evictor.run_once,
                "transfer": worker.run_once,
                "write a file": lambda: cache.files.writing("b").__aenter__(),
            }

            async def use_late() -> None:
                await wait_all_tasks_blocked()  # the block is being left
                for name, call in calls.items():
                    with pytest.raises(trio.ClosedResourceError, match="open_cache block"):
                        await call()
                    refused.append(name)
                storage.gate.set()

            nursery.start_soon(use_late)
        assert list(calls) == refused


async def test_workers_end_before_the_buffers_drain_and_the_database_closes(tmp_path: Path) -> None:
    """A transfer in progress is completed, and its result is committed."""
    storage = FakeStorage()
    storage.objects["down"] = b"12345"
    storage.stop()
    async with opened(tmp_path) as cache:
        await write_file(cache, "up", 3)
        await cache.transfers.enqueue_upload("acme", "app", "cas", "up")
        await cache.transfers.enqueue_download("acme", "app", "cas", "down")
    async with opened(
        tmp_path, storage=storage, transfer_interval=1.0, transfer_concurrency=1
    ) as cache:
        await until(lambda: storage.running == 1)
        storage.gate.set()
    assert b"\0\0\0" == storage.objects["up"]
    # The download had not begun, and does not begin while the cache closes.
    assert ["up"] == storage.keys
    assert ["down"] == [row[5] for row in stored(tmp_path, "s3_transfers")]
    with pytest.raises(trio.ClosedResourceError):
        await cache.store.fetch_all("SELECT 1")


async def test_a_download_that_ends_while_the_cache_closes_is_tracked(tmp_path: Path) -> None:
    """Its row is written even though the stores refuse other calls already."""
    storage = FakeStorage()
    storage.objects["down"] = b"12345"
    storage.stop()

    async def go_on() -> None:
        await until(lambda: storage.running == 1)
        await wait_all_tasks_blocked()  # the block is being left
        storage.gate.set()

    async with (
        trio.open_nursery() as nursery,
        opened(tmp_path, storage=storage, transfer_interval=0.01) as cache,
    ):
        await cache.transfers.enqueue_download("acme", "app", "cas", "down")
        await until(lambda: storage.running == 1)
        nursery.start_soon(go_on)
    assert [("down", 5)] == [row[1:3] for row in stored(tmp_path, "cas_artifacts")]
    assert [] == stored(tmp_path, "s3_transfers")


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_transfer_that_does_not_end_is_cancelled_at_the_deadline(
    tmp_path: Path, mock_clock: MockClock, *, cancelled: bool
) -> None:
    """It stays queued and loses no attempt, and the buffers drain."""
    storage = FakeStorage()
    storage.stop()
    ended: list[float] = []
    async with opened(tmp_path) as cache:
        await use(cache, "a")

    async def run() -> None:
        with trio.CancelScope() as scope:
            async with opened(
                tmp_path, storage=storage, transfer_interval=1.0, stop_timeout=7.0
            ) as cache:
                await until(lambda: storage.running == 1)
                await cache.key_values.put("late", "acme", "app", [])
                if cancelled:
                    scope.cancel()
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await until(lambda: storage.running == 1)
        await wait_all_tasks_blocked()
        mock_clock.jump(6.9)
        await wait_all_tasks_blocked()
        assert [] == ended
        mock_clock.jump(0.1)
    assert [7.0] == ended
    assert [("a", 0)] == [(row[5], row[7]) for row in stored(tmp_path, "s3_transfers")]
    assert 2 == len(stored(tmp_path, "key_value_entries"))


async def test_a_worker_that_fails_ends_the_block_with_its_exception(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The body is cancelled, the buffers drain, and the exception is raised unchanged."""

    class Breaking(FakeClock):
        broken = False

        def __call__(self) -> int:
            if self.broken:
                raise trio.BrokenResourceError("a buffer failed")
            return super().__call__()

    clock = Breaking()

    async def run() -> None:
        async with opened(tmp_path, clock, storage=FakeStorage(), transfer_interval=1.0) as cache:
            await first_run(cache)
            await use(cache, "a")
            clock.broken = True
            await wait_all_tasks_blocked()
            mock_clock.jump(1)
            await trio.sleep_forever()

    with pytest.raises(trio.BrokenResourceError, match="a buffer failed"):
        await run()
    assert 1 == len(stored(tmp_path, "key_value_entries"))


def drop(raw: sqlite3.Connection) -> None:
    raw.execute("DROP TABLE key_value_entries")


async def test_a_buffer_that_fails_ends_the_block_and_names_its_entries(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The entries of the other tables are committed."""
    del mock_clock

    async def run() -> None:
        async with opened(
            tmp_path, storage=FakeStorage(), eviction_interval=60.0, transfer_interval=60.0
        ) as cache:
            await first_run(cache)
            await use(cache, "a")
            await cache.store.run(drop)
            await cache.flush()

    with pytest.raises(FlushError) as caught:
        await run()
    assert "key_value_entries" == caught.value.buffer
    [entry] = caught.value.unsettled.entries
    assert isinstance(entry, Write)
    assert "keyvalue:acme:app:a" in repr(entry)
    assert "keyvalue:acme:app:a" in (tmp_path / "unsettled.spill").read_text()
    assert 1 == len(stored(tmp_path, "cas_artifacts"))
    assert 1 == len(stored(tmp_path, "s3_transfers"))


def refuse_changes(raw: sqlite3.Connection) -> None:
    for what in ("INSERT", "DELETE"):
        raw.execute(
            f"CREATE TRIGGER refused_{what} BEFORE {what} ON s3_transfers "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )


def opened_unforgiving(
    directory: Path, storage: FakeStorage, **changes: object
) -> AbstractAsyncContextManager[Cache]:
    """Open a cache in which the buffer of the queue fails at the first refused row."""
    return open_cache(
        directory,
        storage=storage,
        options=dataclasses.replace(BY_HAND, **changes),  # type: ignore[arg-type]  # names of options
        buffer_overrides={"s3_transfers": BufferOptions(dead_letters_per_minute=0)},
    )


async def test_a_worker_whose_buffer_fails_adds_no_error(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Only the failure of the buffer is raised."""
    del mock_clock
    storage = FakeStorage()
    storage.stop()

    async def run() -> None:
        async with opened_unforgiving(tmp_path, storage) as cache:
            await use(cache, "a")
            assert cache.transfer_worker is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cache.transfer_worker.run_once)
                await until(lambda: storage.running == 1)
                await cache.store.run(refuse_changes)
                storage.gate.set()

    with pytest.raises(FlushError) as caught:
        await run()
    assert "s3_transfers" == caught.value.buffer


async def test_a_worker_during_a_transfer_adds_no_error(
    tmp_path: Path,
) -> None:
    """Only the failure of the buffer is raised if the worker runs in the background, too."""
    storage = FakeStorage()
    storage.stop()

    async def run() -> None:
        async with opened_unforgiving(tmp_path, storage, transfer_interval=60.0) as cache:
            await until(lambda: storage.running == 2)
            await cache.store.run(refuse_changes)
            await cache.transfers.enqueue_upload("acme", "app", "cas", "c")
            await cache.flush()

    async with opened(tmp_path) as cache:
        for key in ("a", "b"):
            await cache.transfers.enqueue_upload("acme", "app", "cas", key)
    async with trio.open_nursery() as nursery:

        async def go_on() -> None:
            await until(lambda: storage.running == 2)
            await wait_all_tasks_blocked(0.05)
            storage.gate.set()

        nursery.start_soon(go_on)
        with pytest.raises(FlushError) as caught:
            await run()
    assert "s3_transfers" == caught.value.buffer


async def test_nothing_is_lost_while_the_database_is_locked(tmp_path: Path) -> None:
    """A flush is retried until it succeeds, however often the database is locked."""
    impatient = BufferOptions(retry=RetryPolicy(initial_delay=0.001, max_delay=0.01))
    async with open_cache(tmp_path, options=BY_HAND, buffer_options=impatient) as cache:
        other = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await use(cache, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.flush)
            # More attempts than a small fixed number of retries would allow.
            await until(lambda: all(b.retries > 5 for b in cache.statistics().buffers.values()))
            assert 3 == cache.statistics().pending
            other.execute("ROLLBACK")
            other.close()
        assert 0 == cache.statistics().pending
    for table in ("key_value_entries", "cas_artifacts", "s3_transfers"):
        assert 1 == len(stored(tmp_path, table))


async def test_nothing_is_lost_while_the_disk_is_full(tmp_path: Path) -> None:
    """Entries stay in memory until there is space on the disk."""

    def limit(raw: sqlite3.Connection, pages: int) -> None:
        raw.execute(f"PRAGMA max_page_count = {pages}")

    async with opened(tmp_path) as cache:
        await cache.store.run(limit, 1)  # fewer than the database has
        for i in range(100):
            await cache.key_values.put(f"id{i}", "acme", "app", ["x" * 1_000])
        await until(lambda: cache.statistics().buffers["key_value_entries"].retries > 1)
        assert 100 == cache.statistics().pending
        await cache.store.run(limit, 1_000_000)
        await cache.flush()
    assert 100 == len(stored(tmp_path, "key_value_entries"))


async def test_producers_wait_while_a_buffer_is_full(tmp_path: Path, mock_clock: MockClock) -> None:
    """The capacity of each buffer bounds the memory of its store."""
    del mock_clock
    async with open_cache(
        tmp_path,
        options=BY_HAND,
        buffer_overrides={"cas_artifacts": BufferOptions(capacity=3)},
    ) as cache:
        async with trio.open_nursery() as nursery, writer_held(cache):
            for i in range(10):
                nursery.start_soon(cache.artifacts.track_access, f"k{i}")
            buffers = cache.buffers.statistics
            await until(lambda: buffers()["cas_artifacts"].waiting == 7)
            assert 3 == buffers()["cas_artifacts"].pending
            # The other stores accept entries.
            await cache.transfers.enqueue_upload("acme", "app", "cas", "k")
            await cache.key_values.put("id", "acme", "app", [])
        await cache.flush()
    assert 10 == len(stored(tmp_path, "cas_artifacts"))


async def test_a_flush_is_one_transaction(tmp_path: Path, mock_clock: MockClock) -> None:
    """Pending deletes and inserts are committed together."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await use(cache, "a")
        [old] = await cache.transfers.pending(TransferType.UPLOAD, 1)
        before = cache.statistics().buffers["s3_transfers"].flushes
        await cache.transfers.delete([old.id])
        for key in ("a", "b"):
            await cache.transfers.enqueue_upload("acme", "app", "cas", key)
        await cache.flush()
        assert before + 1 == cache.statistics().buffers["s3_transfers"].flushes


async def test_the_statistics_have_the_pending_entries_by_buffer_and_in_total(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Each buffer has the name of its table."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await use(cache, "a")
        await cache.artifacts.track_access("b")
        now = cache.statistics()
        assert {"key_value_entries": 1, "cas_artifacts": 2, "s3_transfers": 1} == {
            name: buffer.pending for name, buffer in now.buffers.items()
        }
        assert 4 == now.pending


WRONG_TABLES = {
    "key_value_entries": "CREATE TABLE key_value_entries (key TEXT PRIMARY KEY, value TEXT)",
    "cas_artifacts": "CREATE TABLE cas_artifacts (key TEXT PRIMARY KEY, size_bytes INTEGER)",
    "s3_transfers": "CREATE TABLE s3_transfers (id TEXT PRIMARY KEY, key TEXT)",
}


@pytest.mark.parametrize("table", WRONG_TABLES)
async def test_a_table_with_other_columns_is_refused(tmp_path: Path, table: str) -> None:
    """The error has the table, the missing column, and the SQL that adds it."""
    with sqlite3.connect(tmp_path / "cache.db") as other:
        other.execute(WRONG_TABLES[table])
    other.close()
    with pytest.raises(SchemaError, match=f"table '{table}' has no column") as caught:
        async with opened(tmp_path):
            raise AssertionError
    assert table == caught.value.table
    assert caught.value.sql is not None
    assert f'ALTER TABLE "{table}" ADD COLUMN' in caught.value.sql


class UploadsOnly:
    async def upload(self, transfer: S3Transfer, path: Path, info: object) -> None:
        """Do nothing."""


class SyncDownload(UploadsOnly):
    def download(self, transfer: S3Transfer, path: Path) -> None:
        """Do nothing, without a coroutine."""


class WithoutExists(UploadsOnly):
    async def download(self, transfer: S3Transfer, path: Path) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    "given", [object(), UploadsOnly(), SyncDownload(), WithoutExists(), "s3://bucket"]
)
async def test_an_object_without_all_async_methods_is_not_a_storage(
    tmp_path: Path, given: Any
) -> None:
    """It is refused at the opening, not by every transfer."""
    with pytest.raises(TypeError, match=r"^storage must have the async methods"):
        async with open_cache(tmp_path, storage=given):
            raise AssertionError


@pytest.mark.parametrize(
    ("returned", "expected"),
    [(1.5, TypeError), (None, TypeError), (True, TypeError), (-1, ValueError), (2**63, ValueError)],
)
async def test_a_clock_with_an_invalid_time_is_refused(
    tmp_path: Path, returned: Any, expected: type[Exception]
) -> None:
    """The call that uses the clock raises, and changes nothing."""
    async with open_cache(tmp_path, options=BY_HAND, clock=lambda: returned) as cache:
        calls: list[Callable[[], Any]] = [
            lambda: cache.key_values.put("id", "acme", "app", []),
            lambda: cache.artifacts.track_access("a"),
            lambda: cache.transfers.enqueue_upload("acme", "app", "cas", "a"),
        ]
        for call in calls:
            with pytest.raises(expected, match=r"^clock must return"):
                await call()
        assert 0 == cache.statistics().pending
    with pytest.raises(TypeError, match=r"^clock must be callable"):
        async with open_cache(tmp_path, clock=returned):
            raise AssertionError


async def test_invalid_limits_and_rows_are_refused(tmp_path: Path) -> None:
    """The error has the name of the argument."""
    calls: list[tuple[type[Exception], str, Callable[[Any], Any]]] = [
        (ValueError, "limit", lambda c: c.artifacts.oldest(2**70)),
        (ValueError, "limit", lambda c: c.transfers.pending("upload", 2**70)),
        (TypeError, "after", lambda c: c.artifacts.oldest(5, after=3)),
        (TypeError, "after", lambda c: c.transfers.pending("upload", 5, after="x")),
        (TypeError, "values", lambda c: c.key_values.put("id", "acme", "app", {"a": 1})),
    ]
    async with opened(tmp_path) as cache:
        for expected, argument, call in calls:
            with pytest.raises(expected, match=f"^{argument} must be"):
                await call(cache)


@pytest.mark.parametrize("given", [{}, {"budget_bytes": 1}, 7, BufferOptions()])
async def test_options_of_another_type_are_refused(tmp_path: Path, given: Any) -> None:
    """An object that is not a `CacheOptions` does not mean the defaults, even if it is empty."""
    with pytest.raises(TypeError, match="options must be a CacheOptions, got"):
        async with open_cache(tmp_path, options=given):
            raise AssertionError


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("memory_bytes", "64"),
        ("memory_bytes", 64.5),
        ("memory_bytes", None),
        ("time_to_live", "week"),
        ("time_to_live", None),
        ("touch_interval", True),
        ("touch_interval", math.nan),
        ("touch_interval", math.inf),
        ("budget_bytes", "50 GB"),
        ("budget_bytes", 0.5),
        ("budget_bytes", True),
        ("high_watermark", "0.9"),
        ("high_watermark", math.nan),
        ("target", None),
        ("eviction_interval", None),
        ("transfer_interval", "5"),
        ("transfer_batch", 1.0),
        ("transfer_concurrency", 50.0),
        ("transfer_attempts", "5"),
        ("transfer_attempts", True),
        ("transfer_timeout", None),
        ("transfer_retry", None),
        ("transfer_retry", 5.0),
        ("transfer_backoff", {"max_delay": 5}),
        ("stop_timeout", None),
        ("stop_timeout", math.nan),
        ("memory_bytes", -1),
        ("time_to_live", 0.0),
        ("time_to_live", math.nan),
        ("touch_interval", -1.0),
        ("budget_bytes", 0),
        ("high_watermark", 1.1),
        ("high_watermark", 0.75),
        ("target", -0.1),
        ("target", 0.85),
        ("eviction_interval", 0.0),
        ("transfer_interval", 0.0),
        ("transfer_batch", 0),
        ("transfer_concurrency", 0),
        ("transfer_attempts", 0),
        ("transfer_timeout", 0.0),
        ("memory_bytes", 2**63),
        ("budget_bytes", 2**63),
        ("transfer_batch", 2**63),
        ("transfer_concurrency", 2**70),
        ("transfer_attempts", 2**63),
        ("transfer_retry", RetryPolicy(initial_delay=1.0, max_delay=1e13)),
        ("transfer_backoff", RetryPolicy(initial_delay=1.0, max_delay=1e300)),
        ("stop_timeout", math.inf),
        ("stop_timeout", -1.0),
    ],
)
def test_options_of_wrong_types_or_out_of_range_are_refused(option: str, value: Any) -> None:
    """The error has the name of the option, the value, and the expected values."""
    pattern = "high_watermark" if option == "target" and value == 0.85 else option
    with pytest.raises(OptionsError, match=rf"^{pattern} = .+: expected a"):
        dataclasses.replace(CacheOptions(), **{option: value})


async def test_a_suspended_buffer_keeps_the_cache_running(tmp_path: Path) -> None:
    """With `on_failure="suspend"`, what was accepted is written once the table is back."""
    options = BufferOptions(
        on_failure="suspend", retry=RetryPolicy(initial_delay=0.001, max_delay=0.01)
    )
    async with open_cache(tmp_path, options=BY_HAND, buffer_options=options) as cache:
        with closing(sqlite3.connect(tmp_path / "cache.db", isolation_level=None)) as other:
            other.execute("ALTER TABLE key_value_entries RENAME TO hidden")
            await cache.key_values.put("id", "acme", "app", ["a"])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cache.flush)
                await until(lambda: cache.statistics().buffers["key_value_entries"].suspended)
                await cache.artifacts.track_access("other")
                other.execute("ALTER TABLE hidden RENAME TO key_value_entries")
            rows = other.execute("SELECT key FROM key_value_entries").fetchall()
    assert rows == [("keyvalue:acme:app:id",)]
