"""A busy event loop releases the GIL while a call runs in a thread, and only then."""

from __future__ import annotations

import sqlite3

import pytest
import trio

from forebay import sqlite
from forebay.sqlite import _gil
from forebay.sqlite._gil import GilReleaser, gil_releaser
from tests.thread_gate import ThreadGate

BUSY, IDLE = 0.0, 0.1
"""The timeouts of the loop's wait for I/O when it has work to do, and when it has none."""


class Time:
    """A clock that only `sleep` and the test move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(_gil, "sleep", time.sleep)
    monkeypatch.setattr(_gil, "perf_counter", lambda: time.now)
    return time


async def test_a_busy_loop_sleeps_while_a_call_runs(time: Time) -> None:
    """Without the sleep, the thread would not get the GIL."""
    releaser = GilReleaser()
    with releaser:
        releaser.before_io_wait(BUSY)
    assert 1 == len(time.slept)
    releaser.before_io_wait(BUSY)  # removes the other instrument


async def test_it_sleeps_between_the_tasks_of_a_tick(time: Time) -> None:
    """Many tasks with some work each make a tick long: the thread cannot wait for its end."""
    releaser = gil_releaser()

    async def work() -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            time.now += 0.001

    with releaser:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(work)
    assert len(time.slept) > 20


async def test_it_watches_no_task_when_no_call_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instrument that Trio calls for each step of a task slows down the whole program."""
    releaser = gil_releaser()
    added: list[trio.abc.Instrument] = []
    add, remove = trio.lowlevel.add_instrument, trio.lowlevel.remove_instrument

    def note_added(instrument: trio.abc.Instrument) -> None:
        add(instrument)
        added.append(instrument)

    def note_removed(instrument: trio.abc.Instrument) -> None:
        remove(instrument)
        added.remove(instrument)

    monkeypatch.setattr(trio.lowlevel, "add_instrument", note_added)
    monkeypatch.setattr(trio.lowlevel, "remove_instrument", note_removed)
    for _ in range(2):
        with releaser:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            assert 1 == len(added)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        assert [] == added


def test_an_idle_loop_does_not_sleep(time: Time) -> None:
    """A loop that waits for I/O has released the GIL already."""
    releaser = GilReleaser()
    with releaser:
        releaser.before_io_wait(IDLE)
    assert [] == time.slept


def test_it_does_not_sleep_when_nothing_runs_in_a_thread(time: Time) -> None:
    """Before the first call and after the last call, no thread waits for the GIL."""
    releaser = GilReleaser()
    releaser.before_io_wait(BUSY)
    with releaser, releaser:
        pass
    releaser.before_io_wait(BUSY)
    assert [] == time.slept


async def test_it_sleeps_once_per_period(time: Time) -> None:
    """However many ticks the loop makes, it loses only a small part of its time."""
    releaser = GilReleaser()
    with releaser:
        for _ in range(5):
            releaser.before_io_wait(BUSY)
        assert 1 == len(time.slept)
        time.now += 0.0004
        releaser.before_io_wait(BUSY)
    assert 2 == len(time.slept)
    releaser.before_io_wait(BUSY)  # removes the other instrument


async def test_each_run_has_one() -> None:
    """All connections of a program share it, so that together they sleep once per period."""
    assert gil_releaser() is gil_releaser()


async def sleeps_of_busy_ticks(time: Time) -> int:
    """Count the sleeps of a loop that is busy for ten ticks, after a long pause."""
    time.now += 1.0
    before = len(time.slept)
    for _ in range(10):
        await trio.lowlevel.checkpoint()
    return len(time.slept) - before


@pytest.mark.parametrize("kind", ["run", "transaction"])
async def test_it_is_active_during_each_kind_of_call(kind: str, time: Time) -> None:
    """A busy loop sleeps from the begin of a call to its end, also if the call raises."""
    gate, ended = ThreadGate(), trio.Event()

    def stay(_raw: sqlite3.Connection) -> None:
        gate.wait()
        raise ZeroDivisionError

    async def call() -> None:
        with pytest.raises(ZeroDivisionError):
            await getattr(connection, kind)(stay)
        ended.set()

    async with sqlite.connect(":memory:") as connection, trio.open_nursery() as nursery:
        assert 0 == await sleeps_of_busy_ticks(time)
        nursery.start_soon(call)
        await gate.entered.wait()
        assert 1 == await sleeps_of_busy_ticks(time)
        gate.release()
        await ended.wait()
        assert 0 == await sleeps_of_busy_ticks(time)
