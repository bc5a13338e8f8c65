"""A busy event loop hands the GIL over while it waits for a thread, and only then."""

from __future__ import annotations

import sqlite3
import threading

import pytest
import trio

from forebay import sqlite
from forebay.sqlite import _handover
from forebay.sqlite._handover import HandOver, hand_over

BUSY, IDLE = 0.0, 0.1


class Time:
    """A clock that only sleeping, and the test, move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(_handover, "sleep", time.sleep)
    monkeypatch.setattr(_handover, "perf_counter", lambda: time.now)
    return time


def test_a_busy_loop_sleeps_while_a_call_runs(time: Time) -> None:
    """Without a sleep, the thread would not get the GIL."""
    handing = HandOver()
    with handing:
        handing.before_io_wait(BUSY)
    assert 1 == len(time.slept)


def test_an_idle_loop_does_not_sleep(time: Time) -> None:
    """A loop that waits has given the GIL away already."""
    handing = HandOver()
    with handing:
        handing.before_io_wait(IDLE)
    assert [] == time.slept


def test_it_does_not_sleep_when_nothing_runs_in_a_thread(time: Time) -> None:
    """There is nobody to hand the GIL to, before the first call and after the last."""
    handing = HandOver()
    handing.before_io_wait(BUSY)
    with handing, handing:
        pass
    handing.before_io_wait(BUSY)
    assert [] == time.slept


def test_it_sleeps_once_a_millisecond(time: Time) -> None:
    """However many ticks the loop makes, it loses a small share of its time."""
    handing = HandOver()
    with handing:
        for _ in range(5):
            handing.before_io_wait(BUSY)
        assert 1 == len(time.slept)
        time.now += 0.001
        handing.before_io_wait(BUSY)
    assert 2 == len(time.slept)


async def test_each_run_has_one() -> None:
    """All connections of a program share it, so that several do not sleep more than one."""
    assert hand_over() is hand_over()


@pytest.mark.parametrize("kind", ["run", "run_in_own_thread", "transaction"])
async def test_it_is_on_for_the_time_of_a_call(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of call enters it before its thread begins and leaves it when it has ended."""
    entered, leave = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()
    there: list[str] = []
    monkeypatch.setattr(HandOver, "begin", lambda _: there.append("in"))
    monkeypatch.setattr(HandOver, "end", lambda _: there.append("out"))

    def stay(_raw: sqlite3.Connection) -> None:
        token.run_sync_soon(entered.set)
        assert leave.wait(20)
        raise ZeroDivisionError

    async def call() -> None:
        with pytest.raises(ZeroDivisionError):
            await getattr(connection, kind)(stay)

    async with sqlite.connect(":memory:") as connection, trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await entered.wait()
        assert ["in"] == there
        leave.set()
    assert ["in", "out"] == there
