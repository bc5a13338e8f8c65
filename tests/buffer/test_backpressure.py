"""A full buffer: which tasks wait, in what order, and what is accepted if a wait is cancelled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import Buffer, BufferOptions, Table, open_buffers
from forebay._table.operations import size_of
from forebay.testing import MemoryStore


class Letter(NamedTuple):
    name: str


LETTERS = Table(Letter, name="letters")

NEVER = math.inf


def stopped() -> MemoryStore:
    store = MemoryStore()
    store.stop()
    return store


def names(store: MemoryStore) -> list[str]:
    return [name for (name,) in store.rows(LETTERS)]


# Waiting for room


async def test_a_full_buffer_blocks(autojump_clock: MockClock) -> None:
    """Capacity limits the pending entries, including those of the batch in flight."""
    store = stopped()
    async with open_buffers(
        store, LETTERS, options=BufferOptions(capacity=3, batch_size=2)
    ) as buffers:
        buffer = buffers[LETTERS]
        for name in "abc":
            buffer.enqueue_nowait(Letter(name))
        await wait_all_tasks_blocked()
        assert 1 == store.attempts
        with pytest.raises(trio.WouldBlock):
            buffer.enqueue_nowait(Letter("d"))
        assert (3, 3) == (buffer.statistics().accepted, buffer.statistics().pending)
        store.resume()
        await buffer.flush()
        buffer.enqueue_nowait(Letter("e"))
    assert list("abce") == names(store)


async def test_a_full_buffer_flushes(autojump_clock: MockClock) -> None:
    """A task that waits for room does not wait for the flush interval."""
    store = MemoryStore()
    options = BufferOptions(capacity=2, flush_interval=NEVER)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        for name in "abcde":
            await buffers[LETTERS].enqueue(Letter(name))
        assert 0.0 == trio.current_time()
        assert 4 == buffers[LETTERS].statistics().committed


async def test_room_is_granted_first_come_first_served(autojump_clock: MockClock) -> None:
    """Tasks that wait for room get it one by one, in the order of their calls."""
    store = MemoryStore(delay=1)
    expected = [str(i) for i in range(30)]
    async with (
        open_buffers(store, LETTERS, options=BufferOptions(capacity=1)) as buffers,
        trio.open_nursery() as nursery,
    ):
        for name in expected:
            nursery.start_soon(buffers[LETTERS].enqueue, Letter(name))
            await wait_all_tasks_blocked()
        assert 29 == buffers[LETTERS].statistics().waiting
    assert expected == names(store)


async def test_a_new_call_does_not_overtake_tasks_that_wait(autojump_clock: MockClock) -> None:
    """Released capacity goes to tasks that wait, even if `enqueue_nowait` is called first."""
    store = stopped()
    async with open_buffers(store, LETTERS, options=BufferOptions(capacity=1)) as buffers:
        buffer = buffers[LETTERS]
        buffer.enqueue_nowait(Letter("a"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(buffer.enqueue, Letter("b"))
            nursery.start_soon(buffer.enqueue, Letter("b"))
            await wait_all_tasks_blocked()
            store.resume()
            while buffer.statistics().committed == 0:
                with pytest.raises(trio.WouldBlock):
                    buffer.enqueue_nowait(Letter("c"))
                await trio.lowlevel.checkpoint()
            with pytest.raises(trio.WouldBlock):
                buffer.enqueue_nowait(Letter("c"))
    assert list("abb") == names(store)


async def test_a_bulk_producer_does_not_starve_the_others(autojump_clock: MockClock) -> None:
    """While one task runs an endless `enqueue_many`, other tasks can enqueue."""
    store = MemoryStore(delay=1)
    async with open_buffers(store, LETTERS, options=BufferOptions(capacity=10)) as buffers:
        buffer = buffers[LETTERS]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(buffer.enqueue_many, iter(lambda: Letter("bulk"), None))
            await trio.sleep(3.5)
            for i in range(5):
                with trio.fail_after(1.5):
                    await buffer.enqueue(Letter(str(i)))
            nursery.cancel_scope.cancel()
    assert list("01234") == [name for name in names(store) if name != "bulk"]


@pytest.mark.parametrize("call", ["enqueue", "enqueue_many, which needs no room"])
async def test_other_tasks_run_while_many_tasks_get_room(
    autojump_clock: MockClock, call: str
) -> None:
    """A batch that settles does not wake thousands of tasks in one turn of the event loop."""
    store = stopped()
    steps: list[str] = []

    async def produce(buffer: Buffer[Letter], name: str) -> None:
        if call == "enqueue":
            await buffer.enqueue(Letter(name))
        else:
            await buffer.enqueue_many(iter(()))
        steps.append(name)

    async def tick() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            steps.append("tick")

    expected = [str(i) for i in range(1_500)]
    options = BufferOptions(capacity=1_000)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffer = buffers[LETTERS]
        for _ in range(1_000):
            buffer.enqueue_nowait(Letter("first"))
        async with trio.open_nursery() as ticking:
            async with trio.open_nursery() as nursery:
                for name in expected:
                    nursery.start_soon(produce, buffer, name)
                    await trio.lowlevel.checkpoint()
                await wait_all_tasks_blocked()
                assert 1_500 == buffer.statistics().waiting
                store.resume()
                ticking.start_soon(tick)
            ticking.cancel_scope.cancel()
        await buffer.flush()
    assert set(expected) == set(steps) - {"tick"}
    turns = "".join("|" if step == "tick" else "." for step in steps).split("|")
    assert max(map(len, turns)) <= 300  # the ticker runs once per turn, before or after the others


async def test_tasks_that_get_room_in_turns_fill_a_batch(autojump_clock: MockClock) -> None:
    """The worker does not flush what the first of many tasks enqueue before the others do."""
    store = stopped()
    options = BufferOptions(capacity=1_000, batch_size=1_000, flush_interval=NEVER)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffer = buffers[LETTERS]
        async with trio.open_nursery() as nursery:
            for number in range(3_500):
                nursery.start_soon(buffer.enqueue, Letter(str(number)))
            await wait_all_tasks_blocked()
            assert 2_500 == buffer.statistics().waiting
            store.resume()
        assert 3_000 == buffer.statistics().committed
        assert 3 == buffer.statistics().flushes
    assert 3_500 == len(names(store))


async def test_tasks_that_are_cancelled_before_their_turn_get_no_room(
    autojump_clock: MockClock,
) -> None:
    """A task that is cancelled before its turn has no entry accepted, and its room is not lost."""
    store = stopped()
    options = BufferOptions(capacity=500, flush_interval=NEVER)
    returned: list[str] = []

    async def produce(buffer: Buffer[Letter], name: str) -> None:
        await buffer.enqueue(Letter(name))
        returned.append(name)

    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffer = buffers[LETTERS]
        for _ in range(500):
            buffer.enqueue_nowait(Letter("first"))
        async with trio.open_nursery() as nursery:
            for number in range(1_000):
                nursery.start_soon(produce, buffer, str(number))
            await wait_all_tasks_blocked()
            store.resume()
            while not returned:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert 0 == buffer.statistics().waiting
        assert 500 + len(returned) == buffer.statistics().accepted
        buffer.enqueue_nowait(Letter("last"))  # there is room
    assert sorted(returned) == sorted(set(names(store)) - {"first", "last"})
    assert 0 < len(returned) < 1_000


class Maximum(trio.abc.Instrument):
    """Records maxima of a buffer's statistics, which it reads after each step of any task."""

    def __init__(self, buffer: Buffer[Letter]) -> None:
        self._buffer = buffer
        self._accepted = 0
        self.pending = 0
        self.accepted_in_one_step = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        now = self._buffer.statistics()
        self.pending = max(self.pending, now.pending)
        self.accepted_in_one_step = max(self.accepted_in_one_step, now.accepted - self._accepted)
        self._accepted = now.accepted


@contextmanager
def maximum_of(buffer: Buffer[Letter]) -> Iterator[Maximum]:
    maximum = Maximum(buffer)
    trio.lowlevel.add_instrument(maximum)
    yield maximum
    trio.lowlevel.remove_instrument(maximum)


@pytest.mark.parametrize("batch_size", [1, 7, 10])
async def test_memory_is_bounded(autojump_clock: MockClock, batch_size: int) -> None:
    """With 1,000 producers and a slow store, pending entries never exceed the capacity."""
    store = MemoryStore(delay=0.125)
    options = BufferOptions(capacity=10, batch_size=batch_size)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        with maximum_of(buffers[LETTERS]) as maximum:
            async with trio.open_nursery() as nursery:
                for i in range(1_000):
                    nursery.start_soon(buffers[LETTERS].enqueue, Letter(str(i)))
    assert 10 == maximum.pending
    assert {str(i) for i in range(1_000)} == set(names(store))
    assert 1_000 == len(names(store))


# Cancelled waits


async def test_a_cancelled_enqueue_was_not_accepted(autojump_clock: MockClock) -> None:
    """A call that is cancelled while it waits for room leaves no entry behind."""
    store = stopped()
    async with open_buffers(store, LETTERS, options=BufferOptions(capacity=1)) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        with trio.move_on_after(1) as waiting:
            await buffers[LETTERS].enqueue(Letter("b"))
        assert (1, 0) == (
            buffers[LETTERS].statistics().accepted,
            buffers[LETTERS].statistics().waiting,
        )
        store.resume()
    assert waiting.cancelled_caught
    assert ["a"] == names(store)


async def test_tasks_behind_a_cancelled_one_move_up(autojump_clock: MockClock) -> None:
    """A task that is cancelled in the queue does not keep any capacity."""
    store = stopped()
    async with open_buffers(store, LETTERS, options=BufferOptions(capacity=2)) as buffers:
        buffer = buffers[LETTERS]
        await buffer.enqueue_many([Letter("a"), Letter("b")])
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(1):
                async with trio.open_nursery() as impatient:
                    impatient.start_soon(buffer.enqueue, Letter("x"))
                    await wait_all_tasks_blocked()
                    for name in "cde":
                        nursery.start_soon(buffer.enqueue, Letter(name))
                        await wait_all_tasks_blocked()
            store.resume()
    assert list("abcde") == sorted(names(store))


async def test_room_that_was_granted_is_not_lost_to_a_cancellation(
    autojump_clock: MockClock,
) -> None:
    """If `enqueue` is cancelled right after it got room, its entry is accepted and it returns."""
    store = stopped()
    returned = []

    async def enqueue(buffer: Buffer[Letter], scope: trio.CancelScope) -> None:
        with scope:
            await buffer.enqueue(Letter("b"))
            returned.append("b")

    async with open_buffers(store, LETTERS, options=BufferOptions(capacity=1)) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a"))
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(enqueue, buffers[LETTERS], scope)
            await wait_all_tasks_blocked()
            store.resume()
            while buffers[LETTERS].statistics().waiting:
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert (["b"], ["a", "b"]) == (returned, names(store))


# enqueue_many


class Drawn:
    """An iterable that counts the rows drawn from it."""

    def __init__(self, rows: int, *, then: BaseException | None = None) -> None:
        self._rows = rows
        self._then = then
        self.count = 0

    def __iter__(self) -> Iterator[Letter]:
        for i in range(self._rows):
            self.count += 1
            yield Letter(str(i))
        if self._then is not None:
            raise self._then


@pytest.mark.parametrize("rows", [0, 1, 999, 1_000, 1_001, 2_500])
@pytest.mark.parametrize("kind", [list, tuple, iter, Drawn])
@pytest.mark.parametrize("capacity", [1_000, 100_000])
async def test_all_rows_are_accepted_in_order(
    autojump_clock: MockClock, rows: int, kind: type, capacity: int
) -> None:
    """`enqueue_many` accepts all rows of any iterable, returns their number, releases the rest."""
    store = MemoryStore()
    expected = [str(i) for i in range(rows)]
    async with open_buffers(store, LETTERS, options=BufferOptions(capacity=capacity)) as buffers:
        iterable = Drawn(rows) if kind is Drawn else kind([Letter(name) for name in expected])
        assert rows == await buffers[LETTERS].enqueue_many(iterable)
        await buffers.flush()
        assert expected == names(store)
        store.stop()
        with trio.fail_after(1):
            await buffers[LETTERS].enqueue_many([Letter("again")] * capacity)
        with pytest.raises(trio.WouldBlock):
            buffers[LETTERS].enqueue_nowait(Letter("one too many"))
        store.resume()


async def test_no_row_is_drawn_without_room_for_it(autojump_clock: MockClock) -> None:
    """If `enqueue_many` is cancelled, every row that it drew is accepted."""
    store = stopped()
    rows = Drawn(100)
    async with open_buffers(store, LETTERS, options=BufferOptions(capacity=7)) as buffers:
        with trio.move_on_after(1) as waiting:
            await buffers[LETTERS].enqueue_many(rows)
        assert waiting.cancelled_caught
        assert 7 == rows.count == buffers[LETTERS].statistics().accepted
        store.resume()
    assert 7 == len(names(store))


async def test_a_row_that_is_enqueued_while_others_are_drawn_takes_no_room_of_theirs(
    autojump_clock: MockClock,
) -> None:
    """An iterable may enqueue into the same buffer: the capacity bounds both together."""
    store = stopped()
    blocked: list[Letter] = []
    async with open_buffers(store, LETTERS, options=BufferOptions(capacity=5)) as buffers:
        buffer = buffers[LETTERS]

        def rows() -> Iterator[Letter]:
            for name in "bcde":
                try:
                    buffer.enqueue_nowait(Letter("too many"))
                except trio.WouldBlock:
                    blocked.append(Letter(name))
                yield Letter(name)

        buffer.enqueue_nowait(Letter("a"))
        with trio.move_on_after(1) as waiting:
            await buffer.enqueue_many(rows())
        assert waiting.cancelled_caught
        assert (5, 4) == (buffer.statistics().pending, len(blocked))
        store.resume()
    assert list("abcde") == names(store)


async def test_the_same_holds_if_another_task_got_room_meanwhile(
    autojump_clock: MockClock,
) -> None:
    """`enqueue_many`, which waited for room, reserves none that the other task may still use."""

    def rows(buffer: Buffer[Letter]) -> Iterator[Letter]:
        for _ in range(9):
            with suppress(trio.WouldBlock):
                buffer.enqueue_nowait(Letter("of the iterable"))
            yield Letter("drawn")

    options = BufferOptions(capacity=10, flush_interval=NEVER)
    for _ in range(8):  # Trio decides at random which of the two tasks runs first
        store = stopped()
        async with open_buffers(store, LETTERS, options=options) as buffers:
            buffer = buffers[LETTERS]
            for _ in range(10):
                buffer.enqueue_nowait(Letter("first"))
            with maximum_of(buffer) as maximum:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(buffer.enqueue, Letter("other"))
                    await wait_all_tasks_blocked()
                    nursery.start_soon(buffer.enqueue_many, rows(buffer))
                    await wait_all_tasks_blocked()
                    store.resume()
        assert 10 == maximum.pending


async def test_a_list_that_just_fits_does_not_wait(autojump_clock: MockClock) -> None:
    """`enqueue_many` sees the end of a list without waiting for room for another row."""
    store = stopped()
    async with open_buffers(store, LETTERS, options=BufferOptions(capacity=3)) as buffers:
        with trio.fail_after(1):
            assert 3 == await buffers[LETTERS].enqueue_many([Letter(name) for name in "abc"])
            assert 0 == await buffers[LETTERS].enqueue_many([])
        store.resume()


async def test_the_length_of_a_wrapper_is_not_trusted(autojump_clock: MockClock) -> None:
    """A progress bar may have a wrong length, so rows are drawn until its iterator ends."""

    class Progress(Drawn):
        def __len__(self) -> int:
            return 1_000

    store = MemoryStore()
    async with open_buffers(store, LETTERS) as buffers:
        assert 2_500 == await buffers[LETTERS].enqueue_many(Progress(2_500))
    assert 2_500 == len(names(store))


async def test_rows_appended_to_the_list_are_accepted(autojump_clock: MockClock) -> None:
    """Rows appended while `enqueue_many` waits are accepted, as a `for` loop would see them."""
    store = stopped()
    rows = [Letter(name) for name in "abc"]
    async with (
        open_buffers(store, LETTERS, options=BufferOptions(capacity=2)) as buffers,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(buffers[LETTERS].enqueue_many, rows)
        await wait_all_tasks_blocked()
        rows.append(Letter("d"))
        store.resume()
    assert list("abcd") == names(store)


@pytest.mark.parametrize("bad", [0, 1, 999, 1_000, 1_700])
@pytest.mark.parametrize("options", [BufferOptions(), BufferOptions(capacity_bytes=10**9)])
async def test_the_rows_before_an_invalid_one_are_accepted(
    autojump_clock: MockClock, bad: int, options: BufferOptions
) -> None:
    """The row's error is raised unchanged, with a note that has the number of rows accepted."""
    store = MemoryStore()
    rows = [Letter(str(i)) for i in range(2_000)]
    rows[bad] = Letter(object())  # type: ignore[arg-type]
    async with open_buffers(store, LETTERS, options=options) as buffers:
        with pytest.raises(TypeError, match="cannot be stored") as caught:
            await buffers[LETTERS].enqueue_many(rows)
        assert bad == buffers[LETTERS].statistics().accepted
    assert [
        f"this is row {bad} of enqueue_many, counted from 0; the {bad} rows before it were accepted"
    ] == caught.value.__notes__
    assert [str(i) for i in range(bad)] == names(store)


@pytest.mark.parametrize("count", [0, 1, 999, 1_000, 1_700])
@pytest.mark.parametrize("options", [BufferOptions(), BufferOptions(capacity_bytes=10**9)])
async def test_the_rows_before_the_iterable_raises_are_accepted(
    autojump_clock: MockClock, count: int, options: BufferOptions
) -> None:
    """The rows drawn are not lost, and the exception is raised unchanged."""
    store, error = MemoryStore(), OSError("the file's")
    rows = Drawn(count, then=error)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        with pytest.raises(OSError, match="the file's") as caught:
            await buffers[LETTERS].enqueue_many(rows)
    assert caught.value is error
    assert [str(i) for i in range(count)] == names(store)


async def test_an_error_of_a_row_is_not_hidden_by_a_later_error(
    autojump_clock: MockClock,
) -> None:
    """If a row is invalid and the iterable then raises, the caller gets the row's error."""

    def rows() -> Iterator[Letter]:
        yield Letter("a")
        yield Letter(object())  # type: ignore[arg-type]
        raise OSError

    store = MemoryStore()
    async with open_buffers(store, LETTERS) as buffers:
        with pytest.raises(TypeError) as caught:
            await buffers[LETTERS].enqueue_many(rows())
    assert isinstance(caught.value.__context__, OSError)
    assert ["a"] == names(store)


@pytest.mark.parametrize("options", [BufferOptions(), BufferOptions(capacity_bytes=10**9)])
async def test_a_bulk_producer_lets_others_run(
    autojump_clock: MockClock, options: BufferOptions
) -> None:
    """`enqueue_many` is a schedule point at least once per 1,000 rows."""
    async with open_buffers(MemoryStore(), LETTERS, options=options) as buffers:
        with maximum_of(buffers[LETTERS]) as maximum:
            await buffers[LETTERS].enqueue_many(Drawn(3_500))
    assert 1 <= maximum.accepted_in_one_step <= 1_000


@pytest.mark.parametrize("options", [BufferOptions(), BufferOptions(capacity_bytes=10**9)])
async def test_a_closed_buffer_draws_no_row(
    autojump_clock: MockClock, options: BufferOptions
) -> None:
    """If the buffer is closed, `enqueue_many` draws no row."""
    rows = Drawn(3)
    async with open_buffers(MemoryStore(), LETTERS, options=options) as buffers:
        pass
    with pytest.raises(trio.ClosedResourceError):
        await buffers[LETTERS].enqueue_many(rows)
    assert 0 == rows.count


# Bytes

SMALL = Letter("a")
SIZE = size_of(SMALL)
BIG = Letter("b" * 10 * SIZE)


async def test_bytes_are_limited_too(autojump_clock: MockClock) -> None:
    """With `capacity_bytes` an entry waits until there is room for its bytes."""
    store = stopped()
    options = BufferOptions(capacity_bytes=3 * SIZE, flush_interval=NEVER)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        for _ in range(3):
            buffers[LETTERS].enqueue_nowait(SMALL)
        with pytest.raises(trio.WouldBlock):
            buffers[LETTERS].enqueue_nowait(SMALL)
        store.resume()
        await buffers[LETTERS].enqueue(SMALL)
        await buffers.flush()
        for _ in range(3):
            buffers[LETTERS].enqueue_nowait(SMALL)
    assert ["a"] * 7 == names(store)


async def test_an_entry_larger_than_the_limit_is_accepted_alone(autojump_clock: MockClock) -> None:
    """It waits until the buffer is empty, and later entries wait behind it."""
    store = stopped()
    options = BufferOptions(capacity_bytes=3 * SIZE, flush_interval=NEVER)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffer = buffers[LETTERS]
        buffer.enqueue_nowait(SMALL)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(buffer.enqueue, BIG)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.WouldBlock):
                buffer.enqueue_nowait(SMALL)
            nursery.start_soon(buffer.enqueue, Letter("c"))
            await wait_all_tasks_blocked()
            assert (1, 2) == (buffer.statistics().pending, buffer.statistics().waiting)
            store.resume()
    assert ["a", BIG.name, "c"] == names(store)
    assert [1, 1, 1] == [batch.entries for batch in store.batches]


async def test_small_entries_pass_once_a_large_one_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    """A wait that is cancelled does not block the tasks behind it, even if nothing settles."""
    store = stopped()
    options = BufferOptions(capacity_bytes=3 * SIZE, flush_interval=NEVER)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffer = buffers[LETTERS]
        buffer.enqueue_nowait(SMALL)
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(1):
                async with trio.open_nursery() as impatient:
                    impatient.start_soon(buffer.enqueue, BIG)
                    await wait_all_tasks_blocked()
                    nursery.start_soon(buffer.enqueue, Letter("c"))
                    await wait_all_tasks_blocked()
                    assert 2 == buffer.statistics().waiting
        assert (2, 0) == (buffer.statistics().pending, buffer.statistics().waiting)
        store.resume()


async def test_an_entry_without_room_for_its_bytes_makes_a_flush_due(
    autojump_clock: MockClock,
) -> None:
    """So a later `enqueue_nowait` has room, however long the interval is."""
    store = MemoryStore()
    options = BufferOptions(capacity_bytes=1_000, flush_interval=NEVER)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffers[LETTERS].enqueue_nowait(Letter("a" * 600))
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            buffers[LETTERS].enqueue_nowait(Letter("b" * 600))
        assert [] == names(store)
        await wait_all_tasks_blocked()
        assert ["a" * 600] == names(store)
        buffers[LETTERS].enqueue_nowait(Letter("b" * 600))


async def test_a_task_that_waits_for_bytes_makes_flushes_due_until_it_has_room(
    autojump_clock: MockClock,
) -> None:
    """The first flush does not release enough for it. The next one follows at once."""
    store = stopped()
    options = BufferOptions(capacity_bytes=1_000, flush_interval=NEVER)
    async with (
        open_buffers(store, LETTERS, options=options) as buffers,
        trio.open_nursery() as nursery,
    ):
        buffers[LETTERS].enqueue_nowait(Letter("a" * 300))
        nursery.start_soon(buffers[LETTERS].flush)
        await wait_all_tasks_blocked()
        buffers[LETTERS].enqueue_nowait(Letter("b" * 300))
        nursery.start_soon(buffers[LETTERS].enqueue, Letter("c" * 800))
        await wait_all_tasks_blocked()
        store.resume()
        await wait_all_tasks_blocked()
        assert [1, 1] == [len(batch) for batch in store.batches]
        assert 3 == buffers[LETTERS].statistics().accepted


async def test_bytes_are_released_with_their_entries(autojump_clock: MockClock) -> None:
    """An empty buffer has all its room again, however the entries were split into batches."""
    store = MemoryStore()
    options = BufferOptions(capacity_bytes=10 * SIZE, batch_size=3)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffer = buffers[LETTERS]
        for rows in (1, 5, 7, 10, 23):
            assert rows == await buffer.enqueue_many([SMALL] * rows)
            await buffer.flush()
            store.stop()
            for _ in range(10):
                buffer.enqueue_nowait(SMALL)
            with pytest.raises(trio.WouldBlock):
                buffer.enqueue_nowait(SMALL)
            store.resume()
            await buffer.flush()
    assert ["a"] * (46 + 5 * 10) == names(store)


async def test_bytes_of_entries_that_two_batches_share_are_released_once(
    autojump_clock: MockClock,
) -> None:
    """Three entries of one key leave the batch with room for two of the three that follow."""
    store, keyed = MemoryStore(), Table(Letter, name="keyed", key="name")
    options = BufferOptions(capacity_bytes=12 * SIZE, batch_size=3)
    async with open_buffers(store, keyed, options=options) as buffers:
        for name in "aaabcd":
            buffers[keyed].enqueue_nowait(Letter(name))
        await buffers.flush()
        assert [3, 1] == [len(batch) for batch in store.batches]
        store.stop()
        for _ in range(12):
            buffers[keyed].enqueue_nowait(SMALL)
        with pytest.raises(trio.WouldBlock):
            buffers[keyed].enqueue_nowait(SMALL)
        store.resume()
