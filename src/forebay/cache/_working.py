"""Workers beside a block: they run as long as it does, and end before what is around it closes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import trio

from forebay.cache._gate import Gate

Worker: TypeAlias = Callable[[trio.Event], Awaitable[None]]
"""What runs until the event is set, and some time longer to end what it has in hand."""


@asynccontextmanager
async def working(
    workers: Sequence[Worker], gate: Gate, stop_timeout: float
) -> AsyncGenerator[None, None]:
    """Run workers for the time of the block.

    When the block ends, in whatever way, the gate closes and the workers are told to stop. They
    have so many seconds for it, then they are cancelled. `KeyboardInterrupt` meanwhile cancels
    them at once.

    What leaves the block is the body's exception, as it is. A worker that fails cancels the body
    and ends the others; its exception leaves the block, out of the groups that hold nothing else.
    That the body was cancelled is then said no more. Where more than one exception is left, a
    `BaseExceptionGroup` of them.

    Args:
        workers: the workers.
        gate: closed when the block ends.
        stop_timeout: in seconds.
    """
    stopping = trio.Event()
    shields = [trio.CancelScope(shield=True) for _ in workers]
    failures: list[BaseException] = []
    raised: list[BaseException] = []

    @trio.lowlevel.enable_ki_protection  # for the body to hear of
    async def run(worker: Worker, shield: trio.CancelScope, ended: trio.Event) -> None:
        try:
            with shield:
                await worker(stopping)
        except Exception as error:  # noqa: BLE001  # raised again when the others have ended
            failures.append(_unwrapped(error))
            body.cancel()
        finally:
            ended.set()

    async with trio.open_nursery() as nursery:
        ends = [trio.Event() for _ in workers]
        try:
            with trio.CancelScope() as body:
                for each in zip(workers, shields, ends, strict=True):
                    nursery.start_soon(run, *each)
                yield
        except BaseException as error:  # noqa: BLE001  # raised again when the workers have ended
            raised.append(error)
        gate.close()
        stopping.set()
        deadline = trio.current_time() + stop_timeout
        for shield in shields:
            shield.deadline = deadline
        # Each worker has its deadline from here on. This shield is for the wait for them, and
        # ends with them.
        nursery.cancel_scope.shield = True
        if interrupt := await _wait_for_all(ends, shields):
            raised.append(interrupt)
    if failures:
        raised = [error for error in raised if not isinstance(error, trio.Cancelled)]
    errors = [*raised, *failures]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup("the block and its workers failed", errors)


async def _wait_for_all(
    ends: Sequence[trio.Event], shields: Sequence[trio.CancelScope]
) -> KeyboardInterrupt | None:
    """Wait until all have ended; cancel them, and go on waiting, where Ctrl-C is hit meanwhile."""
    interrupt = None
    for ended in ends:
        while not ended.is_set():
            try:
                await ended.wait()
            except KeyboardInterrupt as error:
                interrupt = error
                for shield in shields:
                    shield.cancel()
    return interrupt


def _unwrapped(error: BaseException) -> BaseException:
    """Give the one exception that groups of one hold, as nurseries make them."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
