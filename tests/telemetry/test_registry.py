"""What a metrics reader may read of the buffers, in its own thread, at any time."""

from __future__ import annotations

import gc
import os
import threading

import pytest
import trio
from trio.testing import MockClock

from forebay._buffer.ledger import Ledger
from forebay._telemetry.registry import OpenBuffer, OpenBuffers
from forebay.testing import MemoryStore


def open_buffer(ledger: Ledger, name: str = "pairs") -> OpenBuffer:
    return OpenBuffer(name, ledger=ledger, capacity=10, store=MemoryStore(), clock=MockClock())


def test_a_buffer_that_was_abandoned_is_forgotten() -> None:
    """Buffers are held weakly: one whose block never ended goes with its program's last word."""
    live = OpenBuffers()
    buffer = open_buffer(Ledger("pairs"))
    live.add(buffer)
    assert [(0, {"buffer": "pairs"})] == live.sizes()
    del buffer
    gc.collect()
    assert [] == live.sizes()
    assert [] == live.accepted()


def test_a_buffer_that_is_removed_twice_is_counted_once() -> None:
    """The totals of a removed buffer are added when it is removed, not again."""
    ledger = Ledger("pairs")
    ledger.accept(3, 0.0)
    live, buffer = OpenBuffers(), open_buffer(ledger)
    live.add(buffer)
    for _ in range(2):
        live.remove(buffer)
    assert [(3, {"buffer": "pairs"})] == live.accepted()


def test_a_fork_reads_nothing_of_its_parent() -> None:
    """The buffers of a process are not those of its children."""
    ledger = Ledger("pairs")
    ledger.accept(3, 0.0)
    live, buffer = OpenBuffers(), open_buffer(ledger)
    live.add(buffer)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(len(live.sizes() + live.accepted())).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert b"0" == os.read(reading, 10)
    assert [(3, {"buffer": "pairs"})] == live.sizes()
    os.close(reading)
    os.close(writing)


async def test_another_thread_reads_ages(autojump_clock: MockClock) -> None:
    """The age of the oldest entry needs no Trio in the thread that asks."""
    clock = trio.lowlevel.current_clock()
    ledger = Ledger("pairs")
    ledger.accept(1, trio.current_time())
    live = OpenBuffers()
    buffer = OpenBuffer("pairs", ledger=ledger, capacity=10, store=MemoryStore(), clock=clock)
    live.add(buffer)
    await trio.sleep(7)
    ages: list[float] = []
    thread = threading.Thread(target=lambda: ages.extend(age for age, _ in live.oldest_ages()))
    thread.start()
    thread.join()
    assert [7.0] == pytest.approx(ages)
