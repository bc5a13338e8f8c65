"""Ctrl-C at each instruction of a call that enqueues: the account of the buffer stays exact."""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Self

import pytest
import trio
from trio.testing import MockClock

import forebay
from forebay import Buffer, BufferOptions, Table, open_buffers
from forebay.testing import MemoryStore

pytestmark = pytest.mark.usefixtures("_python_handles_sigint")


class Letter(NamedTuple):
    name: str


LETTERS = Table(Letter, name="letters")


class StopItError(Exception):
    """What the signal handler of a program raises."""


def stop_it(_signal: int, _frame: FrameType | None) -> None:
    raise StopItError


PACKAGE = str(Path(forebay.__file__).parent)


class Signal:
    """Raises SIGINT before one of the instructions that the functions of forebay execute.

    Args:
        at: the number of the instruction, counted from 0.
    """

    def __init__(self, at: int) -> None:
        self._left = at
        self.sent = False

    def _trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename  # generated code has none
        if not file.startswith(PACKAGE) and file != "<string>":
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and not self.sent:
            if self._left == 0:
                self.sent = True
                signal.raise_signal(signal.SIGINT)
            self._left -= 1
        return self._trace

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


Enqueue = Callable[[Buffer[Letter], str], Awaitable[object] | None]

CALLS: dict[str, Enqueue] = {
    "enqueue_nowait": lambda buffer, name: buffer.enqueue_nowait(Letter(name)),
    "enqueue": lambda buffer, name: buffer.enqueue(Letter(name)),
    "enqueue_many": lambda buffer, name: buffer.enqueue_many([Letter(name)]),
}


class Result(NamedTuple):
    interrupted: bool
    """Whether the signal came during the call."""
    returned: list[str]
    """The names whose calls returned."""
    accepted: int
    capacity_left: int
    written: list[str]


async def program(at: int, before: int, options: BufferOptions, call: Enqueue) -> Result:
    """Make a call, and send a signal at one of its instructions; then fill the buffer.

    Args:
        at: the number of the instruction.
        before: how many entries the buffer accepts before.
        options: the options of the buffer.
        call: makes the call.
    """
    store = MemoryStore()
    store.stop()
    returned: list[str] = []
    signals = Signal(at)
    async with open_buffers(store, LETTERS, options=options) as buffers:
        buffer = buffers[LETTERS]
        for i in range(before):
            buffer.enqueue_nowait(Letter(str(i)))
            returned.append(str(i))
        try:
            with signals:
                waits = call(buffer, "x")
                if waits is not None:
                    await waits
            returned.append("x")
        except (KeyboardInterrupt, StopItError, trio.WouldBlock):
            pass
        with suppress(KeyboardInterrupt):  # here comes an interrupt that had to wait
            await trio.lowlevel.checkpoint()
        accepted = buffer.statistics().accepted
        left = 0
        try:
            while True:
                buffer.enqueue_nowait(Letter("more"))
                left += 1
        except trio.WouldBlock:
            pass
        assert options.capacity == buffer.statistics().pending
        store.resume()
        await buffer.flush()
        now = buffer.statistics()
        assert (0, now.accepted) == (now.pending, now.committed)
    written = [name for (name,) in store.rows(LETTERS) if name != "more"]
    return Result(signals.sent, returned, accepted, left, written)


def run(*args: Any) -> Result:
    return trio.run(program, *args, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("before", "options"),
    [
        pytest.param(0, BufferOptions(capacity=5), id="opens a burst"),
        pytest.param(1, BufferOptions(capacity=5), id="appends to a burst"),
        pytest.param(1, BufferOptions(capacity=5, batch_size=2), id="fills a batch"),
        pytest.param(1, BufferOptions(capacity=2), id="fills the buffer"),
        pytest.param(1, BufferOptions(capacity=5, capacity_bytes=10_000), id="is measured"),
    ],
)
def test_an_interrupted_call_is_accepted_as_a_whole_or_not_at_all(
    name: str, before: int, options: BufferOptions
) -> None:
    """What returned is accepted, and nothing else; what is accepted is written, and counts."""
    at = 0
    for at in itertools.count():
        result = run(at, before, options, CALLS[name])
        assert len(result.written) == result.accepted
        if name != "enqueue_many":  # it may be interrupted between its rows
            assert result.returned == result.written
        assert options.capacity - result.accepted == result.capacity_left
        if not result.interrupted:
            break
    assert at > 20


def test_a_full_buffer_that_is_interrupted_accepts_nothing() -> None:
    """A call that raises WouldBlock leaves no room reserved."""
    options = BufferOptions(capacity=1)
    for at in itertools.count():
        result = run(at, 1, options, CALLS["enqueue_nowait"])
        assert ["0"] == result.returned == result.written
        assert (1, 0) == (result.accepted, result.capacity_left)
        if not result.interrupted:
            break


def test_a_handler_that_raises_cannot_leave_the_count_wrong() -> None:
    """A program's own handler raises anywhere; the row it interrupts is accepted or it is not."""
    outcomes = set()
    signal.signal(signal.SIGINT, stop_it)
    for at in itertools.count():
        result = run(at, 1, BufferOptions(capacity=5), CALLS["enqueue_nowait"])
        assert result.accepted == len(result.written)
        assert 5 - result.accepted == result.capacity_left
        if not result.interrupted:
            break
        outcomes.add(result.accepted)
    assert {1, 2} == outcomes
