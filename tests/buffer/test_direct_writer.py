"""`write` by one task: its rows are committed past the worker while nothing else is pending."""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest
import trio

import forebay
from forebay import (
    Buffer,
    BufferOptions,
    DrainError,
    FlushError,
    RowError,
    Table,
    Write,
    open_buffers,
    open_sqlite,
)
from forebay.stores import Attempt, Batch
from forebay.testing import MemoryStore
from tests.buffer.interrupter import Interrupter, trace_function_replaced

PATIENCE = 20.0
PACKAGE = str(Path(forebay.__file__).parent)


class Note(NamedTuple):
    name: str
    size: int = 0


NOTES = Table(Note, name="notes", key="name")
CREATE = "CREATE TABLE notes (name TEXT PRIMARY KEY, size INTEGER NOT NULL CHECK (size >= 0))"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "notes.db")) as raw:
        raw.execute(CREATE)
    return tmp_path / "notes.db"


def names(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as raw:
        return {name for (name,) in raw.execute("SELECT name FROM notes")}


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the write lock, as another process may do."""
    with closing(sqlite3.connect(file, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        yield


async def write_some(buffer: Buffer[Note], count: int = 20) -> None:
    """Write rows from this task, until the next one is committed past the worker."""
    for number in range(count):
        await buffer.write(Note(f"before {number}"))


class Steps(trio.abc.Instrument):
    """Counts the steps of tasks by their names."""

    def __init__(self) -> None:
        self.of = Counter[str]()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.of[task.name] += 1


async def test_the_worker_need_not_run(file: Path) -> None:
    """On a busy machine a commit may take longer, so that the worker goes on with some of them."""
    steps = Steps()
    async with open_sqlite(file) as store, open_buffers(store, NOTES) as buffers:
        buffer = buffers[NOTES]
        await write_some(buffer)
        trio.lowlevel.add_instrument(steps)
        alone = 0
        for number in range(300):
            before = steps.of["forebay notes"]
            await buffer.write(Note(str(number)))
            alone += steps.of["forebay notes"] == before
            assert str(number) in names(file)
            assert 0 == buffer.statistics().pending
        trio.lowlevel.remove_instrument(steps)
        assert 320 == buffer.statistics().flushes == buffer.statistics().committed
    assert alone


async def test_each_write_is_a_checkpoint(file: Path) -> None:
    """Other tasks run, and a cancelled one writes nothing more."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with open_sqlite(file) as store, open_buffers(store, NOTES) as buffers:
        buffer = buffers[NOTES]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            for number in range(100):
                await buffer.write(Note(str(number)))
            assert turns > 90  # tasks of one turn of the loop run in a random order
            nursery.cancel_scope.cancel()
        with trio.CancelScope() as scope:
            scope.cancel()
            await buffer.write(Note("cancelled"))
        assert scope.cancelled_caught
        assert 100 == buffer.statistics().accepted


@pytest.mark.parametrize("tasks", [2, 50])
async def test_tasks_that_write_at_the_same_time_share_transactions(file: Path, tasks: int) -> None:
    """Only a task that writes alone makes transactions of one row."""

    async def write(first: int) -> None:
        for number in range(first, first + 10):
            await buffer.write(Note(str(number)))

    async with open_sqlite(file) as store, open_buffers(store, NOTES) as buffers:
        buffer = buffers[NOTES]
        async with trio.open_nursery() as nursery:
            for task in range(tasks):
                nursery.start_soon(write, 10 * task)
        assert 10 * tasks == buffer.statistics().committed
        assert 10 == buffer.statistics().flushes


async def test_a_refused_row_is_a_dead_letter(file: Path) -> None:
    """Its task gets the error, and writes on."""
    async with open_sqlite(file) as store, open_buffers(store, NOTES) as buffers:
        buffer = buffers[NOTES]
        for number in range(50):
            await buffer.write(Note(str(number)))
            with pytest.raises(RowError) as caught:
                await buffer.write(Note("refused", -1))
            assert number + 1 == caught.value.dead_letter
        now = buffer.statistics()
    assert (100, 50, 50, 0) == (now.accepted, now.committed, now.dead_lettered, now.pending)
    assert "refused" not in names(file)


async def test_a_cancelled_task_does_not_wait_for_the_commit(file: Path) -> None:
    """The row stays accepted, and the worker writes it."""
    async with open_sqlite(file) as store, open_buffers(store, NOTES) as buffers:
        buffer = buffers[NOTES]
        await write_some(buffer)
        for number in range(3):
            with locked(file):
                with trio.move_on_after(0.001) as scope:
                    await buffer.write(Note(str(number)))
                assert scope.cancelled_caught
                assert 1 == buffer.statistics().pending
            await buffer.flush()
            assert str(number) in names(file)
        assert 23 == buffer.statistics().committed


async def test_a_locked_database_is_waited_for(file: Path) -> None:
    """The worker retries. Rows of other tasks that come meanwhile follow."""
    async with open_sqlite(file) as store, open_buffers(store, NOTES) as buffers:
        buffer = buffers[NOTES]
        await write_some(buffer)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                with locked(file):
                    with trio.move_on_after(0.001):
                        await buffer.write(Note("mine"))
                    nursery.start_soon(buffer.write, Note("other"))
                    while not buffer.statistics().retries:
                        await trio.lowlevel.checkpoint()
                    assert 2 == buffer.statistics().pending
        assert {"mine", "other"} <= names(file)


@pytest.mark.parametrize("drain_timeout", [0.0, 0.02])
async def test_the_drain_names_a_row_that_it_cannot_write(file: Path, drain_timeout: float) -> None:
    """It awaits the end of a transaction that has begun, and knows its outcome."""
    options = BufferOptions(drain_timeout=drain_timeout)
    with ExitStack() as until_drained, pytest.raises(DrainError) as caught:
        async with (
            open_sqlite(file) as store,
            open_buffers(store, NOTES, options=options) as buffers,
        ):
            await write_some(buffers[NOTES])
            until_drained.enter_context(locked(file))
            with trio.move_on_after(0.001):
                await buffers[NOTES].write(Note("last"))
    assert [Write(("last", 0))] == list(caught.value.unsettled["notes"].entries)
    assert "last" not in names(file)


async def test_a_table_that_is_dropped_stops_the_buffer(file: Path) -> None:
    """The error of the block names the row."""
    with pytest.raises(FlushError) as caught:
        async with open_sqlite(file) as store, open_buffers(store, NOTES) as buffers:
            await write_some(buffers[NOTES])
            with closing(sqlite3.connect(file)) as raw:
                raw.execute("DROP TABLE notes")
            with pytest.raises(trio.BrokenResourceError):
                await buffers[NOTES].write(Note("last"))
            await trio.sleep_forever()
    assert [Write(("last", 0))] == list(caught.value.unsettled.entries)


async def test_the_drain_tries_once_more_after_an_attempt_before_it(file: Path) -> None:
    """With `on_failure="suspend"` this holds for the attempt of the task that writes, too."""
    options = BufferOptions(on_failure="suspend")
    for number in range(10):
        async with (
            open_sqlite(file) as store,
            open_buffers(store, NOTES, options=options) as buffers,
        ):
            await write_some(buffers[NOTES])
            with closing(sqlite3.connect(file)) as raw:
                raw.execute("DROP TABLE notes")
                with trio.move_on_after(0.0005):
                    await buffers[NOTES].write(Note(str(number)))
                raw.execute(CREATE)
        assert str(number) in names(file)


async def write_interrupted(file: Path, interrupter: Interrupter) -> None:
    returned = {f"before {number}" for number in range(5)}
    async with open_sqlite(file) as store, open_buffers(store, NOTES) as buffers:
        buffer = buffers[NOTES]
        await write_some(buffer, len(returned))
        with suppress(KeyboardInterrupt):
            interrupter.start()
            await buffer.write(Note("interrupted"))
            returned.add("interrupted")
        sys.settrace(None)
        with suppress(KeyboardInterrupt):
            await trio.lowlevel.checkpoint()
        with trio.fail_after(PATIENCE):
            await buffer.flush()
            await buffer.write(Note("after"))
        now = buffer.statistics()
        assert (0, now.accepted) == (now.pending, now.committed)
        assert now.accepted == len(names(file))
        assert returned | {"after"} <= names(file)


@pytest.mark.usefixtures("_python_handles_sigint")
def test_an_interrupt_at_any_line_leaves_the_account_exact(tmp_path: Path) -> None:
    """The row is accepted and committed, or neither."""
    for line in count(1):
        file = tmp_path / f"{line}.db"
        with closing(sqlite3.connect(file)) as raw:
            raw.execute(CREATE)
        interrupter = Interrupter(line, counts=lambda file: file.startswith(PACKAGE))
        try:
            with trace_function_replaced():
                trio.run(write_interrupted, file, interrupter)
        except BaseException as error:
            error.add_note(f"interrupted before {interrupter.place}")
            raise
        if not interrupter.place:
            break
    assert line > 50


class OutOfMemory(trio.abc.Instrument):
    """Raises MemoryError once, in the n-th call of a function of forebay in the turn of a task."""

    def __init__(self, call: int) -> None:
        self._left = call
        self.place = ""
        """The function, once the error was raised."""

    def trace(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            self._left -= 1
            if self._left == 0:
                self.place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                sys.settrace(None)
                raise MemoryError

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        sys.settrace(None)


async def write_out_of_memory(file: Path, failure: OutOfMemory) -> None:
    named = set[str]()
    try:
        async with open_sqlite(file) as store, open_buffers(store, NOTES) as buffers:
            buffer = buffers[NOTES]
            await write_some(buffer, 5)
            trio.lowlevel.add_instrument(failure)
            with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
                with suppress(MemoryError):
                    sys.settrace(failure.trace)
                    await buffer.write(Note("last"))
                await buffer.flush()
                await buffer.write(Note("after"))
    except FlushError as error:
        named |= {entry.row[0] for entry in error.unsettled.entries if isinstance(entry, Write)}
    finally:
        sys.settrace(None)
    assert len(names(file) | named) == buffer.statistics().accepted


def test_a_lack_of_memory_at_any_call_leaves_each_accepted_row_named(tmp_path: Path) -> None:
    """The row is not accepted, or it is committed, or the buffer stops and names it."""
    for call in count(1):
        file = tmp_path / f"{call}.db"
        with closing(sqlite3.connect(file)) as raw:
            raw.execute(CREATE)
        failure = OutOfMemory(call)
        try:
            with trace_function_replaced():
                trio.run(write_out_of_memory, file, failure)
        except BaseException as error:
            error.add_note(f"no memory in {failure.place}")
            raise
        if not failure.place:
            break
    assert call > 20


class Unready(MemoryStore):
    """A store that cannot begin the next batches."""

    ready = True

    def begin(self, batch: Batch) -> Attempt:
        if not self.ready:
            raise ConnectionRefusedError
        return super().begin(batch)


async def test_a_store_that_cannot_begin_a_batch_raises_its_error_in_write() -> None:
    """The row is not accepted."""
    store = Unready()
    async with open_buffers(store, NOTES) as buffers:
        buffer = buffers[NOTES]
        await write_some(buffer)
        store.ready = False
        with pytest.raises(ConnectionRefusedError):
            await buffer.write(Note("refused"))
        store.ready = True
        with trio.fail_after(PATIENCE):
            await buffer.write(Note("after"))
    assert (21, 21) == (buffer.statistics().accepted, buffer.statistics().committed)


async def test_a_store_that_cannot_begin_a_batch_of_the_worker_stops_the_buffer() -> None:
    """The error names the entries."""
    store = Unready()
    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, NOTES) as buffers:
            store.ready = False
            with pytest.raises(trio.BrokenResourceError):
                await buffers[NOTES].write(Note("first"))
    assert [Write(("first", 0))] == list(caught.value.unsettled.entries)
