"""The exact times and reasons of flushes, and what wakes the worker task."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import (
    Buffer,
    BufferOptions,
    FlushError,
    FlushReason,
    RetryPolicy,
    Table,
    open_buffers,
)
from forebay._table.operations import size_of
from forebay.stores import Batch, FailureKind, Outcome
from forebay.testing import MemoryStore
from tests.wrapped_attempts import Commit, WrappedMemoryStore

# Most times are sums of powers of two, so that floats represent them exactly.


class Letter(NamedTuple):
    name: str


class Word(NamedTuple):
    name: str
    uses: int


LETTERS = Table(Letter, name="letters")
WORDS = Table(Word, name="words", key="name")

TRANSIENT = FailureKind.TRANSIENT
FULL = FlushReason.FULL
INTERVAL = FlushReason.INTERVAL
REQUESTED = FlushReason.REQUESTED
DRAIN = FlushReason.DRAIN


class TimedStore(WrappedMemoryStore):
    """A memory store that records when each attempt begins."""

    def __init__(self, *, delay: float = 0.0) -> None:
        super().__init__(delay=delay)
        self.attempted: list[float] = []

    async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
        self.attempted.append(trio.current_time())
        return await commit()

    @property
    def flushes(self) -> list[tuple[float, FlushReason, int]]:
        """The time, the reason and the number of entries of each batch, if no attempt failed."""
        return [
            (time, batch.reason, batch.entries)
            for time, batch in zip(self.attempted, self.batches, strict=True)
        ]


async def at(time: float, act: Callable[[], object]) -> None:
    """Wait until a time of the clock and then act."""
    await trio.sleep_until(time)
    act()


def put(buffer: Buffer[Letter], count: int = 1) -> Callable[[], None]:
    """Return a function that enqueues rows at once."""

    def enqueue() -> None:
        for _ in range(count):
            buffer.enqueue_nowait(Letter("a"))

    return enqueue


# By interval


async def test_the_default_interval_is_200_ms(autojump_clock: MockClock) -> None:
    """Without options, an entry is flushed 0.2 seconds after it was accepted."""
    store = TimedStore()
    async with open_buffers(store, LETTERS) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        await trio.sleep(1)
    assert [(0.2, INTERVAL, 1)] == store.flushes


async def test_the_interval_counts_from_the_first_pending_entry(
    autojump_clock: MockClock,
) -> None:
    """Later entries join the batch of the first one and do not delay it."""
    store = TimedStore()
    options = BufferOptions(flush_interval=0.25)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        for time in (1.0, 1.125, 1.1875, 1.5, 1.625):
            await at(time, put(buffers[LETTERS]))
        await trio.sleep_until(3)
    assert [(1.25, INTERVAL, 3), (1.75, INTERVAL, 2)] == store.flushes


async def test_an_interval_of_zero_flushes_at_once(autojump_clock: MockClock) -> None:
    """With `flush_interval=0` no entry waits for other entries."""
    store = TimedStore()
    async with open_buffers(store, LETTERS, options=BufferOptions(flush_interval=0)) as buffers:
        await at(1, put(buffers[LETTERS]))
        await at(2, put(buffers[LETTERS], 2))
        await trio.sleep_until(3)
    assert [(1.0, INTERVAL, 1), (2.0, INTERVAL, 2)] == store.flushes


async def test_with_an_infinite_interval_only_other_reasons_flush(
    autojump_clock: MockClock,
) -> None:
    """With `flush_interval=math.inf`, time alone flushes nothing."""
    store = TimedStore()
    options = BufferOptions(flush_interval=math.inf, batch_size=2)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        await at(0, put(buffers[LETTERS]))
        await at(1e6, put(buffers[LETTERS], 2))
        await trio.sleep_until(2e6)
        await buffers.flush()
        await at(3e6, put(buffers[LETTERS]))
    assert [(1e6, FULL, 2), (2e6, REQUESTED, 1), (3e6, DRAIN, 1)] == store.flushes


# By size


@pytest.mark.parametrize(
    ("entries", "flushes"),
    [
        (2, [(0.25, INTERVAL, 2)]),
        (3, [(0.0, FULL, 3)]),
        (4, [(0.0, FULL, 3), (0.25, INTERVAL, 1)]),
        (6, [(0.0, FULL, 3), (0.0, FULL, 3)]),
        (8, [(0.0, FULL, 3), (0.0, FULL, 3), (0.25, INTERVAL, 2)]),
    ],
)
@pytest.mark.parametrize("how", ["nowait", "many"])
async def test_a_full_batch_is_flushed_at_once(
    autojump_clock: MockClock,
    entries: int,
    flushes: list[tuple[float, FlushReason, int]],
    how: str,
) -> None:
    """A buffer flushes when exactly `batch_size` rows are pending."""
    store = TimedStore()
    options = BufferOptions(batch_size=3, flush_interval=0.25)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        if how == "nowait":
            put(buffers[LETTERS], entries)()
        else:
            await buffers[LETTERS].enqueue_many([Letter("a")] * entries)
        await trio.sleep_until(1)
    assert flushes == store.flushes


async def test_the_entry_that_fills_the_batch_flushes_it(autojump_clock: MockClock) -> None:
    """If rows are enqueued one by one, the row that fills the batch makes it flush."""
    store = TimedStore()
    options = BufferOptions(batch_size=3, flush_interval=0.25)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        for time in (0, 0.0625, 0.125):
            await at(time, put(buffers[LETTERS]))
        await trio.sleep_until(1)
    assert [(0.125, FULL, 3)] == store.flushes


async def test_a_burst_that_is_open_already_fills_the_rest_of_a_batch(
    autojump_clock: MockClock,
) -> None:
    """The worker finds out that many entries are one row while a later burst has room for more."""
    store = TimedStore()
    options = BufferOptions(batch_size=10, flush_interval=math.inf)
    async with open_buffers(store, WORDS, options=options) as buffers:
        for i in range(10):
            buffers[WORDS].enqueue_nowait(Word("a", i))
        for name in "bcdef":
            buffers[WORDS].enqueue_nowait(Word(name, 0))
        await wait_all_tasks_blocked()
        assert [] == store.flushes
        for name in "ghij":
            buffers[WORDS].enqueue_nowait(Word(name, 0))
        await wait_all_tasks_blocked()
        assert [(0, FULL, 19)] == store.flushes


async def test_the_batch_size_counts_rows_not_entries(autojump_clock: MockClock) -> None:
    """Entries of the same key count as one row of the batch."""
    store = TimedStore()
    options = BufferOptions(batch_size=3, flush_interval=0.25)
    async with open_buffers(store, WORDS, options=options) as buffers:
        for i in range(7):
            buffers[WORDS].enqueue_nowait(Word("ab"[i % 2], i))
        await at(0.125, lambda: buffers[WORDS].enqueue_nowait(Word("c", 7)))
        await trio.sleep_until(1)
    assert [(0.125, FULL, 8)] == store.flushes
    assert [("a", 6), ("b", 5), ("c", 7)] == store.rows(WORDS)


async def test_coalesced_rows_and_the_open_burst_fill_a_batch_together(
    autojump_clock: MockClock,
) -> None:
    """The row that completes the batch flushes it, however long the interval is."""
    store = TimedStore()
    options = BufferOptions(batch_size=3, flush_interval=math.inf)
    async with open_buffers(store, WORDS, options=options) as buffers:
        for i in range(3):  # three entries of one key: the worker coalesces them to one row
            await at(i, lambda i=i: buffers[WORDS].enqueue_nowait(Word("a", i)))  # type: ignore[misc]
        await at(3, lambda: buffers[WORDS].enqueue_nowait(Word("b", 3)))
        await at(4, lambda: buffers[WORDS].enqueue_nowait(Word("c", 4)))
        await trio.sleep_until(9)
        assert [(4.0, FULL, 5)] == store.flushes


async def test_the_interval_counts_from_the_first_entry_that_was_coalesced(
    autojump_clock: MockClock,
) -> None:
    """Also if the worker coalesces entries several times before it flushes them."""
    store = TimedStore()
    options = BufferOptions(batch_size=3, flush_interval=10)
    async with open_buffers(store, WORDS, options=options) as buffers:
        for time in (0, 0, 0, 4, 4, 8):  # the first three, and the next two, fill the batch
            await at(time, lambda: buffers[WORDS].enqueue_nowait(Word("a", 1)))
        await trio.sleep_until(15)
        assert [(10.0, INTERVAL, 6)] == store.flushes


async def test_after_a_flush_by_size_the_interval_starts_again(autojump_clock: MockClock) -> None:
    """The interval of entries that were flushed with a full batch does not flush later ones."""
    store = TimedStore()
    options = BufferOptions(batch_size=3, flush_interval=0.25)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        await at(0, put(buffers[LETTERS], 2))
        await at(0.125, put(buffers[LETTERS]))
        await at(0.1875, put(buffers[LETTERS]))
        await trio.sleep_until(1)
    assert [(0.125, FULL, 3), (0.4375, INTERVAL, 1)] == store.flushes


async def test_a_capacity_below_the_batch_size_limits_the_batch(
    autojump_clock: MockClock,
) -> None:
    """A buffer that is full flushes, even if `batch_size` is larger than its capacity."""
    store = TimedStore()
    options = BufferOptions(capacity=2, batch_size=5, flush_interval=math.inf)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        await at(1, put(buffers[LETTERS]))
        await at(2, put(buffers[LETTERS]))
        await trio.sleep_until(3)
        assert [(2.0, FULL, 2)] == store.flushes


async def test_superseded_entries_fill_the_capacity_too(autojump_clock: MockClock) -> None:
    """Capacity counts entries: a full buffer flushes, even if its entries make only one row."""
    store = TimedStore()
    options = BufferOptions(capacity=3, flush_interval=math.inf)
    async with open_buffers(store, WORDS, options=options) as buffers:
        for i in range(3):
            await at(i, lambda i=i: buffers[WORDS].enqueue_nowait(Word("a", i)))  # type: ignore[misc]
        await trio.sleep_until(9)
        assert [(2.0, FULL, 3)] == store.flushes
        assert [("a", 2)] == store.rows(WORDS)


async def test_bytes_fill_the_capacity_too(autojump_clock: MockClock) -> None:
    """The entry that exhausts `capacity_bytes` makes a flush due."""
    store = TimedStore()
    size = size_of(Letter("a"))
    options = BufferOptions(capacity_bytes=3 * size, flush_interval=math.inf)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        for time in (0, 1, 2):
            await at(time, put(buffers[LETTERS]))
        await trio.sleep_until(9)
        assert [(2.0, FULL, 3)] == store.flushes


# By request and by drain


async def test_flush_does_not_wait_for_the_interval(autojump_clock: MockClock) -> None:
    """`flush` commits the pending entries at once, and then returns."""
    store = TimedStore(delay=0.5)
    async with open_buffers(store, LETTERS) as buffers:
        await at(1, put(buffers[LETTERS], 2))
        await buffers[LETTERS].flush()
        assert 1.5 == trio.current_time()
        await trio.sleep_until(9)
    assert [(1.0, REQUESTED, 2)] == store.flushes


async def test_flush_of_an_empty_buffer_does_nothing(autojump_clock: MockClock) -> None:
    """If no entry is pending, `flush` returns at once without a batch."""
    store = TimedStore()
    async with open_buffers(store, LETTERS) as buffers:
        await buffers[LETTERS].flush()
        await buffers.flush()
        assert 0.0 == trio.current_time()
    assert [] == store.attempted


async def test_simultaneous_writes_share_a_transaction(autojump_clock: MockClock) -> None:
    """`write` flushes at once, together with all entries pending at that time."""
    store = TimedStore()
    async with open_buffers(store, LETTERS) as buffers, trio.open_nursery() as nursery:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        await wait_all_tasks_blocked()
        for name in "bcd":
            nursery.start_soon(buffers[LETTERS].write, Letter(name))
    assert [(0.0, REQUESTED, 4)] == store.flushes


async def test_flush_commits_as_many_batches_as_it_takes(
    autojump_clock: MockClock,
) -> None:
    """`flush` commits all entries accepted before, even if they fill several batches."""
    store = TimedStore()
    options = BufferOptions(batch_size=3, flush_interval=math.inf)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        put(buffers[LETTERS], 7)()
        await buffers.flush()
        assert [(0.0, FULL, 3), (0.0, FULL, 3), (0.0, REQUESTED, 1)] == store.flushes


async def test_leaving_the_block_flushes_at_once(autojump_clock: MockClock) -> None:
    """A drain does not wait for the interval."""
    store = TimedStore()
    async with open_buffers(store, LETTERS) as buffers:
        await at(1, put(buffers[LETTERS], 2))
    assert 1.0 == trio.current_time()
    assert [(1.0, DRAIN, 2)] == store.flushes


# While a batch is in flight


async def test_a_batch_grows_while_another_is_in_flight(autojump_clock: MockClock) -> None:
    """At most one batch is in flight. Entries accepted meanwhile make the next one."""
    store = TimedStore(delay=1)
    options = BufferOptions(flush_interval=0.25)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        for time in (0, 0.5, 0.75, 1.0):
            await at(time, put(buffers[LETTERS]))
        await trio.sleep_until(9)
    assert [(0.25, INTERVAL, 1), (1.25, INTERVAL, 3)] == store.flushes


async def test_entries_behind_a_full_batch_keep_their_own_interval(
    autojump_clock: MockClock,
) -> None:
    """A batch that filled during a flush is flushed next; the interval of the rest goes on."""
    store = TimedStore(delay=1)
    options = BufferOptions(batch_size=3, flush_interval=2)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        await at(0, put(buffers[LETTERS], 3))
        await at(0.5, put(buffers[LETTERS], 2))
        await at(0.625, put(buffers[LETTERS], 1))
        await at(0.75, put(buffers[LETTERS], 1))
        await trio.sleep_until(9)
    assert [(0.0, FULL, 3), (1.0, FULL, 3), (2.75, INTERVAL, 1)] == store.flushes


async def test_an_override_sets_the_interval_of_one_table(autojump_clock: MockClock) -> None:
    """`options` apply to all buffers without an override."""
    store = TimedStore()
    options = BufferOptions(flush_interval=0.25)
    overrides = {"words": options.override({"flush_interval": 0.5})}
    async with open_buffers(store, LETTERS, WORDS, options=options, overrides=overrides) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        buffers[WORDS].enqueue_nowait(Word("a", 1))
        await trio.sleep_until(9)
    assert [0.25, 0.5] == store.attempted
    assert [LETTERS, WORDS] == [batch.table for batch in store.batches]


# Retries


async def test_the_delays_between_attempts_double_up_to_their_limit(
    autojump_clock: MockClock,
) -> None:
    """After a transient failure the batch is retried with the delays of the policy."""
    store = TimedStore()
    store.fail_next(TRANSIENT, times=5)
    retry = RetryPolicy(initial_delay=0.25, multiplier=2, max_delay=1, jitter=0)
    async with open_buffers(store, LETTERS, options=BufferOptions(retry=retry)) as buffers:
        await buffers[LETTERS].write(Letter("a"))
        assert 5 == buffers[LETTERS].statistics().retries
    assert [0.0, 0.25, 0.75, 1.75, 2.75, 3.75] == store.attempted
    assert [("a",)] == store.rows(LETTERS)


async def test_the_backoff_starts_again_with_each_batch(autojump_clock: MockClock) -> None:
    """The first retry of each batch has the initial delay."""
    store = TimedStore()
    retry = RetryPolicy(initial_delay=0.25, jitter=0)
    async with open_buffers(store, LETTERS, options=BufferOptions(retry=retry)) as buffers:
        for _ in range(2):
            store.fail_next(TRANSIENT, times=2)
            await buffers[LETTERS].write(Letter("a"))
    assert [0.0, 0.25, 0.75, 0.75, 1.0, 1.5] == store.attempted


async def test_jitter_shortens_each_delay_by_up_to_its_share(autojump_clock: MockClock) -> None:
    """With the default policy each delay is between 50% and 100% of the full delay."""
    store = TimedStore()
    store.fail_next(TRANSIENT, times=8)
    async with open_buffers(store, LETTERS) as buffers:
        await buffers[LETTERS].write(Letter("a"))
    waits = [b - a for a, b in zip(store.attempted, store.attempted[1:], strict=False)]
    full = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert all(
        limit / 2 - 1e-9 <= wait <= limit + 1e-9 for wait, limit in zip(waits, full, strict=True)
    )
    assert waits != full


async def test_a_batch_does_not_change_between_its_attempts(autojump_clock: MockClock) -> None:
    """Entries accepted during the backoff are in the next batch, even those of the same key."""
    store = TimedStore()
    store.fail_next(TRANSIENT)
    retry = RetryPolicy(initial_delay=1, jitter=0)
    options = BufferOptions(flush_interval=0.25, retry=retry)
    async with open_buffers(store, WORDS, options=options) as buffers:
        buffers[WORDS].enqueue_nowait(Word("a", 1))
        await at(0.5, lambda: buffers[WORDS].enqueue_nowait(Word("a", 2)))
        await trio.sleep_until(9)
    assert [0.25, 1.25, 1.25] == store.attempted
    assert [[Word("a", 1)], [Word("a", 2)]] == [
        [Word(*operation.row) for operation in batch.operations()]  # type: ignore[union-attr]
        for batch in store.batches
    ]


async def test_the_buffer_stops_after_max_attempts(autojump_clock: MockClock) -> None:
    """After `max_attempts` attempts, `FlushError` names the entries."""
    store = TimedStore()
    store.fail_next(TRANSIENT, times=3)
    retry = RetryPolicy(initial_delay=0.25, jitter=0, max_attempts=3)
    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, LETTERS, options=BufferOptions(retry=retry)) as buffers:
            await buffers[LETTERS].write(Letter("a"))
    assert [0.0, 0.25, 0.75] == store.attempted
    assert (
        "buffer 'letters' stopped after 3 attempts: scripted: transient. Not in the table: "
        "1 accepted entry, pending for 0.8 s. They are kept in this error's `unsettled.entries`. "
        "Fix the cause, then pass them to `enqueue_again` of a new buffer; "
        "`open_buffers(..., spill=FILE)` would keep them "
        "in a file."
    ) == str(caught.value)


async def test_a_drain_continues_the_backoff(autojump_clock: MockClock) -> None:
    """The delays between attempts stay the same while the buffer drains."""
    store = TimedStore()
    store.fail_next(TRANSIENT, times=2)
    retry = RetryPolicy(initial_delay=0.5, jitter=0)
    async with open_buffers(store, LETTERS, options=BufferOptions(retry=retry)) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
    assert [0.0, 0.5, 1.5] == store.attempted


# What wakes the worker


class Steps(trio.abc.Instrument):
    """Counts the steps of the worker task of a table."""

    def __init__(self, table: str) -> None:
        self._name = f"forebay {table}"
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task.name == self._name


async def steps_of(act: Callable[[Buffer[Letter]], object], options: BufferOptions) -> int:
    """Return how many steps the worker takes for the entries that one call of `act` enqueues."""
    store = MemoryStore()
    steps = Steps("letters")
    async with open_buffers(store, LETTERS, options=options) as buffers:
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(steps)
        act(buffers[LETTERS])
        await trio.sleep(1)
        trio.lowlevel.remove_instrument(steps)
    assert [INTERVAL] == [batch.reason for batch in store.batches]
    return steps.count


async def test_many_entries_at_one_time_wake_the_worker_once(autojump_clock: MockClock) -> None:
    """The worker takes as many steps for 5,000 entries at one time as for one entry."""
    options = BufferOptions()
    assert await steps_of(lambda b: put(b, 1)(), options) == await steps_of(
        lambda b: put(b, 5_000)(), options
    )


async def test_entries_that_wait_for_the_interval_do_not_wake_the_worker(
    autojump_clock: MockClock,
) -> None:
    """The worker sleeps until the interval ends, while 200 entries arrive one by one."""
    steps = Steps("letters")
    store = MemoryStore()
    async with open_buffers(store, LETTERS, options=BufferOptions(flush_interval=60)) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(steps)
        for _ in range(200):
            await trio.sleep(0.25)
            await buffers[LETTERS].enqueue(Letter("a"))
        trio.lowlevel.remove_instrument(steps)
    assert 0 == steps.count


async def test_an_idle_worker_sleeps(autojump_clock: MockClock) -> None:
    """If no entry is pending, there is no timer."""
    steps = Steps("letters")
    async with open_buffers(MemoryStore(), LETTERS) as buffers:
        await buffers[LETTERS].write(Letter("a"))
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(steps)
        await trio.sleep(3600)
        trio.lowlevel.remove_instrument(steps)
    assert 0 == steps.count


async def test_entries_during_a_flush_do_not_wake_the_worker(
    autojump_clock: MockClock,
) -> None:
    """While a batch is in flight, the worker only waits for its store."""
    steps = Steps("letters")
    store = MemoryStore()
    store.stop()
    options = BufferOptions(batch_size=2)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        put(buffers[LETTERS], 2)()
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(steps)
        for _ in range(100):
            await buffers[LETTERS].enqueue(Letter("a"))
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(steps)
        store.resume()
    assert 0 == steps.count
    assert 51 == len(store.batches)
