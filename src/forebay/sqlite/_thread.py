"""A thread that a connection has to itself."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar, TypeVarTuple

import anyio
import trio

from forebay.sqlite._handover import hand_over

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Call:
    """A function on its way to the thread, and its result or exception on the way back."""

    __slots__ = ("context", "error", "fn", "result", "task")

    def __init__(self, fn: Callable[[], Any], task: trio.lowlevel.Task) -> None:
        self.fn = fn
        self.task = task
        self.context = contextvars.copy_context()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.context.run(self.fn)
        except BaseException as error:  # noqa: BLE001  # the caller's, whatever it is
            self.error = error


class OwnThread:
    """A thread that serves the tasks of one Trio program, one call after another.

    It waits for the next call where it is, so a hop there and back costs half of one to a thread
    out of Trio's pool: 76 µs for 151 µs, where it was measured.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._hand_over = hand_over()
        # A daemon, as Trio's own are: a connection that nobody closed must not keep the process.
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._ended, call.task)
            del call  # or it would keep what it returned until the next one comes

    def _ended(self, task: trio.lowlevel.Task) -> None:
        # Now, and not when the task has its turn: the loop would sleep once more before.
        self._hand_over.end()
        trio.lowlevel.reschedule(task)

    @trio.lowlevel.enable_ki_protection
    async def run_sync(
        self, fn: Callable[[*Ts], T], *args: *Ts, limiter: anyio.CapacityLimiter
    ) -> T:
        """Call ``fn(*args)`` in the thread, as `anyio.to_thread.run_sync` does in one of a pool.

        Cancelled while it waits for the limiter, it does not call; later, it waits for the end.

        Args:
            fn: the function.
            *args: its arguments.
            limiter: whose token the call holds.

        Returns:
            What the function returned.

        Raises:
            BaseException: what the function raised.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            limiter.acquire_nowait()
        except anyio.WouldBlock:
            await limiter.acquire()
        try:
            call = _Call(lambda: fn(*args), trio.lowlevel.current_task())
            self._hand_over.begin()
            self._calls.put(call)
            await trio.lowlevel.wait_task_rescheduled(_not_aborted)
        finally:
            limiter.release()
        if call.error is None:
            result: T = call.result
            return result
        try:
            raise call.error
        finally:
            del call  # the error's traceback leads here, and would make a cycle

    def stop(self) -> None:
        """End the thread, once its last call is over."""
        self._calls.put(None)


def _not_aborted(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
