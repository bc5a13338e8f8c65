"""`Connection.run_in_own_thread`: the same rules as `run`, in a thread that stays."""

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
    """A function for a connection that stays in its thread until it is let go."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.calls = 0
        self._token = trio.lowlevel.current_trio_token()
        self._leave = threading.Event()

    def __call__(self, _raw: sqlite3.Connection) -> int:
        self.calls += 1
        self._token.run_sync_soon(self.entered.set)
        assert self._leave.wait(PATIENCE)
        return self.calls

    def let_go(self) -> None:
        self._leave.set()


async def test_every_call_runs_in_one_thread_that_is_not_the_programs() -> None:
    """The thread of the first call serves all."""
    async with sqlite.connect(":memory:") as connection:
        threads = {await connection.run_in_own_thread(thread) for _ in range(3)}
    assert 1 == len(threads)
    assert threading.current_thread() not in threads


async def test_the_thread_ends_with_the_connection() -> None:
    """Closing the connection ends its thread."""
    async with sqlite.connect(":memory:") as connection:
        own = await connection.run_in_own_thread(thread)
        assert own.is_alive()
    await trio.to_thread.run_sync(own.join, PATIENCE)
    assert not own.is_alive()


async def test_what_the_function_does_is_what_the_caller_gets() -> None:
    """Arguments go in, the result or the exception comes out, and the thread lives on."""

    def divide(_raw: sqlite3.Connection, one: int, other: int) -> float:
        return one / other

    async with sqlite.connect(":memory:") as connection:
        assert 1.5 == await connection.run_in_own_thread(divide, 3, 2)
        with pytest.raises(ZeroDivisionError):
            await connection.run_in_own_thread(divide, 1, 0)
        assert 2.0 == await connection.run_in_own_thread(divide, 4, 2)


async def test_the_function_sees_the_callers_context() -> None:
    """Context variables have in the thread the values that they have in the task."""
    variable = contextvars.ContextVar("variable", default="nobody's")

    def read(_raw: sqlite3.Connection) -> str:
        return variable.get()

    async with sqlite.connect(":memory:") as connection:
        variable.set("mine")
        assert "mine" == await connection.run_in_own_thread(read)


async def test_it_takes_turns_with_the_other_calls(tmp_path: Path) -> None:
    """Calls of either kind are served first come, first served, one at a time."""
    order: list[int] = []

    def note(_raw: sqlite3.Connection, number: int) -> None:
        order.append(number)

    async with sqlite.connect(tmp_path / "a.db") as connection, trio.open_nursery() as nursery:
        gate = Gate()
        nursery.start_soon(connection.run_in_own_thread, gate)
        await gate.entered.wait()
        for number in range(6):
            run = connection.run if number % 2 else connection.run_in_own_thread
            nursery.start_soon(run, note, number)
            await wait_all_tasks_blocked()
        assert [] == order
        assert 6 == connection.statistics().waiting
        gate.let_go()
    assert list(range(6)) == order


async def test_cancelled_before_its_turn_it_never_runs() -> None:
    """A call that waits can be cancelled, and has then not been made."""
    async with sqlite.connect(":memory:") as connection, trio.open_nursery() as nursery:
        first, second = Gate(), Gate()
        nursery.start_soon(connection.run_in_own_thread, first)
        await first.entered.wait()
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.run_in_own_thread(second)
        first.let_go()
    assert scope.cancelled_caught
    assert 0 == second.calls


async def test_a_call_that_is_cancelled_already_is_not_made() -> None:
    """Cancelled when it is called, it calls nothing, though nobody has the turn."""
    async with sqlite.connect(":memory:") as connection:
        gate = Gate()
        gate.let_go()
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.run_in_own_thread(gate)
    assert scope.cancelled_caught
    assert 0 == gate.calls


async def test_cancelled_in_its_turn_it_runs_to_its_end() -> None:
    """A call whose turn has come is waited for, and its result is what the caller gets."""
    results: list[int] = []

    async def call(gate: Callable[[sqlite3.Connection], int]) -> None:
        results.append(await connection.run_in_own_thread(gate))

    async with sqlite.connect(":memory:") as connection, trio.open_nursery() as nursery:
        gate = Gate()
        nursery.start_soon(call, gate)
        await gate.entered.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        assert [] == results
        gate.let_go()
    assert [1] == results


async def test_a_closed_connection_says_so() -> None:
    """After `aclose` it raises Trio's own error, and starts no thread."""
    async with sqlite.connect(":memory:") as connection:
        pass
    before = threading.active_count()
    with pytest.raises(trio.ClosedResourceError, match="closed"):
        await connection.run_in_own_thread(thread)
    assert before == threading.active_count()
