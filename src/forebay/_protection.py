"""Blocks that a KeyboardInterrupt cannot cut short while they are entered or left.

Trio raises a KeyboardInterrupt in whatever code runs when Ctrl-C comes, except in functions that
are marked with `trio.lowlevel.enable_ki_protection`, and in what they call: there it waits for the
next checkpoint that can be cancelled. contextlib does not mark its own functions. So a Ctrl-C at
the first instruction of its `__aexit__` would skip everything that follows a `yield`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

import trio

P = ParamSpec("P")
T = TypeVar("T")


class _ProtectedContext(AbstractAsyncContextManager[T, bool | None]):
    def __init__(self, context: AbstractAsyncContextManager[T, bool | None]) -> None:
        self._context = context

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> T:
        return await self._context.__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._context.__aexit__(kind, error, traceback)


def protected_context(
    function: Callable[P, AsyncGenerator[T, None]],
) -> Callable[P, AbstractAsyncContextManager[T, bool | None]]:
    """Decorate a generator function like `contextlib.asynccontextmanager`, protected from Ctrl-C.

    A KeyboardInterrupt that comes while the block is entered or left waits for the next checkpoint
    that can be cancelled. Python itself may still leave an `async with` statement before
    `__aexit__` begins, if the signal comes while it executes the statement in the caller's frame.

    Args:
        function: an async generator function that yields once.

    Returns:
        A function with the same arguments that returns the context manager.
    """
    make = asynccontextmanager(function)

    @wraps(function)
    def open_context(
        *args: P.args, **kwargs: P.kwargs
    ) -> AbstractAsyncContextManager[T, bool | None]:
        return _ProtectedContext(make(*args, **kwargs))

    return open_context


@trio.lowlevel.enable_ki_protection
async def run_to_end(
    function: Callable[[], Awaitable[object]],
    *,
    on_interrupt: Callable[[], object] = lambda: None,
) -> list[BaseException]:
    """Await a function to its end, and return the errors that came meanwhile.

    Neither a KeyboardInterrupt nor a cancellation cuts the function short, so it must end by a
    deadline of its own.

    Args:
        function: the function, which is called in a task of its own.
        on_interrupt: called at each KeyboardInterrupt.

    Returns:
        The last KeyboardInterrupt, then what the function raised; empty if there was neither.
    """
    interrupts: list[BaseException] = []
    errors: list[BaseException] = []
    ended = trio.Event()

    @trio.lowlevel.enable_ki_protection
    async def run() -> None:
        try:
            await function()
        except BaseException as error:  # noqa: BLE001  # returned to the caller
            errors.append(error)
        finally:
            ended.set()

    # The shield lasts as long as the function, which has its own deadline.
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            while not ended.is_set():
                try:
                    await ended.wait()
                except KeyboardInterrupt as interrupt:
                    interrupts = [interrupt]
                    on_interrupt()
        # Receive an interrupt that came after the last wait: raised later, it would replace what
        # the caller raises.
        try:
            await trio.lowlevel.checkpoint()
        except KeyboardInterrupt as interrupt:
            interrupts = [interrupt]
            on_interrupt()
    return [*interrupts, *errors]


def raise_together(message: str, errors: Sequence[BaseException]) -> None:
    """Raise the errors: one as it is, several as a group with this message."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(message, errors)
