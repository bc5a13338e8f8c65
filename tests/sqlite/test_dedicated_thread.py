"""`Connection.run_in_dedicated_thread`: the same rules as `run`, always in the same thread."""

from __future__ import annotations

import contextvars
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from forebay import sqlite

PATIENCE = 20.0


def thread(_raw: sqlite3.Connection) -> threading.Thread:
    return threading.current_thread()


class Gate:
    """A function for a connection that stays in its thread until it is released."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.calls = 0
        self._token = trio.lowlevel.current_trio_token()
        self._released = threading.Event()

    def __call__(self, _raw: sqlite3.Connection) -> int:
        self.calls += 1
        self._token.run_sync_soon(self.entered.set)
        assert self._released.wait(PATIENCE)
        return self.calls

    def release(self) -> None:
        self._released.set()


async def test_all_calls_run_in_the_same_thread() -> None:
    """It is not the thread of the event loop."""
    async with sqlite.connect(":memory:") as connection:
        threads = {await connection.run_in_dedicated_thread(thread) for _ in range(3)}
    assert 1 == len(threads)
    assert threading.current_thread() not in threads


async def test_the_thread_ends_with_the_connection() -> None:
    """When the connection is closed, its thread ends."""
    async with sqlite.connect(":memory:") as connection:
        dedicated = await connection.run_in_dedicated_thread(thread)
        assert dedicated.is_alive()
    await trio.to_thread.run_sync(dedicated.join, PATIENCE)
    assert not dedicated.is_alive()


async def test_the_caller_gets_the_result_or_the_exception() -> None:
    """The function gets its arguments, and the thread continues after an exception."""

    def divide(_raw: sqlite3.Connection, one: int, other: int) -> float:
        return one / other

    async with sqlite.connect(":memory:") as connection:
        assert 1.5 == await connection.run_in_dedicated_thread(divide, 3, 2)
        with pytest.raises(ZeroDivisionError):
            await connection.run_in_dedicated_thread(divide, 1, 0)
        assert 2.0 == await connection.run_in_dedicated_thread(divide, 4, 2)


async def test_the_function_sees_the_callers_context() -> None:
    """Context variables have the same values in the thread as in the task."""
    variable = contextvars.ContextVar("variable", default="default")

    def read(_raw: sqlite3.Connection) -> str:
        return variable.get()

    async with sqlite.connect(":memory:") as connection:
        variable.set("of the task")
        assert "of the task" == await connection.run_in_dedicated_thread(read)


async def test_it_takes_turns_with_the_other_calls(tmp_path: Path) -> None:
    """Calls of `run` and of `run_in_dedicated_thread` run one at a time, in their order."""
    order: list[int] = []

    def append(_raw: sqlite3.Connection, number: int) -> None:
        order.append(number)

    async with sqlite.connect(tmp_path / "a.db") as connection, trio.open_nursery() as nursery:
        gate = Gate()
        nursery.start_soon(connection.run_in_dedicated_thread, gate)
        await gate.entered.wait()
        for number in range(6):
            run = connection.run if number % 2 else connection.run_in_dedicated_thread
            nursery.start_soon(run, append, number)
            await wait_all_tasks_blocked()
        assert [] == order
        assert 6 == connection.statistics().waiting
        gate.release()
    assert list(range(6)) == order


async def test_a_call_cancelled_before_its_turn_never_runs() -> None:
    """If a call is cancelled while it waits, its function is not called."""
    async with sqlite.connect(":memory:") as connection, trio.open_nursery() as nursery:
        first, second = Gate(), Gate()
        nursery.start_soon(connection.run_in_dedicated_thread, first)
        await first.entered.wait()
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.run_in_dedicated_thread(second)
        first.release()
    assert scope.cancelled_caught
    assert 0 == second.calls


async def test_a_call_in_a_cancelled_scope_does_not_run() -> None:
    """The function is not called, although no other call runs."""
    async with sqlite.connect(":memory:") as connection:
        gate = Gate()
        gate.release()
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.run_in_dedicated_thread(gate)
    assert scope.cancelled_caught
    assert 0 == gate.calls


async def test_a_call_cancelled_while_it_runs_returns_its_result() -> None:
    """Cancellation waits until the function has returned."""
    results: list[int] = []

    async def call(gate: Callable[[sqlite3.Connection], int]) -> None:
        results.append(await connection.run_in_dedicated_thread(gate))

    async with sqlite.connect(":memory:") as connection, trio.open_nursery() as nursery:
        gate = Gate()
        nursery.start_soon(call, gate)
        await gate.entered.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        assert [] == results
        gate.release()
    assert [1] == results


async def test_a_closed_connection_refuses_calls() -> None:
    """After `aclose` it raises `trio.ClosedResourceError`, and starts no thread."""
    async with sqlite.connect(":memory:") as connection:
        pass
    before = threading.active_count()
    with pytest.raises(trio.ClosedResourceError):
        await connection.run_in_dedicated_thread(thread)
    assert before == threading.active_count()
