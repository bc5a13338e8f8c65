"""Ctrl-C: in the body it drains, in the drain it ends the drain, and it is always raised."""

from __future__ import annotations

import signal
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock

from forebay import BufferOptions, DrainError, Table, Write, open_buffers
from forebay._buffer.worker import Worker
from forebay.stores import Batch, Outcome
from tests.wrapped_attempts import Commit, WrappedMemoryStore

pytestmark = pytest.mark.usefixtures("_python_handles_sigint")


class Letter(NamedTuple):
    name: str


LETTERS = Table(Letter, name="letters")
OTHERS = Table(Letter, name="others")
OPTIONS = BufferOptions(batch_size=1)


def run(main: object) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))  # type: ignore[arg-type]


class Interrupted(WrappedMemoryStore):
    """A store with Ctrl-C during some commits, which it finishes as a thread would."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.numbers = numbers

    async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.attempts + 1 in self.numbers:
            signal.raise_signal(signal.SIGINT)
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
            outcome = await commit()
        return outcome  # noqa: RET504  # mypy assumes that a scope can swallow an exception


def test_an_interrupt_of_the_body_drains() -> None:
    """The rows are committed, and the KeyboardInterrupt is raised unchanged."""
    store = Interrupted()

    async def main() -> None:
        async with open_buffers(store, LETTERS) as buffers:
            await buffers[LETTERS].enqueue_many([Letter("a"), Letter("b")])
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert [("a",), ("b",)] == store.rows(LETTERS)


def test_an_interrupt_of_the_drain_ends_it() -> None:
    """The running commit is finished, the entries left are named, the interrupt is raised."""
    store = Interrupted(1)

    async def main() -> None:
        async with open_buffers(store, LETTERS, options=OPTIONS) as buffers:
            await buffers[LETTERS].enqueue_many([Letter("a"), Letter("b")])

    with pytest.raises(BaseExceptionGroup) as caught:
        run(main)
    interrupt, late = caught.value.exceptions
    assert isinstance(interrupt, KeyboardInterrupt)
    assert isinstance(late, DrainError)
    assert (Write(("b",)),) == late.unsettled["letters"].entries
    assert [("a",)] == store.rows(LETTERS)


def test_a_second_interrupt_ends_the_drain() -> None:
    """An interrupt of the body and one of the drain are raised as one KeyboardInterrupt."""
    store = Interrupted(1)

    async def main() -> None:
        async with open_buffers(store, LETTERS, options=OPTIONS) as buffers:
            await buffers[LETTERS].enqueue_many([Letter("a"), Letter("b")])
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(BaseExceptionGroup) as caught:
        run(main)
    assert [KeyboardInterrupt, DrainError] == [type(error) for error in caught.value.exceptions]


def test_further_interrupts_hide_nothing() -> None:
    """Several interrupts during the last commit do not hide the entries left."""

    class Hammered(Interrupted):
        async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hammer)
                outcome = await super().around_commit(batch, commit)
            return outcome  # noqa: RET504  # as above

        @trio.lowlevel.enable_ki_protection
        async def _hammer(self) -> None:
            with trio.CancelScope(shield=True):
                for _ in range(3):
                    await trio.sleep(0.25)
                    signal.raise_signal(signal.SIGINT)

    store = Hammered()

    async def main() -> None:
        async with open_buffers(store, LETTERS, options=OPTIONS) as buffers:
            await buffers[LETTERS].enqueue_many([Letter("a"), Letter("b")])

    with pytest.raises(BaseExceptionGroup) as caught:
        run(main)
    assert [KeyboardInterrupt, DrainError] == [type(error) for error in caught.value.exceptions]
    assert [("a",)] == store.rows(LETTERS)


def test_an_interrupt_while_buffers_close_leaves_no_worker_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C while the buffers are being closed is raised once all are closed."""
    store, close = Interrupted(), Worker.close

    def interrupted(worker: Worker) -> None:
        signal.raise_signal(signal.SIGINT)
        close(worker)

    # No code of a program runs between the closing of two buffers, so only a private method can
    # raise the signal at this point.
    monkeypatch.setattr(Worker, "close", interrupted)

    async def main() -> None:
        async with open_buffers(store, LETTERS, OTHERS) as buffers:
            await buffers[OTHERS].write(Letter("a"))

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert [("a",)] == store.rows(OTHERS)


def test_an_interrupt_is_not_lost_to_a_cancellation() -> None:
    """Ctrl-C in the drain of a cancelled block is raised, even if the drain succeeds."""
    store = Interrupted(1)

    async def main() -> None:
        with trio.move_on_after(1):
            async with open_buffers(store, LETTERS) as buffers:
                await buffers[LETTERS].enqueue(Letter("a"))
                store.numbers = (2,)
                await trio.sleep(0.5)
                await buffers[LETTERS].enqueue(Letter("b"))
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert [("a",), ("b",)] == store.rows(LETTERS)
