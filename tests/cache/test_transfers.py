"""`S3Transfers`: a queue in the order of insertion, with each key at most once per type."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from forebay.cache import Cache, TransferType
from forebay.cache.tables import S3_TRANSFERS
from tests.cache.tools import NOON, ODD_TEXTS, SECOND, FakeClock, opened

UP, DOWN = TransferType.UPLOAD, TransferType.DOWNLOAD


async def upload(cache: Cache, key: str) -> None:
    await cache.transfers.enqueue_upload("acme", "app", "cas", key)


async def download(cache: Cache, key: str) -> None:
    await cache.transfers.enqueue_download("acme", "app", "cas", key)


async def keys(cache: Cache, transfer_type: TransferType = UP) -> list[str]:
    return [transfer.key for transfer in await cache.transfers.pending(transfer_type, 1_000)]


async def test_a_transfer_has_all_columns(tmp_path: Path) -> None:
    """Its id is a UUID of version 7."""
    async with opened(tmp_path) as cache:
        await cache.transfers.enqueue_upload("acme", "app", "module", "k")
        [transfer] = await cache.transfers.pending(UP, 10)
        assert ("upload", "acme", "app", "module", "k", NOON, 0, 0, "") == transfer[1:]
        assert 7 == uuid.UUID(transfer.id).version
        assert transfer.id == str(uuid.UUID(transfer.id))
        await cache.transfers.enqueue_download("other", "web", "cas", "k2")
        [transfer] = await cache.transfers.pending("download", 10)
        assert ("download", "other", "web", "cas", "k2") == transfer[1:6]


async def test_pending_flushes_first(tmp_path: Path, mock_clock: MockClock) -> None:
    """Queued transfers are returned at once, even though the clock stands still."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await upload(cache, "a")
        assert 1 == cache.statistics().pending
        assert ["a"] == await keys(cache)
        [transfer] = await cache.transfers.pending(UP, 1)
        await cache.transfers.delete([transfer.id])
        assert [] == await keys(cache)


@pytest.mark.parametrize("step", [-1_000_000, -1, 0, 1])
async def test_pending_is_in_the_order_of_insertion(
    tmp_path: Path, mock_clock: MockClock, step: int
) -> None:
    """Even within one microsecond, and if the clock is set back."""
    del mock_clock
    clock = FakeClock()
    expected = [f"k{i * 7919 % 100}" for i in range(100)]
    async with opened(tmp_path, clock) as cache:
        for i, key in enumerate(expected):
            clock.now += step
            await upload(cache, key)
            if i % 40 == 0:
                await cache.flush()
        assert expected == await keys(cache)


async def test_the_order_is_kept_if_the_clock_is_set_back_before_a_restart(tmp_path: Path) -> None:
    """Transfers that are queued after a restart come after the earlier ones."""
    clock = FakeClock()
    expected: list[str] = []
    for start in range(3):
        async with opened(tmp_path, clock) as cache:
            for i in range(3):
                for queue in (upload, download):
                    await queue(cache, f"k{start}{i}")
                expected.append(f"k{start}{i}")
            assert (expected, expected) == (await keys(cache, UP), await keys(cache, DOWN))
        clock.advance(-3_600)


@pytest.mark.parametrize("transfer_type", [UP, DOWN])
async def test_the_time_of_insertion_is_unique(tmp_path: Path, transfer_type: TransferType) -> None:
    """It is later than that of the last transfer of either type, also after a restart."""
    clock = FakeClock()
    times: list[int] = []
    for key in ("a", "b"):
        async with opened(tmp_path, clock) as cache:
            await (upload if transfer_type is UP else download)(cache, key)
            times = [
                transfer.inserted_at
                for transfer in await cache.transfers.pending(transfer_type, 10)
            ]
    assert [NOON, NOON + 1] == times


async def test_pending_returns_batches(tmp_path: Path) -> None:
    """`limit` is the size of a batch, and `after` continues behind a transfer."""
    async with opened(tmp_path) as cache:
        for i in range(5):
            await upload(cache, f"k{i}")
            await download(cache, f"d{i}")
        first = await cache.transfers.pending(UP, 3)
        assert ["k0", "k1", "k2"] == [transfer.key for transfer in first]
        rest = await cache.transfers.pending(UP, 3, after=first[-1])
        assert ["k3", "k4"] == [transfer.key for transfer in rest]
        assert [] == await cache.transfers.pending(UP, 3, after=rest[-1])


@pytest.mark.parametrize(
    ("transfer_type", "limit", "words"),
    [
        ("sideways", 1, "'sideways' is not a valid TransferType"),
        (UP, 0, "limit must be 1 or more, got 0"),
        (UP, -1, "limit must be 1 or more, got -1"),
        (UP, "1", "limit must be int, got '1' of type str"),
        (UP, True, "limit must be int, got True of type bool"),
    ],
)
async def test_pending_refuses_invalid_arguments(
    tmp_path: Path, transfer_type: str, limit: Any, words: str
) -> None:
    """An unknown type, or a limit that SQLite would read as no limit."""
    async with opened(tmp_path) as cache:
        with pytest.raises((TypeError, ValueError), match=words):
            await cache.transfers.pending(transfer_type, limit)


async def test_the_queue_is_read_from_an_index(tmp_path: Path) -> None:
    """The first transfers are found without sorting the queue."""
    async with opened(tmp_path) as cache:
        plan = await cache.store.fetch_all(
            "EXPLAIN QUERY PLAN SELECT * FROM s3_transfers WHERE type = ? AND "
            "(inserted_at, id) > (?, ?) AND (inserted_at, id) <= (?, ?) AND "
            "(next_attempt_at > ? AND next_attempt_at <= ?) IS NOT TRUE "
            "ORDER BY inserted_at, id LIMIT 10",
            ("upload", NOON, "x", NOON, "y", NOON, NOON),
        )
        assert ["SEARCH s3_transfers USING INDEX s3_transfers_queue"] == [
            line[3].partition(" (")[0] for line in plan
        ]


@pytest.mark.parametrize("flushed", [False, True])
async def test_a_key_that_is_queued_twice_is_in_the_queue_once(
    tmp_path: Path, mock_clock: MockClock, *, flushed: bool
) -> None:
    """The second call has no effect."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        await cache.transfers.enqueue_upload("acme", "app", "cas", "k")
        if flushed:
            await cache.flush()
        clock.advance(1)
        await cache.transfers.enqueue_upload("other", "web", "module", "k")
        [transfer] = await cache.transfers.pending(UP, 10)
        assert ("acme", "app", "cas", "k", NOON, 0, 0, "") == transfer[2:]


async def test_one_key_may_be_queued_for_upload_and_for_download(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The two transfers do not affect each other, in the buffer or in the table."""
    del mock_clock
    async with opened(tmp_path) as cache:
        for _ in range(2):
            await upload(cache, "k")
            await download(cache, "k")
            assert (["k"], ["k"]) == (await keys(cache, UP), await keys(cache, DOWN))
        [transfer] = await cache.transfers.pending(UP, 10)
        await cache.transfers.delete([transfer.id])
        assert ([], ["k"]) == (await keys(cache, UP), await keys(cache, DOWN))


async def test_a_hundred_concurrent_writers_of_one_key_queue_it_once(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """One row is committed, and the others are superseded."""
    del mock_clock
    async with opened(tmp_path) as cache:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(upload, cache, "k")
        assert ["k"] == await keys(cache)
        buffer = cache.buffers[S3_TRANSFERS].statistics()
        assert (100, 1, 99) == (buffer.accepted, buffer.committed, buffer.superseded)


async def test_delete_removes_transfers_and_may_be_repeated(tmp_path: Path) -> None:
    """Unknown and repeated ids are ignored."""
    async with opened(tmp_path) as cache:
        for key in ("a", "b", "c"):
            await upload(cache, key)
        a, _, c = await cache.transfers.pending(UP, 10)
        for _ in range(2):
            await cache.transfers.delete([a.id, c.id, a.id, "unknown"])
            assert ["b"] == await keys(cache)


async def test_deleting_no_ids_does_nothing(tmp_path: Path) -> None:
    """An empty list adds no entry to the buffer."""
    async with opened(tmp_path) as cache:
        await cache.transfers.delete([])
        assert 0 == cache.buffers[S3_TRANSFERS].statistics().accepted


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        ("{id}", TypeError, "ids must be texts, not the single text"),
        (["{id}", 7], TypeError, "ids must be str, got 7 of type int"),
        (None, TypeError, "ids must be texts, got None"),
        (["{id}", ""], ValueError, "ids must not be empty"),
    ],
)
async def test_invalid_ids_are_refused(
    tmp_path: Path, ids: Any, error: type[Exception], words: str
) -> None:
    """A single id is not read as a collection, and nothing is removed if one id is invalid."""
    async with opened(tmp_path) as cache:
        await upload(cache, "a")
        [transfer] = await cache.transfers.pending(UP, 10)
        given = [transfer.id, *ids[1:]] if isinstance(ids, list) else ids and transfer.id
        with pytest.raises(error, match=words):
            await cache.transfers.delete(given)
        assert ["a"] == await keys(cache)


@pytest.mark.parametrize("flush_between", [False, True])
async def test_a_delete_does_not_affect_a_later_transfer_of_its_key(
    tmp_path: Path, mock_clock: MockClock, *, flush_between: bool
) -> None:
    """The key is queued again with a new id, in one batch or in two."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await upload(cache, "k")
        [first] = await cache.transfers.pending(UP, 10)
        await cache.transfers.delete([first.id])
        if flush_between:
            await cache.flush()
        await upload(cache, "k")
        await cache.transfers.delete([first.id])
        [second] = await cache.transfers.pending(UP, 10)
        assert "k" == second.key
        assert first.id != second.id


async def test_failed_attempts_are_counted_in_the_table(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """A restart keeps the count, and queueing the key again does not reset it."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await upload(cache, "k")
        for attempts in range(3):
            [transfer] = await cache.transfers.pending(UP, 10)
            assert attempts == transfer.attempts
            await cache.transfers.record_failure(transfer)
    async with opened(tmp_path) as cache:
        await upload(cache, "k")
        assert [transfer._replace(attempts=3)] == await cache.transfers.pending(UP, 10)


@pytest.mark.parametrize("flushed", [False, True])
async def test_a_failure_does_not_affect_a_later_transfer_of_its_key(
    tmp_path: Path, mock_clock: MockClock, *, flushed: bool
) -> None:
    """The later transfer has another id, so it has no failed attempt and no delay."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await upload(cache, "k")
        [first] = await cache.transfers.pending(UP, 10)
        await cache.transfers.delete([first.id])
        await upload(cache, "k")
        if flushed:
            await cache.flush()
        await cache.transfers.record_failure(first, delay=60.0)
        [second] = await cache.transfers.pending(UP, 10)
        assert ("k", 0, 0) == (second.key, second.attempts, second.next_attempt_at)
        assert first.id != second.id


async def test_a_failure_does_not_restore_a_deleted_transfer(tmp_path: Path) -> None:
    """A deleted transfer stays deleted."""
    async with opened(tmp_path) as cache:
        await upload(cache, "k")
        [transfer] = await cache.transfers.pending(UP, 10)
        await cache.transfers.delete([transfer.id])
        await cache.transfers.record_failure(transfer)
        assert [] == await keys(cache)


async def test_a_failure_sets_the_time_of_the_next_attempt(tmp_path: Path) -> None:
    """The time is in the table, in microseconds, so a restart keeps it."""
    async with opened(tmp_path) as cache:
        await upload(cache, "k")
        [transfer] = await cache.transfers.pending(UP, 10)
        await cache.transfers.record_failure(transfer, delay=1.5)
    async with opened(tmp_path) as cache:
        [noted] = await cache.transfers.pending(UP, 10)
        assert (1, NOON + SECOND * 3 // 2) == (noted.attempts, noted.next_attempt_at)


async def test_failures_of_many_tasks_share_a_transaction(tmp_path: Path) -> None:
    """Fifty failures that are recorded at once are committed in at most two transactions."""
    statements: list[str] = []

    def trace(raw: sqlite3.Connection, callback: Callable[[str], None] | None) -> None:
        raw.set_trace_callback(callback)

    async with opened(tmp_path) as cache:
        for i in range(50):
            await upload(cache, f"k{i}")
        pending = await cache.transfers.pending(UP, 100)
        await cache.store.run(trace, statements.append)
        async with trio.open_nursery() as nursery:
            for transfer in pending:
                nursery.start_soon(cache.transfers.record_failure, transfer)
        updates = [each for each in statements if each.startswith("UPDATE main.s3_transfers")]
        transactions = [each for each in statements if each.startswith("BEGIN")]
        await cache.store.run(trace, None)
        assert (50, True) == (len(updates), 1 <= len(transactions) <= 2)
        assert {1} == {t.attempts for t in await cache.transfers.pending(UP, 100)}


@pytest.mark.parametrize("text", ODD_TEXTS)
async def test_any_text_is_a_key_a_handle_and_an_artifact_type(tmp_path: Path, text: str) -> None:
    """Any characters are read as they were written."""
    async with opened(tmp_path) as cache:
        await cache.transfers.enqueue_upload(text, text, text, text)
        await cache.transfers.enqueue_upload(text, text, text, f"{text}x")
        await cache.transfers.enqueue_download(text, text, text, text)
        ups = await cache.transfers.pending(UP, 10)
        assert [(text,) * 4, (text, text, text, f"{text}x")] == [t[2:6] for t in ups]
        [down] = await cache.transfers.pending(DOWN, 10)
        assert (text,) * 4 == down[2:6]
        await cache.transfers.record_failure(down)
        await cache.transfers.delete([ups[0].id])
        assert [f"{text}x"] == await keys(cache, UP)
        assert [1] == [t.attempts for t in await cache.transfers.pending(DOWN, 10)]


@pytest.mark.parametrize("argument", ["account", "project", "artifact_type", "key"])
@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("", ValueError, "must not be empty"),
        ("\udc80", ValueError, "has half of a surrogate pair"),
        (7, TypeError, "must be str, got 7"),
    ],
)
async def test_an_invalid_argument_is_refused(
    tmp_path: Path, argument: str, value: Any, error: type[Exception], words: str
) -> None:
    """The error has the name of the argument, and the buffer continues."""
    names = {"account": "acme", "project": "app", "artifact_type": "cas", "key": "k"}
    async with opened(tmp_path) as cache:
        with pytest.raises(error, match=f"{argument} .*{words}"):
            await cache.transfers.enqueue_upload(**names | {argument: value})
        await upload(cache, "good")
        assert ["good"] == await keys(cache)


async def test_closing_flushes_the_queue(tmp_path: Path, mock_clock: MockClock) -> None:
    """Pending transfers and deletes are in the table after a restart."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await upload(cache, "a")
        [transfer] = await cache.transfers.pending(UP, 10)
        await cache.transfers.delete([transfer.id])
        await download(cache, "b")
    async with opened(tmp_path) as cache:
        assert ([], ["b"]) == (await keys(cache, UP), await keys(cache, DOWN))


async def test_each_content_of_a_key_is_queued_once(tmp_path: Path) -> None:
    """Queueing the same SHA-256 again has no effect; another one has a place of its own."""
    a, b = "a" * 64, "b" * 64
    async with opened(tmp_path) as cache:
        for flushed in (False, True):
            for sha256 in (a, b, a, "", b, ""):
                await cache.transfers.enqueue_upload("acme", "app", "cas", "k", sha256=sha256)
            if flushed:
                await cache.flush()
            queued = await cache.transfers.pending("upload", 10)
            assert [a, b, ""] == [transfer.sha256 for transfer in queued]
        await cache.transfers.delete([queued[0].id])
        queued = await cache.transfers.pending("upload", 10)
        assert [b, ""] == [transfer.sha256 for transfer in queued]


async def test_a_transfer_is_queued_until_it_is_deleted(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """Also a delete that is not flushed counts, and a later transfer of the key is another one."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await upload(cache, "k")
        [first] = await cache.transfers.pending("upload", 1)
        assert await cache.transfers.is_queued(first)
        await cache.transfers.delete([first.id])
        assert not await cache.transfers.is_queued(first)
        await upload(cache, "k")
        assert not await cache.transfers.is_queued(first)
        await cache.flush()
        [second] = await cache.transfers.pending("upload", 1)
        assert await cache.transfers.is_queued(second)


async def test_a_deleted_transfer_is_not_read_while_the_database_is_locked(tmp_path: Path) -> None:
    """Its delete cannot be committed, but it is known."""
    async with opened(tmp_path) as cache:
        for key in ("a", "b"):
            await upload(cache, key)
        first, second = await cache.transfers.pending("upload", 10)
        other = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await cache.transfers.delete([first.id])
        with trio.fail_after(20):
            assert [second] == await cache.transfers.pending("upload", 10, flush_timeout=0)
        other.rollback()
        other.close()
        assert [second] == await cache.transfers.pending("upload", 10)
