"""Ctrl-C at each line of a call: the account stays exact, and no room and no waiter is lost."""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import forebay._buffer
from forebay import Buffer, BufferOptions, Table, open_buffers
from forebay.testing import MemoryStore
from tests.buffer.interrupter import Interrupter, trace_function_replaced

pytestmark = pytest.mark.usefixtures("_python_handles_sigint")

CODE = Path(forebay._buffer.__file__).parent
FILES = {
    str(CODE / f"{name}.py")
    for name in ("buffer", "budget", "bulk", "burst", "capacity", "channel", "ledger")
}


class Letter(NamedTuple):
    name: str


LETTERS = Table(Letter, name="letters")
CAPACITY = 3


class Program:
    """Calls of every kind, in several tasks, one of which is interrupted."""

    def __init__(self, interrupter: Interrupter) -> None:
        self.store = MemoryStore(delay=0.5)
        self.interrupter = interrupter
        self.accepted: list[str] = []
        """The rows whose calls returned."""
        self.interrupts = 0

    async def call(self, names: str, function: Callable[[], Awaitable[object]]) -> None:
        """Await a call that accepts these rows, or a signal."""
        try:
            await function()
        except* KeyboardInterrupt:
            self.interrupts += 1
        else:
            self.accepted.extend(names)

    async def run(self) -> None:
        options = BufferOptions(capacity=CAPACITY, batch_size=2, flush_interval=math.inf)
        async with open_buffers(self.store, LETTERS, options=options) as buffers:
            buffer = buffers[LETTERS]
            self.interrupter.start()
            with trio.fail_after(60):
                await self.calls(buffer)
            sys.settrace(None)
            # A signal that was held back comes at a checkpoint.
            await self.call("", trio.lowlevel.checkpoint)
            await self.check(buffer)

    async def calls(self, buffer: Buffer[Letter]) -> None:
        async def nowait() -> None:
            buffer.enqueue_nowait(Letter("a"))

        async def at_once() -> None:
            async with trio.open_nursery() as nursery:
                for name in "de":  # there is no room: they wait
                    enqueue = lambda name=name: buffer.enqueue(Letter(name))  # noqa: E731
                    nursery.start_soon(self.call, name, enqueue)
                nursery.start_soon(self.call, "f", lambda: buffer.write(Letter("f")))
                nursery.start_soon(self.call, "", buffer.flush)
                await self.call("ghi", lambda: buffer.enqueue_many(map(Letter, "ghi")))

        await self.call("a", nowait)
        await self.call("", wait_all_tasks_blocked)  # the worker waits for more
        await self.call("", buffer.flush)
        await self.call("bc", lambda: buffer.enqueue_many(map(Letter, "bc")))
        await self.call("", at_once)
        await self.call("", buffer.flush)

    async def check(self, buffer: Buffer[Letter]) -> None:
        with trio.fail_after(10):
            await buffer.flush()
        now = buffer.statistics()
        rows = [name for (name,) in self.store.rows(LETTERS)]
        assert (len(rows), 0, 0) == (now.accepted, now.pending, now.waiting)
        assert set(self.accepted) <= set(rows)
        assert len(set(rows)) == len(rows)
        self.store.stop()
        for name in "xyz"[:CAPACITY]:  # all room is free
            buffer.enqueue_nowait(Letter(name))
        with pytest.raises(trio.WouldBlock):
            buffer.enqueue_nowait(Letter("too many"))
        self.store.resume()


def test_a_signal_at_each_line() -> None:
    """In the methods of the capacity, the channel and the ledger, whichever task runs."""
    lines = interrupts = 0
    for line in count(1):
        program = Program(Interrupter(line, counts=FILES.__contains__))
        try:
            with trace_function_replaced():
                trio.run(program.run, clock=MockClock(autojump_threshold=0))
        except BaseException as error:
            error.add_note(f"interrupted before {program.interrupter.place}")
            raise
        if not program.interrupter.place:
            break
        lines += 1
        interrupts += program.interrupts
    assert lines > 200
    assert interrupts == lines
