"""The background workers of an open cache: how they run, pause and stop."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import trio

_log = logging.getLogger("forebay.cache")

Worker: TypeAlias = Callable[[trio.Event], Awaitable[None]]
"""An async function that runs until the event is set, and then finishes its work in progress."""


class CloseGuard:
    """Refuses calls once the cache is being closed.

    It is closed before the workers stop and the buffers drain. A store that is given no guard of a
    cache has one of its own, which nothing closes.
    """

    def __init__(self) -> None:
        self._closed = False

    def close(self) -> None:
        """Refuse all further calls."""
        self._closed = True

    def check_open(self) -> None:
        """Check that calls are still accepted.

        Raises:
            trio.ClosedResourceError: the cache is closed or being closed.
        """
        if self._closed:
            raise trio.ClosedResourceError("the cache is closed: its open_cache block has ended")


@asynccontextmanager
async def run_workers(
    workers: Sequence[Worker], guard: CloseGuard, stop_timeout: float
) -> AsyncGenerator[None, None]:
    """Run workers in the background for the duration of the block.

    When the block ends, for whatever reason, the guard is closed and the workers are asked to
    stop. Workers that still run after `stop_timeout` are cancelled. A `KeyboardInterrupt` while
    the workers stop cancels them at once.

    If only the body fails, its exception is raised unchanged. A worker that fails cancels the
    body and stops the other workers; its exception is raised, unwrapped from exception groups
    that hold nothing else. The cancellation of the body is then not reported. Several exceptions
    are raised as one `BaseExceptionGroup`.

    Args:
        workers: the workers.
        guard: closed when the block ends.
        stop_timeout: how long the workers may take to stop, in seconds.
    """
    stopping = trio.Event()
    shields = [trio.CancelScope(shield=True) for _ in workers]
    failures: list[BaseException] = []
    raised: list[BaseException] = []

    @trio.lowlevel.enable_ki_protection  # so that Ctrl-C is raised in the body instead
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
        guard.close()
        stopping.set()
        deadline = trio.current_time() + stop_timeout
        for shield in shields:
            shield.deadline = deadline
        # This shield protects only the wait. It ends with the workers, and each of them has a
        # deadline now.
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
    """Wait until all workers have ended; on Ctrl-C, cancel them and continue to wait.

    Returns:
        The `KeyboardInterrupt`, if there was one.
    """
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
    """Return the exception inside nested groups of one, as nurseries raise them."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def run_at_intervals(
    worker: str,
    run: Callable[[trio.Event], Awaitable[object]],
    stopping: trio.Event,
    interval: float,
) -> None:
    """Repeat the run of a worker until the worker is asked to stop.

    A run that fails is logged as a warning, and the next one tries again.

    Args:
        worker: the worker's name, for the warning.
        run: one run. If `stopping` is set, it ends after its work in progress.
        stopping: set to stop the worker.
        interval: the pause between two runs, in seconds.

    Raises:
        trio.BrokenResourceError: a buffer has failed, so no later run can succeed.
    """
    while not stopping.is_set():
        with log_and_continue(worker):
            await run(stopping)
        await pause(stopping, interval)


@contextmanager
def log_and_continue(worker: str) -> Generator[None, None, None]:
    """Log the failure of a worker's run as a warning, so that the worker continues.

    A lock or a lack of file descriptors passes by the next run.

    Args:
        worker: the worker's name, for the warning.

    Raises:
        trio.BrokenResourceError: a buffer has failed, so no later run can succeed.
    """
    try:
        yield
    except Exception as error:
        if _contains(error, trio.BrokenResourceError):
            raise
        _log.warning(
            "a run of the %s failed; it is retried at the next interval: %r", worker, error
        )


def _contains(error: Exception, kind: type[Exception]) -> bool:
    group = error if isinstance(error, ExceptionGroup) else ExceptionGroup("", [error])
    return group.subgroup(kind) is not None


async def pause(stopping: trio.Event, seconds: float) -> None:
    """Wait for a number of seconds, or until the worker is asked to stop."""
    with trio.move_on_after(seconds):
        await stopping.wait()
