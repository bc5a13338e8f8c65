"""`DiskThreads`: long calls do not delay short ones, and errors reach the task that called."""

from __future__ import annotations

import threading

import pytest
import trio

from forebay.cache._disk_threads import DiskThreads


async def test_short_calls_do_not_wait_for_long_ones() -> None:
    """Also if there are more long calls than threads for them."""
    threads = DiskThreads()
    release = threading.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(threads.run, release.wait)
        try:
            with trio.fail_after(20):
                assert 7 == await threads.run_short(lambda: 7)
        finally:
            release.set()


async def test_two_short_calls_run_at_once() -> None:
    """A hundred tasks share two threads, and each gets its result."""
    threads = DiskThreads()
    results: dict[int, int] = {}
    slots = threading.Semaphore(2)

    def square(number: int) -> int:
        assert slots.acquire(blocking=False)
        try:
            return number * number
        finally:
            slots.release()

    async def call(number: int) -> None:
        results[number] = await threads.run_short(lambda: square(number))

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(call, number)
    assert {number: number * number for number in range(100)} == results


async def test_an_error_reaches_its_task_alone() -> None:
    """Calls that share the thread succeed."""
    threads = DiskThreads()
    results: dict[int, int | None] = {}

    async def divide(number: int) -> None:
        try:
            results[number] = await threads.run_short(lambda: 12 // number)
        except ZeroDivisionError:
            results[number] = None

    async with trio.open_nursery() as nursery:
        for number in (2, 3, 0, 1, 4):
            nursery.start_soon(divide, number)
    assert {2: 6, 3: 4, 0: None, 1: 12, 4: 3} == results
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
