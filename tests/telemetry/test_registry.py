"""The registry of open buffers, which a metrics reader reads in its own thread."""

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


def test_an_abandoned_buffer_is_removed() -> None:
    """References to buffers are weak: a buffer whose block never ended is not kept."""
    registry = OpenBuffers()
    buffer = open_buffer(Ledger("pairs"))
    registry.add(buffer)
    assert [(0, {"buffer": "pairs"})] == registry.sizes()
    del buffer
    gc.collect()
    assert [] == registry.sizes()
    assert [] == registry.accepted()


def test_a_buffer_that_is_removed_twice_is_counted_once() -> None:
    """Its counts are added to the totals at the first removal only."""
    ledger = Ledger("pairs")
    ledger.burst.entries += [(1,), (2,), (3,)]
    registry, buffer = OpenBuffers(), open_buffer(ledger)
    registry.add(buffer)
    for _ in range(2):
        registry.remove(buffer)
    assert [(3, {"buffer": "pairs"})] == registry.accepted()


def test_a_forked_child_has_an_empty_registry() -> None:
    """The open buffers belong to the parent."""
    ledger = Ledger("pairs")
    ledger.burst.entries += [(1,), (2,), (3,)]
    registry, buffer = OpenBuffers(), open_buffer(ledger)
    registry.add(buffer)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(len(registry.sizes() + registry.accepted())).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert b"0" == os.read(reading, 10)
    assert [(3, {"buffer": "pairs"})] == registry.sizes()
    os.close(reading)
    os.close(writing)


async def test_another_thread_can_read_ages(autojump_clock: MockClock) -> None:
    """The age of the oldest entry can be computed outside of Trio's thread."""
    clock = trio.lowlevel.current_clock()
    ledger = Ledger("pairs")
    ledger.burst.entries.append((1,))
    ledger.oldest = trio.current_time()
    registry = OpenBuffers()
    buffer = OpenBuffer("pairs", ledger=ledger, capacity=10, store=MemoryStore(), clock=clock)
    registry.add(buffer)
    await trio.sleep(7)
    ages: list[float] = []
    thread = threading.Thread(target=lambda: ages.extend(age for age, _ in registry.oldest_ages()))
    thread.start()
    thread.join()
    assert [7.0] == pytest.approx(ages)
