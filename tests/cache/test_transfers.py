"""`S3Transfers`: a queue in the order of insertion, in which a key stands once for each way."""

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


async def keys(cache: Cache, way: TransferType = UP) -> list[str]:
    return [transfer.key for transfer in await cache.transfers.pending(way, 1_000)]


async def test_a_transfer_is_queued_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    """A row has a version 7 UUID, the way, the handles, the kind, the key, the time, attempts."""
    async with opened(tmp_path) as cache:
        await cache.transfers.enqueue_upload("acme", "app", "module", "k")
        [transfer] = await cache.transfers.pending(UP, 10)
        assert ("upload", "acme", "app", "module", "k", NOON, 0, 0) == transfer[1:]
        assert 7 == uuid.UUID(transfer.id).version
        assert transfer.id == str(uuid.UUID(transfer.id))
        await cache.transfers.enqueue_download("other", "web", "cas", "k2")
        [transfer] = await cache.transfers.pending("download", 10)
        assert ("download", "other", "web", "cas", "k2") == transfer[1:6]


async def test_pending_flushes_first(tmp_path: Path, mock_clock: MockClock) -> None:
    """What was queued is given out at once, though time, and so the interval, stands still."""
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
    """First in, first out: within one microsecond, and when the clock is set back, too."""
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


async def test_the_order_outlives_a_restart_with_the_clock_set_back(tmp_path: Path) -> None:
    """What is queued after a restart stands behind what was there, whatever the clock says."""
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


@pytest.mark.parametrize("way", [UP, DOWN])
async def test_the_last_insertion_counts_whichever_way_it_goes(
    tmp_path: Path, way: TransferType
) -> None:
    """No two transfers of a table have one time, so that a place in the queue is one's own."""
    clock = FakeClock()
    times: list[int] = []
    for key in ("a", "b"):
        async with opened(tmp_path, clock) as cache:
            await (upload if way is UP else download)(cache, key)
            times = [transfer.inserted_at for transfer in await cache.transfers.pending(way, 10)]
    assert [NOON, NOON + 1] == times


async def test_pending_gives_so_many_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    """`limit` bounds a batch, and `after` starts the next one behind it."""
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
    ("way", "limit", "words"),
    [
        ("sideways", 1, "'sideways' is not a valid TransferType"),
        (UP, 0, "limit must be 1 or more, got 0"),
        (UP, -1, "limit must be 1 or more, got -1"),
        (UP, "1", "limit must be int, got '1' of type str"),
        (UP, True, "limit must be int, got True of type bool"),
    ],
)
async def test_pending_refuses_what_it_cannot_give(
    tmp_path: Path, way: str, limit: Any, words: str
) -> None:
    """A way that is none, or a limit that SQLite would take for no limit, is named."""
    async with opened(tmp_path) as cache:
        with pytest.raises((TypeError, ValueError), match=words):
            await cache.transfers.pending(way, limit)


async def test_the_queue_is_read_from_an_index(tmp_path: Path) -> None:
    """However long the queue, its first transfers are found without sorting it."""
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
async def test_duplicates_leave_one(
    tmp_path: Path, mock_clock: MockClock, *, flushed: bool
) -> None:
    """A key that is queued again for the same way stays as it was queued first."""
    del mock_clock
    clock = FakeClock()
    async with opened(tmp_path, clock) as cache:
        await cache.transfers.enqueue_upload("acme", "app", "cas", "k")
        if flushed:
            await cache.flush()
        clock.advance(1)
        await cache.transfers.enqueue_upload("other", "web", "module", "k")
        [transfer] = await cache.transfers.pending(UP, 10)
        assert ("acme", "app", "cas", "k", NOON, 0, 0) == transfer[2:]


async def test_one_key_may_be_queued_for_upload_and_for_download(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The two ways do not displace each other, in memory or in the table."""
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
    """However many queue a key at once, there is one row, written once."""
    del mock_clock
    async with opened(tmp_path) as cache:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(upload, cache, "k")
        assert ["k"] == await keys(cache)
        buffer = cache.buffers[S3_TRANSFERS].statistics()
        assert (100, 1, 99) == (buffer.accepted, buffer.committed, buffer.superseded)


async def test_delete_takes_out_those_named_and_is_idempotent(tmp_path: Path) -> None:
    """Ids that are gone, unknown or named twice are no error."""
    async with opened(tmp_path) as cache:
        for key in ("a", "b", "c"):
            await upload(cache, key)
        a, _, c = await cache.transfers.pending(UP, 10)
        for _ in range(2):
            await cache.transfers.delete([a.id, c.id, a.id, "unknown"])
            assert ["b"] == await keys(cache)


async def test_deleting_no_ids_does_nothing(tmp_path: Path) -> None:
    """An empty list is not even an entry in the buffer."""
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
async def test_what_are_no_ids_take_out_nothing(
    tmp_path: Path, ids: Any, error: type[Exception], words: str
) -> None:
    """One id is not taken for many, and none is taken out beside one that is refused."""
    async with opened(tmp_path) as cache:
        await upload(cache, "a")
        [transfer] = await cache.transfers.pending(UP, 10)
        given = [transfer.id, *ids[1:]] if isinstance(ids, list) else ids and transfer.id
        with pytest.raises(error, match=words):
            await cache.transfers.delete(given)
        assert ["a"] == await keys(cache)


@pytest.mark.parametrize("flush_between", [False, True])
async def test_a_delete_by_id_does_not_reach_a_later_insert_of_its_key(
    tmp_path: Path, mock_clock: MockClock, *, flush_between: bool
) -> None:
    """Queued, done, and queued again ends as queued, with a new id, in one batch or in two."""
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
    """The count survives a restart, and queueing the key again does not reset it."""
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
async def test_a_failure_does_not_reach_a_later_insert_of_its_key(
    tmp_path: Path, mock_clock: MockClock, *, flushed: bool
) -> None:
    """It goes by the id: the key's next transfer has all its attempts, and is not put off."""
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


async def test_a_failure_brings_no_transfer_back(tmp_path: Path) -> None:
    """One that was taken out of the queue stays out."""
    async with opened(tmp_path) as cache:
        await upload(cache, "k")
        [transfer] = await cache.transfers.pending(UP, 10)
        await cache.transfers.delete([transfer.id])
        await cache.transfers.record_failure(transfer)
        assert [] == await keys(cache)


async def test_a_failure_says_when_the_next_attempt_is(tmp_path: Path) -> None:
    """The table has the time, in microseconds UTC, and keeps it across a restart."""
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
async def test_any_text_is_a_key_a_handle_and_a_kind(tmp_path: Path, text: str) -> None:
    """Texts of any characters are queued for both ways, given out as they were, and deleted."""
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
async def test_what_is_no_name_is_refused_to_the_caller_alone(
    tmp_path: Path, argument: str, value: Any, error: type[Exception], words: str
) -> None:
    """A bad argument is named where it enters, and the buffer goes on."""
    names = {"account": "acme", "project": "app", "artifact_type": "cas", "key": "k"}
    async with opened(tmp_path) as cache:
        with pytest.raises(error, match=f"{argument} .*{words}"):
            await cache.transfers.enqueue_upload(**names | {argument: value})
        await upload(cache, "good")
        assert ["good"] == await keys(cache)


async def test_stopping_flushes_the_queue(tmp_path: Path, mock_clock: MockClock) -> None:
    """Transfers, and deletes, that wait for their flush are in the table after a restart."""
    del mock_clock
    async with opened(tmp_path) as cache:
        await upload(cache, "a")
        [transfer] = await cache.transfers.pending(UP, 10)
        await cache.transfers.delete([transfer.id])
        await download(cache, "b")
    async with opened(tmp_path) as cache:
        assert ([], ["b"]) == (await keys(cache, UP), await keys(cache, DOWN))
