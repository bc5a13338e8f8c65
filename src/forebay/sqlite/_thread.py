"""The thread of one connection: it runs all calls of the connection, one after another.

The thread waits for the next call itself, so a call and its result cross between the threads once
each. A call of `trio.to_thread.run_sync` takes two to four times as long.

The thread is one of Trio's: a system task, the host, keeps it in one long call of
`trio.to_thread.run_sync`. So the functions of `trio.from_thread` need no token in it, and run in
the host. If a caller is cancelled, the host's scope is cancelled too, so that
`trio.from_thread.check_cancelled` raises, and so that `trio.from_thread.run` is cancelled. A
cancelled scope stays cancelled, so after such a call the host begins another `run_sync`, which gets
the same thread from Trio's cache. The caller waits until then, so that the next call is not
affected.

Ctrl-C interrupts nothing here, since a `KeyboardInterrupt` in a system task is an internal error of
Trio. The program's own code gets it.

To wake the event loop costs more than a short statement. So while the calls are short, the event
loop itself waits for the next one, for 100 µs at most. A call is a checkpoint all the same, unless
its caller has something to do before other tasks run.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from types import CoroutineType
from typing import Any, Generic, TypeAlias, TypeVar, TypeVarTuple

import trio

from forebay.sqlite._gil import gil_releaser

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_PERIOD = 0.01
"""The time after which something that failed is tried again, in seconds."""

_SHORT = 0.0001
"""The longest time that the event loop itself waits for a call, in seconds.

It does so if the last call of the connection was as short.
"""

RaiseCancel: TypeAlias = Callable[[], Any]


class _Call:
    """A function that the thread is to call, and later its result or exception."""

    __slots__ = (
        "_args",
        "_context",
        "_fn",
        "called",
        "ended",
        "error",
        "holds_turn",
        "needs_report",
        "raise_cancel",
        "released",
        "result",
        "returned",
        "task",
    )

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._fn = fn
        self._args = args
        self._context = contextvars.copy_context()
        self.task: trio.lowlevel.Task | None = None
        """The task that waits for the end."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.raise_cancel: RaiseCancel | None = None
        """What the caller has to raise, if its task was cancelled, or interrupted by Ctrl-C."""
        self.called: bool = False
        self.returned: threading.Lock = threading.Lock()
        """Locked until the function has returned."""
        self.returned.acquire()
        self.released: bool = False
        self.needs_report: bool = False
        """Whether the event loop has to be woken up when the function has returned."""
        self.ended: bool = False
        """Whether the task has been rescheduled, or did not wait."""
        self.holds_turn: bool = False
        """Whether the turn ends with the call, not with the task that waits for it."""

    def run(self) -> None:
        """Call the function, in the thread."""
        self.called = True
        try:
            self.result = self._context.run(self._fn, *self._args)
        except BaseException as error:  # noqa: BLE001  # raised again in the caller's task
            self.error = error
        if isinstance(self.result, CoroutineType):
            self.result.close()
            self.error = TypeError(f"expected a function that is not async, got {self._fn!r}")

    def refuse(self, error: Exception) -> None:
        """Set an error instead of calling the function, unless it has been called before."""
        if not self.called:
            self.called = True
            self.error = error


class BegunCall(Generic[T]):
    """A call of `ConnectionThread.begin`. Its turn ends with it, also if nobody waits for it."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    @property
    def has_ended(self) -> bool:
        """Whether the function has returned, so that `wait` returns at once."""
        return self._call.ended

    @trio.lowlevel.enable_ki_protection
    async def wait(self) -> T:
        """Wait until the function has returned, also if the task is cancelled.

        It is a checkpoint only if it waits. Only one task may wait.

        Returns:
            The result of the function.

        Raises:
            BaseException: the exception of the function.
        """
        if not self._call.ended:
            self._call.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(_cannot_abort)
        return self.outcome()

    def outcome(self) -> T:
        """Return the result of the function, or raise its exception. The call must have ended."""
        error, self._call.error = self._call.error, None
        if error is None:
            result: T = self._call.result
            return result
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame, so this would be a cycle


def _cannot_abort(_raise_cancel: RaiseCancel) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


class ConnectionThread:
    """A thread that runs calls for the tasks of one Trio program, one at a time, in their order.

    It starts with the first call, and ends when `stop` is called or when `trio.run` ends.

    Args:
        name: the name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._turn = trio.Semaphore(1)
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        """The calls for the thread. None makes it return to its host."""
        self._token = trio.lowlevel.current_trio_token()
        self._gil_releaser = gil_releaser()
        self._stopped = False
        self._last_was_short = False
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        trio.lowlevel.spawn_system_task(self._host, name=f"host of {name}")

    @property
    def running(self) -> bool:
        """Whether a call runs."""
        return self._turn.value == 0

    @property
    def waiting(self) -> int:
        """The number of calls that wait for their turn."""
        return self._turn.statistics().tasks_waiting

    @trio.lowlevel.enable_ki_protection
    async def run_sync(
        self,
        fn: Callable[[*Ts], T],
        *args: *Ts,
        interrupt: Callable[[], object] | None = None,
        eager: bool = False,
    ) -> T:
        """Wait for this call's turn, then call ``fn(*args)`` in the thread.

        If the task is cancelled while it waits for its turn, the function is not called. After
        that, this waits until the function has returned.

        Args:
            fn: the function.
            *args: the arguments of the function.
            interrupt: called, perhaps several times, if the task is cancelled while the function
                runs. Then this raises the cancellation, whatever the function returns or raises.
                By default, the result or the exception of the function counts, and
                `trio.from_thread.check_cancelled` raises in the function.
            eager: whether to let other tasks run only if this has to wait. The caller must await
                a checkpoint of its own soon.

        Returns:
            The result of the function.

        Raises:
            BaseException: the exception of the function.
            trio.RunFinishedError: the thread has stopped.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            await self._turn.acquire()
        try:
            call = _Call(fn, args)
            await self._run(call, interrupt, eager=eager)
        finally:
            self._turn.release()
        try:
            if call.raise_cancel is not None and (
                interrupt is not None or isinstance(call.error, trio.Cancelled)
            ):
                call.raise_cancel()
            if call.error is not None:
                raise call.error
            result: T = call.result
            return result
        finally:
            del call  # an error's traceback refers to this frame, so this would be a cycle

    @trio.lowlevel.enable_ki_protection
    async def _run(
        self, call: _Call, interrupt: Callable[[], object] | None, *, eager: bool
    ) -> None:
        if self._stopped:
            raise trio.RunFinishedError(f"the thread {self._name!r} has ended with its trio.run")
        self._calls.put(call)
        if not (self._last_was_short and call.returned.acquire(timeout=_SHORT)):
            call.needs_report = True
            # The thread reads it when the function has returned: that may have been before.
            if not call.returned.acquire(blocking=False):
                call.task = trio.lowlevel.current_task()
                self._gil_releaser.call_begins()
                await trio.lowlevel.wait_task_rescheduled(partial(self._abort, call, interrupt))
                return
        call.ended = True
        if not eager:
            await trio.lowlevel.cancel_shielded_checkpoint()

    @trio.lowlevel.enable_ki_protection
    def _abort(
        self, call: _Call, interrupt: Callable[[], object] | None, raise_cancel: RaiseCancel
    ) -> trio.lowlevel.Abort:
        """Note that the caller's task is cancelled, or interrupted by Ctrl-C."""
        call.raise_cancel = raise_cancel
        if interrupt is None:
            self._scope.cancel()
        elif self._nursery is not None:
            self._nursery.start_soon(self._keep_interrupting, call, interrupt)
        return trio.lowlevel.Abort.FAILED

    @trio.lowlevel.enable_ki_protection
    def begin(self, fn: Callable[[*Ts], T], *args: *Ts) -> BegunCall[T]:
        """Begin to call ``fn(*args)`` in the thread, and wait for its end for 100 µs at most.

        Meanwhile no other task runs.

        Raises:
            trio.WouldBlock: another call has the turn, the last one took longer, or the thread has
                stopped. The function is not called.
        """
        if self._stopped or not self._last_was_short:
            raise trio.WouldBlock
        call = _Call(fn, args)
        call.holds_turn = True
        begun: BegunCall[T] = BegunCall(call)
        self._turn.acquire_nowait()
        try:
            self._calls.put(call)
        except MemoryError:  # otherwise the turn would not end
            self._turn.release()
            raise
        if not call.returned.acquire(timeout=_SHORT):
            call.needs_report = True
            if not call.returned.acquire(blocking=False):  # as in `_run`
                self._gil_releaser.call_begins()
                return begun
        call.ended = True
        self._turn.release()
        return begun

    def stop(self) -> None:
        """End the thread after the calls that it got."""
        self._stopped = True
        self._calls.put(None)

    def _serve(self) -> None:
        # Trio reports once that this has returned: that must not fail for want of memory.
        reserve = [bytes(size) for size in range(0, 480, 16) for _ in range(10)]
        call: _Call | None = None
        while True:
            try:
                if call is None and (call := self._calls.get()) is None:
                    break
                self._handle(call)
                call = None  # otherwise its result stays in memory until the next call
            except MemoryError:  # otherwise its task would wait forever
                time.sleep(_PERIOD)
        del reserve

    def _handle(self, call: _Call) -> None:
        """Call the function of a call, and report its end. Each step is made at most once."""
        if not call.called:
            started = time.perf_counter()
            call.run()
            self._last_was_short = time.perf_counter() - started < _SHORT
        if not call.released:
            call.released = True
            call.returned.release()
        if call.needs_report:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._end_call, call)

    @trio.lowlevel.enable_ki_protection
    def _end_call(self, call: _Call) -> None:
        if call.ended:  # reported twice, since memory was exhausted
            return
        if self._scope.cancel_called and not self._stopped:
            self._calls.put(None)
            self._calls.put(call)  # reported again by the next `run_sync` of the host
        else:
            self._finish(call)

    @trio.lowlevel.enable_ki_protection
    def _finish(self, call: _Call) -> None:
        if call.task is not None:
            trio.lowlevel.reschedule(call.task)
        call.ended = True
        if call.holds_turn:
            self._turn.release()
        # Here, not when the task runs again: before that, the loop would sleep once more.
        self._gil_releaser.call_ended()

    @trio.lowlevel.enable_ki_protection
    async def _host(self) -> None:
        """Keep the thread, in a system task."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._stop_when_cancelled)
            try:
                await self._keep_thread()
            finally:
                self._end_calls(trio.RunFinishedError(f"{self._name!r} ended with its trio.run"))
                self._nursery.cancel_scope.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _keep_thread(self) -> None:
        served = False
        while not self._stopped:
            try:
                with trio.CancelScope() as self._scope:
                    await trio.to_thread.run_sync(
                        self._serve, thread_name=self._name, limiter=trio.CapacityLimiter(1)
                    )
                served = True
            except (RuntimeError, MemoryError) as error:  # no thread can be started
                if not served:
                    self._end_calls(error)
                await trio.sleep(_PERIOD)

    @trio.lowlevel.enable_ki_protection
    async def _stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.stop()  # otherwise the host would wait for the thread, and trio.run for the host

    @trio.lowlevel.enable_ki_protection
    def _end_calls(self, error: Exception) -> None:
        """End the calls that the thread has not got."""
        with suppress(Empty):
            while True:
                call = self._calls.get_nowait()
                if call is not None and not call.ended:
                    call.refuse(error)
                    self._finish(call)

    @trio.lowlevel.enable_ki_protection
    async def _keep_interrupting(self, call: _Call, interrupt: Callable[[], object]) -> None:
        # SQLite ignores an interrupt that comes just before a statement begins. No other call can
        # be hit, since this call has the turn until it has ended.
        while not call.ended:
            interrupt()
            await trio.sleep(_PERIOD)
