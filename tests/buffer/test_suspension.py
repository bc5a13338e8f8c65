"""A buffer with `on_failure="suspend"`: what suspends it, what it does meanwhile, how that ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import (
    Buffer,
    BufferOptions,
    DrainError,
    FlushError,
    RetryPolicy,
    SchemaError,
    StoreError,
    Table,
    Write,
    open_buffers,
)
from forebay.stores import Batch, BatchError, FailureKind, FloodError, Outcome, Rejection
from forebay.testing import MemoryStore
from tests.wrapped_attempts import Commit, WrappedMemoryStore


class Letter(NamedTuple):
    name: str


LETTERS = Table(Letter, name="letters")
OTHERS = Table(Letter, name="others")

SUSPEND = BufferOptions(
    on_failure="suspend", retry=RetryPolicy(initial_delay=0.5, max_delay=2, jitter=0)
)
MISSING = "SQLITE_ERROR: no such table: letters"


class Fragile(WrappedMemoryStore):
    """A store whose table `letters` may be broken. It records the times of the attempts at it."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: Callable[[], BaseException] | None = None
        self.unsuitable: BaseException | None = None
        """What the check of a table raises."""
        self.times: list[float] = []
        self.checks = 0

    async def prepare(self, tables: Sequence[Table[Any]]) -> None:
        self.checks += 1
        if self.unsuitable is not None:
            raise self.unsuitable
        await super().prepare(tables)

    async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
        if batch.table is LETTERS:
            self.times.append(trio.current_time())
            if self.broken is not None:
                raise self.broken()
        return await commit()


def missing() -> BatchError:
    return BatchError(MISSING, kind=FailureKind.FATAL, code="SQLITE_ERROR")


def flood() -> BatchError:
    return FloodError("too many", code="SQLITE_CONSTRAINT")


def busy() -> BatchError:
    return BatchError("busy", kind=FailureKind.TRANSIENT, code="SQLITE_BUSY")


def in_doubt() -> BatchError:
    return BatchError("in doubt", kind=FailureKind.IN_DOUBT, code="SQLITE_IOERR")


# What suspends a buffer


@pytest.mark.parametrize(
    ("failure", "delay"), [(missing, 2.0), (flood, 60.0)], ids=["missing", "flood"]
)
async def test_it_tries_again_until_the_cause_is_removed(
    autojump_clock: MockClock, failure: Callable[[], BatchError], delay: float
) -> None:
    """With the longest delay. After a flood it is longer, since the others wait for an attempt."""
    store = Fragile()
    store.broken = failure
    async with open_buffers(store, LETTERS, options=SUSPEND) as buffers:
        buffer = buffers[LETTERS]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(buffer.write, Letter("a"))
            await trio.sleep(2.5 * delay)
            now = buffer.statistics()
            assert (True, str(failure()), 1) == (now.suspended, now.last_error, now.pending)
            assert (0, 2.5 * delay) == (now.flushes, now.oldest_age)
            assert "<forebay.Buffer 'letters': suspended, 1 of 100000 pending>" == repr(buffer)
            store.broken = None
        assert 3 * delay == trio.current_time()
        now = buffer.statistics()
        assert (False, None, 0, 3) == (now.suspended, now.last_error, now.pending, now.retries)
    assert [0.0, delay, 2 * delay, 3 * delay] == store.times
    assert [("a",)] == store.rows(LETTERS)


async def test_the_last_attempt_that_is_allowed_suspends(autojump_clock: MockClock) -> None:
    """Before `max_attempts` is reached, the buffer is not suspended, and retries sooner."""
    store = Fragile()
    store.broken = busy
    options = SUSPEND.override({"retry": {"max_attempts": 3}})
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        await trio.sleep(1)
        assert not buffers[LETTERS].statistics().suspended
        await trio.sleep(1)
        assert buffers[LETTERS].statistics().suspended
        await trio.sleep(4)
        store.broken = None
        await buffers.flush()
    assert [0.2, 0.7, 1.7, 3.7, 5.7, 7.7] == pytest.approx(store.times)


async def test_a_batch_in_doubt_keeps_its_attempt(autojump_clock: MockClock) -> None:
    """The store checks what became of a COMMIT in doubt at the next call of the same attempt."""
    attempts = 0

    class Counting(Fragile):
        def begin(self, batch: Batch) -> Any:
            nonlocal attempts
            attempts += 1
            return super().begin(batch)

    store = Counting()
    store.broken = in_doubt
    options = SUSPEND.override({"retry": {"max_attempts": 1}})
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        await trio.sleep(5)
        assert buffers[LETTERS].statistics().suspended
        store.broken = None
    assert (1, [("a",)]) == (attempts, store.rows(LETTERS))


@pytest.mark.parametrize("suspended", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        BatchError("corrupt", kind=FailureKind.FATAL, code="X", recoverable=False),
        BatchError("lost", kind=FailureKind.TRANSIENT, code="X", recoverable=False),
        StoreError("replaced"),
        ZeroDivisionError(),
    ],
    ids=str,
)
async def test_a_lost_database_or_an_unknown_error_stops_the_buffer(
    autojump_clock: MockClock, error: BaseException, suspended: bool
) -> None:
    """At once, also if the buffer is suspended already."""
    store = Fragile()
    store.broken = missing
    options = SUSPEND.override({"retry": {"max_attempts": 1}})
    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, LETTERS, OTHERS, options=options) as buffers:
            if suspended:
                buffers[LETTERS].enqueue_nowait(Letter("a"))
                await trio.sleep(1)
                assert buffers[LETTERS].statistics().suspended
            store.broken = lambda: error
            buffers[OTHERS].enqueue_nowait(Letter("b"))
            with pytest.raises(trio.BrokenResourceError):
                await buffers[LETTERS].write(Letter("c"))
    assert not buffers[LETTERS].statistics().suspended
    assert error in (caught.value.__cause__, caught.value.__context__)
    assert 1 + suspended == caught.value.unsettled.count
    assert [("b",)] == store.rows(OTHERS)


@pytest.mark.parametrize("failure", [missing, flood])
async def test_the_default_is_to_stop(
    autojump_clock: MockClock, failure: Callable[[], BatchError]
) -> None:
    """Without the option, the same failures end the block."""
    store = Fragile()
    store.broken = failure
    with pytest.raises(FlushError):
        async with open_buffers(store, LETTERS) as buffers:
            await buffers[LETTERS].write(Letter("a"))
    assert 1 == len(store.times)


async def test_an_override_suspends_one_buffer(autojump_clock: MockClock) -> None:
    """The other buffers still stop."""
    store = Fragile()
    store.broken = missing
    async with open_buffers(store, LETTERS, overrides={"letters": SUSPEND}) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        await trio.sleep(1)
        assert buffers[LETTERS].statistics().suspended
        store.broken = None
    with pytest.raises(FlushError):
        async with open_buffers(
            store, LETTERS, OTHERS, overrides={"others": SUSPEND}, options=BufferOptions()
        ) as buffers:
            store.broken = missing
            await buffers[LETTERS].write(Letter("a"))


# The check of the table


async def test_the_table_is_checked_before_each_attempt(autojump_clock: MockClock) -> None:
    """A table that was created anew may not be the declared one. Nothing is written to it."""
    store = Fragile()
    store.broken = missing
    async with open_buffers(store, LETTERS, options=SUSPEND) as buffers:
        assert 1 == store.checks
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        await trio.sleep(1)
        assert (1, 1) == (store.checks, len(store.times))
        store.broken, store.unsuitable = None, SchemaError("no column", table="letters")
        await trio.sleep(4)
        assert (3, 1) == (store.checks, len(store.times))
        now = buffers[LETTERS].statistics()
        assert (True, "no column") == (now.suspended, now.last_error)
        store.unsuitable = None
        await buffers.flush()
        await buffers[LETTERS].write(Letter("b"))
    assert 4 == store.checks
    assert [("a",), ("b",)] == store.rows(LETTERS)


@pytest.mark.parametrize(
    ("error", "stops"),
    [
        (busy(), False),
        (BatchError("corrupt", kind=FailureKind.FATAL, code="X", recoverable=False), True),
        (StoreError("the database is gone"), True),
    ],
    ids=["locked", "corrupt", "gone"],
)
async def test_a_check_that_fails(autojump_clock: MockClock, error: Exception, stops: bool) -> None:
    """If waiting may help, the buffer stays suspended. If the database is lost, it stops."""
    store = Fragile()
    store.broken = missing
    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, LETTERS, options=SUSPEND) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            await trio.sleep(1)
            store.unsuitable = error
            await trio.sleep(3)
            assert not stops
            assert buffers[LETTERS].statistics().suspended
    assert 1 == caught.value.unsettled.count
    assert 1 == len(store.times)


# While a buffer is suspended


async def test_it_accepts_entries_until_it_is_full(autojump_clock: MockClock) -> None:
    """Then producers wait, and go on when the suspension ends."""
    store = Fragile()
    store.broken = missing
    options = SUSPEND.override({"capacity": 3})
    async with (
        open_buffers(store, LETTERS, options=options) as buffers,
        trio.open_nursery() as nursery,
    ):
        buffer = buffers[LETTERS]
        await buffer.enqueue_many([Letter("a"), Letter("b"), Letter("c")])
        await trio.sleep(1)
        with pytest.raises(trio.WouldBlock):
            buffer.enqueue_nowait(Letter("x"))
        with trio.move_on_after(1) as impatient:
            await buffer.enqueue(Letter("x"))
        assert impatient.cancelled_caught
        for name in "de":
            nursery.start_soon(buffer.enqueue, Letter(name))
            await wait_all_tasks_blocked()
        now = buffer.statistics()
        assert (3, 3, 2) == (now.accepted, now.pending, now.waiting)
        store.broken = None
    assert [(name,) for name in "abcde"] == sorted(store.rows(LETTERS))


async def test_calls_that_wait_for_a_commit_wait_on(autojump_clock: MockClock) -> None:
    """`write` and `flush` return when the suspension has ended. They can be cancelled before."""
    store = Fragile()
    store.broken = missing
    returned: list[str] = []

    async def wait(name: str, call: Callable[[], Awaitable[object]]) -> None:
        await call()
        returned.append(name)

    async with open_buffers(store, LETTERS, OTHERS, options=SUSPEND) as buffers:
        buffer = buffers[LETTERS]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "write", lambda: buffer.write(Letter("a")))
            await wait_all_tasks_blocked()
            nursery.start_soon(wait, "flush", buffer.flush)
            nursery.start_soon(wait, "flush all", buffers.flush)
            await trio.sleep(1)
            with trio.move_on_after(1) as impatient:
                await buffer.write(Letter("b"))
            assert impatient.cancelled_caught
            with trio.move_on_after(1) as impatient:
                await buffer.flush()
            assert impatient.cancelled_caught
            assert ([], 2) == (returned, buffer.statistics().pending)
            store.broken = None
        assert ["flush", "flush all", "write"] == sorted(returned)
    assert [("a",), ("b",)] == store.rows(LETTERS)


async def test_the_other_buffers_go_on(autojump_clock: MockClock) -> None:
    """The body of the block is not cancelled, and other tables commit."""
    store = Fragile()
    store.broken = missing
    async with open_buffers(store, LETTERS, OTHERS, options=SUSPEND) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        for _ in range(10):
            await trio.sleep(1)
            await buffers[OTHERS].write(Letter("b"))
        store.broken = None
    assert ([("a",)], [("b",)] * 10) == (store.rows(LETTERS), store.rows(OTHERS))


# Parts of a batch that are committed


class InParts(MemoryStore):
    """A store that commits one entry per transaction, and fails before each one that is listed.

    The rows of a batch are committed in their order. An entry "bad" becomes a dead letter.
    """

    def __init__(self, *failures: int, error: Callable[[], BatchError] = missing) -> None:
        super().__init__()
        self.failures = list(failures)
        self.error = error
        self.limits: list[float] = []
        self.delay = 0.5
        self.committed: list[str] = []

    def begin(self, batch: Batch) -> Any:
        return _InParts(
            self, [asked.row[0] for asked in batch.operations() if isinstance(asked, Write)]
        )


class _InParts:
    def __init__(self, store: InParts, names: list[str]) -> None:
        self.store = store
        self.names = names
        self.done = 0

    def outcome(self) -> Outcome:
        done = self.names[: self.done]
        rejections = [
            Rejection(number, Write(("bad",)), "X", "x", number)
            for number, name in enumerate(done, 1)
            if name == "bad"
        ]
        return Outcome({"write": self.done - len(rejections)}, rejections)

    async def commit(self, *, rejection_limit: float) -> Outcome:
        store = self.store
        await trio.sleep(store.delay)
        store.delay = 0.0
        store.limits.append(rejection_limit)
        while self.done < len(self.names):
            if store.failures and store.failures[0] == len(store.committed):
                store.failures.pop(0)
                error = store.error()
                error.settled, error.outcome = self.done, self.outcome()
                raise error
            store.committed.append(self.names[self.done])
            self.done += 1
        return self.outcome()


@pytest.mark.parametrize("error", [missing, busy, in_doubt], ids=["fatal", "busy", "in doubt"])
async def test_what_was_committed_is_settled_at_each_failure(
    autojump_clock: MockClock, error: Callable[[], BatchError]
) -> None:
    """Counts, tasks that wait, capacity, and the age of the oldest entry are right at once."""
    store = InParts(3, 3, 4, error=error)
    options = SUSPEND.override({"capacity": 5, "retry": {"initial_delay": 2}})
    heard: list[float] = []

    async def write(buffer: Buffer[Letter], name: str) -> None:
        await buffer.write(Letter(name))
        heard.append(trio.current_time())

    async with (
        open_buffers(store, LETTERS, options=options) as buffers,
        trio.open_nursery() as nursery,
    ):
        buffer = buffers[LETTERS]
        nursery.start_soon(buffer.write, Letter("z"))
        await trio.sleep(0.25)
        for name in "abcd":  # while "z" is in flight, so that they make one batch
            nursery.start_soon(write, buffer, name)
            await wait_all_tasks_blocked()
        await trio.sleep(0.75)
        now = buffer.statistics()
        assert (5, 3, 2, 2) == (now.accepted, now.committed, now.pending, now.flushes)
        assert ([0.5, 0.5], 0.75) == (heard, now.oldest_age)
        for name in "efg":
            buffer.enqueue_nowait(Letter(name))
        with pytest.raises(trio.WouldBlock):
            buffer.enqueue_nowait(Letter("x"))
        await trio.sleep(2)
        assert (3, 2) == (buffer.statistics().committed, buffer.statistics().flushes)
        await trio.sleep(2)
        assert (4, 3) == (buffer.statistics().committed, buffer.statistics().flushes)
        await buffer.flush()
        assert (8, 0) == (buffer.statistics().committed, buffer.statistics().pending)
        for name in "hijkl":
            buffer.enqueue_nowait(Letter(name))
        with pytest.raises(trio.WouldBlock):
            buffer.enqueue_nowait(Letter("x"))
    assert [0.5, 0.5, 4.5, 6.5] == heard
    assert list("zabcdefghijkl") == store.committed


async def test_the_bytes_of_a_committed_part_are_released(autojump_clock: MockClock) -> None:
    """With `capacity_bytes`, its entries make room, and in the end all room is free again."""
    store = InParts(3)
    options = SUSPEND.override({"capacity_bytes": 600})
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffer = buffers[LETTERS]
        accepted = 0
        with pytest.raises(trio.WouldBlock):
            while True:
                buffer.enqueue_nowait(Letter(f"n{accepted}"))
                accepted += 1
        assert accepted > 4
        await trio.sleep(1)
        assert (3, accepted - 3) == (buffer.statistics().committed, buffer.statistics().pending)
        for number in range(3):
            buffer.enqueue_nowait(Letter(f"m{number}"))
        with pytest.raises(trio.WouldBlock):
            buffer.enqueue_nowait(Letter("xx"))
        await buffer.flush()
        for number in range(accepted):
            buffer.enqueue_nowait(Letter(f"o{number}"))
        with pytest.raises(trio.WouldBlock):
            buffer.enqueue_nowait(Letter("xx"))
    assert 2 * accepted + 3 == len(store.committed)


async def test_dead_letters_of_a_part_count_once(autojump_clock: MockClock) -> None:
    """In the statistics, and for the limit per minute, which the store applies to the batch."""
    store = InParts(3)
    options = SUSPEND.override({"dead_letters_per_minute": 10})
    async with open_buffers(store, LETTERS, options=options) as buffers:
        await buffers[LETTERS].enqueue_many(map(Letter, ("bad", "a", "bad", "bad", "b")))
        await trio.sleep(1)
        now = buffers[LETTERS].statistics()
        assert (2, 1, 2) == (now.dead_lettered, now.committed, now.pending)
        await buffers.flush()
        now = buffers[LETTERS].statistics()
        assert (3, 2, 0) == (now.dead_lettered, now.committed, now.pending)
        await buffers[LETTERS].write(Letter("c"))
    # The settled dead letters of a batch are counted by the store. The others are subtracted.
    assert [10, 8 + 2, 7] == store.limits


# The end


async def test_a_drain_tries_once_more(autojump_clock: MockClock) -> None:
    """If that succeeds, the buffer drains. The wait for the next attempt is cut short."""
    store = Fragile()
    store.broken = flood
    async with open_buffers(store, LETTERS, options=SUSPEND) as buffers:
        await buffers[LETTERS].enqueue_many([Letter("a"), Letter("b")])
        await trio.sleep(1)
        store.broken = None
        buffers[LETTERS].enqueue_nowait(Letter("c"))
    assert 1.0 == trio.current_time()
    assert [("a",), ("b",), ("c",)] == store.rows(LETTERS)


@pytest.mark.parametrize("failure", [missing, flood, busy, in_doubt])
async def test_a_drain_that_cannot_help_ends_at_once(
    autojump_clock: MockClock, failure: Callable[[], BatchError]
) -> None:
    """It makes one attempt, not one until the drain's deadline. The others drain."""
    store = Fragile()
    store.broken = failure
    options = SUSPEND.override({"retry": {"max_attempts": 1}})
    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, LETTERS, OTHERS, options=options) as buffers:
            await buffers[LETTERS].enqueue_many([Letter("a"), Letter("b")])
            await trio.sleep(1)
            buffers[LETTERS].enqueue_nowait(Letter("c"))
            buffers[OTHERS].enqueue_nowait(Letter("d"))
    assert 1.0 == trio.current_time()
    assert 2 == len(store.times)
    assert tuple(Write((name,)) for name in "abc") == caught.value.unsettled.entries
    assert (failure is in_doubt) == caught.value.in_doubt
    assert "stopped after 2 attempts" in str(caught.value)
    assert [("d",)] == store.rows(OTHERS)


async def test_a_failure_of_the_drain_does_not_suspend(autojump_clock: MockClock) -> None:
    """The first attempt at the batch is the last one if it begins while the buffer drains."""
    store = Fragile()
    store.broken = missing
    with pytest.raises(FlushError):
        async with open_buffers(store, LETTERS, options=SUSPEND) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
    assert [0.0] == store.times


async def test_an_attempt_that_began_before_the_drain_is_not_the_last(
    autojump_clock: MockClock,
) -> None:
    """The cause may have been removed since, so the drain tries once more."""

    class Slow(Fragile):
        async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
            broken = self.broken
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            if broken is not None:
                raise broken()
            return await commit()

    store = Slow()
    store.broken = missing
    async with open_buffers(store, LETTERS, options=SUSPEND) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        await trio.sleep(0.5)
        store.broken = None
    assert 2.2 == pytest.approx(trio.current_time())
    assert [("a",)] == store.rows(LETTERS)


@pytest.mark.parametrize("how", ["give_up", "drain_timeout"])
async def test_a_drain_without_time_names_the_entries(autojump_clock: MockClock, how: str) -> None:
    """The error of the deadline has the error that suspended the buffer."""
    store = Fragile()
    store.broken = missing
    options = SUSPEND.override({"drain_timeout": 0} if how == "drain_timeout" else {})
    with pytest.raises(DrainError) as caught:
        async with open_buffers(store, LETTERS, options=options) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            await trio.sleep(1)
            if how == "give_up":
                buffers.give_up()
    left = caught.value.unsettled["letters"]
    assert ((Write(("a",)),), MISSING) == (left.entries, str(left.last_error))
    assert not buffers[LETTERS].statistics().suspended


async def test_cancellation_drains(autojump_clock: MockClock) -> None:
    """A cancelled body ends at once, and the drain tries once more."""
    store = Fragile()
    store.broken = missing
    with trio.move_on_after(1) as scope:
        async with open_buffers(store, LETTERS, options=SUSPEND) as buffers:
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            await trio.sleep(0.5)
            store.broken = None
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert (1.0, [("a",)]) == (trio.current_time(), store.rows(LETTERS))


async def test_a_suspension_that_ended_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    """The next failure suspends again. A transient one backs off as in any other buffer."""
    store = Fragile()
    async with open_buffers(store, LETTERS, options=SUSPEND) as buffers:
        for _ in range(2):
            store.broken = missing
            buffers[LETTERS].enqueue_nowait(Letter("a"))
            await trio.sleep(1)
            assert buffers[LETTERS].statistics().suspended
            store.broken = None
            await buffers.flush()
            assert not buffers[LETTERS].statistics().suspended
        store.times.clear()
        started = trio.current_time()
        store.broken = busy
        buffers[LETTERS].enqueue_nowait(Letter("b"))
        await trio.sleep(1)
        assert not buffers[LETTERS].statistics().suspended
        store.broken = None
    assert [0.2, 0.7, 1.7] == pytest.approx([time - started for time in store.times])
