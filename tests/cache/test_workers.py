"""`run_workers`: how workers stop, and which exceptions the block raises."""

from __future__ import annotations

import signal

import pytest
import trio
from trio.testing import MockClock

from forebay.cache._workers import CloseGuard, run_workers

pytestmark = pytest.mark.usefixtures("_python_handles_sigint")


class Steady:
    """A worker that needs some seconds to stop."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.ended_at: float | None = None
        self.cancelled = False

    async def __call__(self, stopping: trio.Event) -> None:
        try:
            await stopping.wait()
            await trio.sleep(self.seconds)
        except trio.Cancelled:
            self.cancelled = True
            raise
        finally:
            self.ended_at = trio.current_time()


class BodyError(Exception):
    pass


class WorkerError(Exception):
    pass


async def failing(_stopping: trio.Event) -> None:
    await trio.sleep(1)
    async with trio.open_nursery():
        raise WorkerError


async def test_the_workers_stop_when_the_block_ends(autojump_clock: MockClock) -> None:
    """They may take as long as they need, up to the deadline. The guard is closed before."""
    del autojump_clock
    guard, quick, slow, stuck = CloseGuard(), Steady(1), Steady(5), Steady(100)
    async with run_workers([quick, slow, stuck], guard, 10.0):
        await trio.sleep(3)
        guard.check_open()
    with pytest.raises(trio.ClosedResourceError):
        guard.check_open()
    assert (4.0, 8.0, 13.0) == (quick.ended_at, slow.ended_at, stuck.ended_at)
    assert (False, False, True) == (quick.cancelled, slow.cancelled, stuck.cancelled)


async def test_a_cancelled_block_gives_its_workers_the_same_time(
    autojump_clock: MockClock,
) -> None:
    """Cancellation from outside affects the body, not the workers."""
    del autojump_clock
    slow = Steady(5)
    with trio.move_on_after(1) as scope:
        async with run_workers([slow], CloseGuard(), 10.0):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert (6.0, False) == (slow.ended_at, slow.cancelled)


async def test_the_exception_of_the_body_is_raised_unchanged(autojump_clock: MockClock) -> None:
    """It is raised without a group, after the workers have ended."""
    del autojump_clock
    slow = Steady(5)
    with pytest.raises(BodyError):
        async with run_workers([slow], CloseGuard(), 10.0):
            raise BodyError
    assert 5.0 == slow.ended_at


async def test_a_failing_worker_ends_the_block_and_the_others(autojump_clock: MockClock) -> None:
    """Its exception is raised without the group of the worker's own nursery."""
    del autojump_clock
    slow = Steady(5)
    with pytest.raises(WorkerError):
        async with run_workers([failing, slow], CloseGuard(), 10.0):
            await trio.sleep_forever()
    assert 6.0 == slow.ended_at


async def test_the_body_and_a_worker_that_both_fail_are_both_raised(
    autojump_clock: MockClock,
) -> None:
    """Neither exception hides the other."""
    del autojump_clock

    async def run() -> None:
        async with run_workers([failing, Steady()], CloseGuard(), 10.0):
            try:
                await trio.sleep_forever()
            finally:
                raise BodyError

    with pytest.RaisesGroup(BodyError, WorkerError):
        await run()


async def test_two_workers_that_fail_are_both_raised(autojump_clock: MockClock) -> None:
    """Neither exception hides the other."""
    del autojump_clock

    async def run() -> None:
        async with run_workers([failing, failing], CloseGuard(), 10.0):
            await trio.sleep_forever()

    with pytest.RaisesGroup(WorkerError, WorkerError):
        await run()


async def test_a_failure_is_not_hidden_by_a_cancellation(autojump_clock: MockClock) -> None:
    """The failure is raised even if the block is cancelled as well."""
    del autojump_clock
    with trio.CancelScope() as scope:
        try:
            async with run_workers([failing], CloseGuard(), 10.0):
                scope.cancel()
                await trio.sleep_forever()
        except WorkerError as error:
            caught = error
    assert isinstance(caught, WorkerError)


def run(main: object) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))  # type: ignore[arg-type]


@pytest.mark.parametrize("in_worker", [False, True])
def test_an_interrupt_of_the_body_lets_the_workers_stop_in_time(*, in_worker: bool) -> None:
    """Ctrl-C ends the block like any exception, even if a worker was running at that moment."""
    slow = Steady(5)

    async def interrupted(stopping: trio.Event) -> None:
        if in_worker:
            await trio.sleep(1)
            signal.raise_signal(signal.SIGINT)
        await stopping.wait()

    async def main() -> None:
        async with run_workers([slow, interrupted], CloseGuard(), 10.0):
            if not in_worker:
                signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert (5.0 + in_worker, False) == (slow.ended_at, slow.cancelled)


def test_an_interrupt_while_the_workers_stop_cancels_them() -> None:
    """A second Ctrl-C does not wait for the workers."""
    slow = Steady(5)

    async def second(stopping: trio.Event) -> None:
        await stopping.wait()
        await trio.sleep(2)
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with run_workers([slow, second], CloseGuard(), 10.0):
            pass

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert (2.0, True) == (slow.ended_at, slow.cancelled)
