"""Cancellation at every checkpoint: exactly the accepted entries are committed or named."""

from __future__ import annotations

import gc
import sqlite3
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import MockClock

from forebay import (
    Buffer,
    BufferOptions,
    DrainError,
    Table,
    Write,
    open_buffers,
    open_sqlite,
    run_buffers,
)
from forebay.testing import MemoryStore


class Note(NamedTuple):
    name: str
    text: str = ""


NOTES = Table(Note, name="notes", key="name", delete_by="text")
LOG = Table(Note, name="log")


class CancelAfter(trio.abc.Instrument):
    """Cancels a scope after a number of steps, of one task or of all tasks."""

    def __init__(self, steps: int, task: trio.lowlevel.Task | None) -> None:
        self.scope = trio.CancelScope()
        self._left = steps
        self._task = task

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._task in (None, task):
            self._left -= 1
            if self._left == 0:
                self.scope.cancel()


@contextmanager
def cancelled_after(steps: int, *, of: trio.lowlevel.Task | None) -> Iterator[trio.CancelScope]:
    instrument = CancelAfter(steps, of)
    if steps == 0:
        instrument.scope.cancel()
    trio.lowlevel.add_instrument(instrument)
    try:
        with instrument.scope:
            yield instrument.scope
    finally:
        trio.lowlevel.remove_instrument(instrument)


async def at_every_step(
    program: Callable[[], Awaitable[None]], check: Callable[[bool], None]
) -> int:
    """Run a program repeatedly, cancelled before its first step, after one step, after two, ….

    Args:
        program: what to run.
        check: called after each run, with whether the program ran to its end.

    Returns:
        The number of steps of a run that is not cancelled.
    """
    steps = 0
    while True:
        ended = False
        with cancelled_after(steps, of=None) as scope:
            await program()
            ended = True
        check(ended)
        if not scope.cancel_called:
            return steps
        steps += 1


# One call, cancelled at each of its checkpoints

CALLS: dict[str, Callable[[Buffer[Note]], Awaitable[object]]] = {
    "enqueue": lambda b: b.enqueue(Note("z")),
    "enqueue_many": lambda b: b.enqueue_many([Note("z")]),
    "enqueue_many from a generator": lambda b: b.enqueue_many(Note(n) for n in "z"),
    "enqueue_again": lambda b: b.enqueue_again([Write(("z", ""))]),
    "enqueue_update_many": lambda b: b.enqueue_update_many([("z", {"text": ""})]),
    "enqueue_delete_many": lambda b: b.enqueue_delete_many(["z"]),
    "enqueue_update": lambda b: b.enqueue_update("z", text=""),
    "enqueue_delete": lambda b: b.enqueue_delete("z"),
    "enqueue_delete_by": lambda b: b.enqueue_delete_by(""),
}


@pytest.mark.parametrize("full", [False, True], ids=["with room", "full"])
@pytest.mark.parametrize("options", [BufferOptions(), BufferOptions(capacity_bytes=10**6)])
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_that_is_cancelled_has_accepted_nothing(
    autojump_clock: MockClock, name: str, options: BufferOptions, full: bool
) -> None:
    """If `enqueue…` returns, its entry is accepted. If it is cancelled, its entry is not."""
    steps, outcomes = 0, set()
    while True:
        store = MemoryStore(delay=1)
        changes = {"capacity": 2} if full else {}
        async with open_buffers(store, NOTES, options=options.override(changes)) as buffers:
            buffer = buffers[NOTES]
            if full:
                await buffer.enqueue_many([Note("a"), Note("b")])
            before, returned = buffer.statistics().accepted, False
            with cancelled_after(steps, of=trio.lowlevel.current_task()) as scope:
                await CALLS[name](buffer)
                returned = True
            assert before + returned == buffer.statistics().accepted
            outcomes.add(returned)
        if not scope.cancel_called:
            break
        steps += 1
    assert {False, True} == outcomes


@pytest.mark.parametrize("full", [False, True], ids=["with room", "full"])
async def test_a_write_that_is_cancelled_stays_accepted(
    autojump_clock: MockClock, full: bool
) -> None:
    """If `write` is cancelled after it waited for room, its row is written; before, it is not."""
    steps, outcomes = 0, set()
    while True:
        store = MemoryStore(delay=1)
        async with open_buffers(store, LOG, options=BufferOptions(capacity=2)) as buffers:
            if full:
                await buffers[LOG].enqueue_many([Note("a"), Note("b")])
            before, returned = buffers[LOG].statistics().accepted, False
            with cancelled_after(steps, of=trio.lowlevel.current_task()) as scope:
                await buffers[LOG].write(Note("z"))
                returned = True
                assert ("z", "") in store.rows(LOG)
            accepted = buffers[LOG].statistics().accepted - before
        assert accepted == store.rows(LOG).count(("z", ""))
        outcomes.add((returned, accepted))
        if not scope.cancel_called:
            break
        steps += 1
    assert {(False, 0), (False, 1), (True, 1)} == outcomes


@pytest.mark.parametrize("flush", ["buffer", "buffers"])
async def test_a_flush_that_is_cancelled_only_stops_waiting(
    autojump_clock: MockClock, flush: str
) -> None:
    """The entries stay accepted, and other tasks go on waiting."""
    steps = 0
    while True:
        store = MemoryStore(delay=1)
        async with open_buffers(store, LOG) as buffers, trio.open_nursery() as nursery:
            await buffers[LOG].enqueue(Note("a"))
            nursery.start_soon(buffers[LOG].write, Note("b"))
            with cancelled_after(steps, of=trio.lowlevel.current_task()) as scope:
                await (buffers[LOG] if flush == "buffer" else buffers).flush()
                assert ("a", "") in store.rows(LOG)
        assert [("a", ""), ("b", "")] == sorted(store.rows(LOG))
        if not scope.cancel_called:
            break
        steps += 1
    assert 2 <= steps


async def test_cancelled_waits_leave_nothing_behind(autojump_clock: MockClock) -> None:
    """While the store hangs, tasks whose wait was cancelled are freed."""
    store = MemoryStore()
    store.stop()
    waited: list[weakref.ref[trio.lowlevel.Task]] = []

    async def give_up(wait: Callable[[], Awaitable[object]]) -> None:
        waited.append(weakref.ref(trio.lowlevel.current_task()))
        with trio.move_on_after(1):
            await wait()

    async with open_buffers(store, LOG, options=BufferOptions(capacity=1)) as buffers:
        buffer = buffers[LOG]
        await buffer.enqueue(Note("a"))
        async with trio.open_nursery() as nursery:
            for wait in (buffer.flush, lambda: buffer.enqueue(Note("b"))) * 10:
                nursery.start_soon(give_up, wait)
        gc.collect()
        # A queue that still held one of the tasks would keep it alive.
        assert [None] * 20 == [task() for task in waited]
        assert 0 == buffer.statistics().waiting
        store.resume()
    assert [("a", "")] == store.rows(LOG)


# Whole programs, cancelled after each step of any of their tasks


class Calls:
    """The calls of a program, by their outcome."""

    def __init__(self) -> None:
        self.returned: list[str] = []
        self.cancelled: list[str] = []
        self.drawn: list[str] = []
        self.written: list[str] = []

    async def enqueue(self, buffer: Buffer[Note], name: str) -> None:
        try:
            await buffer.enqueue(Note(name))
        except trio.Cancelled:
            self.cancelled.append(name)
            raise
        self.returned.append(name)

    async def write(self, buffer: Buffer[Note], name: str) -> None:
        await buffer.write(Note(name))
        self.written.append(name)

    async def enqueue_many(self, buffer: Buffer[Note], names: str) -> None:
        def rows() -> Iterator[Note]:
            for name in names:
                self.drawn.append(name)
                yield Note(name)

        await buffer.enqueue_many(rows())

    def check(self, names: list[str]) -> None:
        """Compare the names in the table or in the error with the outcome of the calls."""
        found = Counter(names)
        assert not found or 1 == max(found.values())
        assert set(self.returned) <= found.keys()
        assert set(self.written) <= found.keys()
        assert found.keys().isdisjoint(self.cancelled)
        assert set(self.drawn) == found.keys() & set("mnopqrstu")


async def work(calls: Calls, buffer: Buffer[Note]) -> None:
    async with trio.open_nursery() as nursery:
        for name in "abcd":
            nursery.start_soon(calls.enqueue, buffer, name)
        nursery.start_soon(calls.write, buffer, "x")
        nursery.start_soon(calls.enqueue_many, buffer, "mnopqrstu")
        nursery.start_soon(calls.write, buffer, "y")
        await calls.enqueue(buffer, "e")
        await buffer.flush()
        await calls.enqueue(buffer, "f")


OPTIONS = BufferOptions(capacity=3, batch_size=2, flush_interval=0.25)


async def test_a_program_loses_nothing_wherever_it_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    """Each accepted entry is committed once, and no other entry is committed."""
    store, calls = MemoryStore(), Calls()

    async def program() -> None:
        nonlocal store, calls
        store, calls = MemoryStore(delay=1), Calls()
        async with open_buffers(store, LOG, options=OPTIONS) as buffers:
            await work(calls, buffers[LOG])

    def check(ended: bool) -> None:
        calls.check([name for name, _ in store.rows(LOG)])
        if ended:
            assert list("abcdefmnopqrstuxy") == sorted(name for name, _ in store.rows(LOG))

    assert 50 < await at_every_step(program, check)


async def test_a_hanging_store_loses_nothing_unnamed_wherever_it_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    """If the store hangs after a while, each accepted entry is either committed or named."""
    store, calls = MemoryStore(), Calls()
    left: list[str] = []

    async def program() -> None:
        nonlocal store, calls
        store, calls = MemoryStore(delay=1), Calls()
        left.clear()
        try:
            with trio.move_on_after(2.5):
                async with open_buffers(store, LOG, options=OPTIONS) as buffers:
                    trio.lowlevel.spawn_system_task(stop_at, trio.current_time() + 2.25, store)
                    await work(calls, buffers[LOG])
        except DrainError as error:
            entries = error.unsettled["log"].entries
            left.extend(entry.row[0] for entry in entries if isinstance(entry, Write))

    async def stop_at(time: float, store: MemoryStore) -> None:
        await trio.sleep_until(time)
        store.stop()

    def check(_ended: bool) -> None:
        calls.check([name for name, _ in store.rows(LOG)] + left)

    assert 30 < await at_every_step(program, check)


async def test_run_buffers_loses_nothing_wherever_it_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    """If `run_buffers` is cancelled with its nursery, it drains as `open_buffers` does."""
    store, calls = MemoryStore(), Calls()

    async def program() -> None:
        nonlocal store, calls
        store, calls = MemoryStore(delay=1), Calls()
        async with trio.open_nursery() as nursery:
            buffers = await nursery.start(_run, store)
            await work(calls, buffers[LOG])
            nursery.cancel_scope.cancel()

    async def _run(store: MemoryStore, *, task_status: trio.TaskStatus[Any]) -> None:
        await run_buffers(store, LOG, options=OPTIONS, task_status=task_status)

    assert 50 < await at_every_step(
        program, lambda _: calls.check([name for name, _ in store.rows(LOG)])
    )


def committed(path: Path) -> list[str]:
    """Return the names in the table `log`; none if the file or the table does not exist."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as raw:
        if not raw.execute("SELECT * FROM sqlite_schema WHERE name = 'log'").fetchall():
            return []
        return [name for (name,) in raw.execute("SELECT name FROM log")]


async def test_a_program_on_a_file_loses_nothing_wherever_it_is_cancelled(
    tmp_path: Path,
) -> None:
    """The same holds for SQLite, including opening and closing: its thread ends its calls."""
    calls, run = Calls(), 0

    async def program() -> None:
        nonlocal calls, run
        calls, run = Calls(), run + 1
        async with (
            open_sqlite(tmp_path / f"{run}.db", create=[LOG], synchronous="OFF") as store,
            open_buffers(store, LOG, options=OPTIONS.override({"flush_interval": 0})) as buffers,
        ):
            async with trio.open_nursery() as nursery:
                for name in "ab":
                    nursery.start_soon(calls.enqueue, buffers[LOG], name)
                nursery.start_soon(calls.write, buffers[LOG], "x")
                nursery.start_soon(calls.enqueue_many, buffers[LOG], "mno")
            await buffers.flush()

    def check(ended: bool) -> None:
        names = committed(tmp_path / f"{run}.db")
        calls.check(names)
        if ended:
            assert list("abmnox") == sorted(names)

    await at_every_step(program, check)


async def test_a_transaction_of_the_program_is_committed_or_never_begun(tmp_path: Path) -> None:
    """If `store.run` is cancelled, its function was either not called or its work committed."""
    path = tmp_path / "a.db"
    called: list[int] = []

    def insert(raw: sqlite3.Connection) -> str:
        called.append(len(called))
        raw.execute("INSERT INTO log VALUES (?, '')", (str(called[-1]),))
        return "done"

    async with open_sqlite(path, create=[LOG]) as store:
        steps = 0
        while True:
            with cancelled_after(steps, of=trio.lowlevel.current_task()) as scope:
                assert "done" == await store.run(insert)
            if not scope.cancel_called:
                break
            steps += 1
        assert [(str(i),) for i in called] == await store.fetch_all("SELECT name FROM log")
    assert 1 <= len(called) <= steps


async def test_a_read_that_is_cancelled_releases_its_connection(tmp_path: Path) -> None:
    """The only reader is free again after each cancelled read."""
    async with open_sqlite(tmp_path / "a.db", create=[LOG], readers=1) as store:
        steps = 0
        while True:
            with cancelled_after(steps, of=trio.lowlevel.current_task()) as scope:
                await store.fetch_one("SELECT 1")
            with trio.fail_after(20):
                assert [(1,)] == await store.fetch_all("SELECT 1")
            if not scope.cancel_called:
                break
            steps += 1
