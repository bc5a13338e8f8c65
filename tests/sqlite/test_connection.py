"""`forebay.sqlite`: turns, cancellation and closing, with real files and real threads."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from forebay import sqlite
from tests.sqlite.site import PATIENCE, Gate, insert, rows

Call = Callable[[sqlite.Connection], Awaitable[object]]

CALLS: list[Any] = [
    pytest.param(lambda c: c.run(insert, 1, 2, 3), id="run"),
    pytest.param(lambda c: c.transaction(insert, 1, 2, 3), id="transaction"),
    pytest.param(lambda c: c.execute("INSERT INTO t VALUES (1), (2), (3)"), id="execute"),
    pytest.param(lambda c: c.fetch_all("SELECT x FROM t"), id="fetch_all"),
    pytest.param(lambda c: c.fetch_one("SELECT x FROM t"), id="fetch_one"),
]


# Hops and turns


class Schedules(trio.abc.Instrument):
    """Counts how often a task continues."""

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.count = 0
        self._task = task

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self._task


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_is_one_hop(path: Path, call: Call) -> None:
    """However many statements a call executes, its task waits once."""
    async with sqlite.connect(path) as connection:
        schedules = Schedules(trio.lowlevel.current_task())
        trio.lowlevel.add_instrument(schedules)
        await call(connection)
        trio.lowlevel.remove_instrument(schedules)
    assert 1 == schedules.count


async def test_turns_come_in_the_order_of_the_calls(path: Path) -> None:
    """Calls that wait run first come, first served."""
    async with sqlite.connect(path) as connection, trio.open_nursery() as nursery:
        with Gate() as gate:
            nursery.start_soon(connection.run, gate)
            await gate.entered.wait()
            for i in range(10):
                nursery.start_soon(connection.run, insert, i)
                await wait_all_tasks_blocked()
    assert list(range(10)) == rows(path)


async def test_one_connection_is_used_by_one_thread_at_a_time(path: Path) -> None:
    """While a call runs, the next call waits, and the statistics count it."""
    async with sqlite.connect(path) as connection, trio.open_nursery() as nursery:
        with Gate() as gate:
            nursery.start_soon(connection.run, gate, "first")
            await gate.entered.wait()
            nursery.start_soon(connection.run, insert, "second")
            await wait_all_tasks_blocked()
            assert [] == rows(path)
            assert (
                sqlite.ConnectionStatistics(
                    state=sqlite.ConnectionState.OPEN, running=True, waiting=1
                )
                == connection.statistics()
            )
    assert ["first", "second"] == rows(path)


async def test_several_connections_work_at_the_same_time(path: Path) -> None:
    """Two functions that wait for each other both end if they run on two connections."""
    barrier = threading.Barrier(2, timeout=PATIENCE)

    def meet(_raw: sqlite3.Connection) -> None:
        barrier.wait()

    async with (
        sqlite.connect(path) as one,
        sqlite.connect(path) as two,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(one.run, meet)
        nursery.start_soon(two.run, meet)
    assert not barrier.broken


async def test_the_exception_of_a_function_reaches_its_caller(path: Path) -> None:
    """The caller gets the same exception object, and the connection remains usable."""
    cause = LookupError("no")

    def fail(_raw: sqlite3.Connection) -> None:
        raise cause

    async with sqlite.connect(path) as connection:
        with pytest.raises(LookupError) as caught:
            await connection.run(fail)
        assert caught.value is cause
        assert 1 == await connection.run(insert, 1)


# Cancellation


async def test_a_call_cancelled_on_entry_does_not_run(path: Path) -> None:
    """In a cancelled scope, a call does not reach the database."""
    async with sqlite.connect(path) as connection:
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.run(insert, 1)
        assert scope.cancelled_caught
    assert [] == rows(path)


async def test_a_call_cancelled_while_it_waits_never_runs(path: Path) -> None:
    """A call that is cancelled before its turn leaves the queue."""

    async def call(scope: trio.CancelScope) -> None:
        with scope:
            await connection.run(insert, "cancelled")

    scope = trio.CancelScope()
    async with sqlite.connect(path) as connection, trio.open_nursery() as nursery:
        with Gate() as gate:
            nursery.start_soon(connection.run, gate)
            await gate.entered.wait()
            nursery.start_soon(call, scope)
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            assert scope.cancelled_caught
            nursery.start_soon(connection.run, insert, "next")
    assert ["next"] == rows(path)


@pytest.mark.parametrize("method", [sqlite.Connection.run, sqlite.Connection.transaction])
async def test_a_call_cancelled_while_it_runs_commits_and_returns(
    path: Path, method: Callable[[sqlite.Connection, Gate, str], Awaitable[int]]
) -> None:
    """A call that has begun returns its result; the next checkpoint raises the cancellation."""
    results: list[int] = []

    async def call(scope: trio.CancelScope) -> None:
        with scope:
            results.append(await method(connection, gate, "committed"))
            await trio.lowlevel.checkpoint()
            results.append(-1)

    scope = trio.CancelScope()
    async with sqlite.connect(path) as connection, trio.open_nursery() as nursery:
        with Gate() as gate:
            nursery.start_soon(call, scope)
            await gate.entered.wait()
            scope.cancel()
            await wait_all_tasks_blocked()
            assert [] == results
    assert [1] == results
    assert scope.cancelled_caught
    assert ["committed"] == rows(path)


async def test_a_function_may_check_for_cancellation(path: Path) -> None:
    """`trio.from_thread.check_cancelled` ends a long transaction and rolls it back."""

    def long(raw: sqlite3.Connection) -> None:
        gate(raw, "undone")
        trio.from_thread.check_cancelled()

    async def call(scope: trio.CancelScope) -> None:
        with scope:
            await connection.transaction(long)

    scope = trio.CancelScope()
    async with sqlite.connect(path) as connection, trio.open_nursery() as nursery:
        with Gate() as gate:
            nursery.start_soon(call, scope)
            await gate.entered.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert [] == rows(path)


# Closing


@pytest.mark.parametrize("call", CALLS)
async def test_a_closed_connection_refuses_calls(path: Path, call: Call) -> None:
    """After `aclose`, every call raises `trio.ClosedResourceError` with the path."""
    async with sqlite.connect(path) as connection:
        pass
    with pytest.raises(trio.ClosedResourceError, match=r"a\.db"):
        await call(connection)


async def test_closing_waits_for_the_calls_made_before_it(path: Path) -> None:
    """The running call and the waiting calls end; later calls are refused."""
    connection = await sqlite.Connection.open(path)
    async with trio.open_nursery() as nursery:
        with Gate() as gate:
            nursery.start_soon(connection.run, gate, "running")
            await gate.entered.wait()
            nursery.start_soon(connection.transaction, insert, "waiting")
            await wait_all_tasks_blocked()
            nursery.start_soon(connection.aclose)
            nursery.start_soon(connection.aclose)
            await wait_all_tasks_blocked()
            assert sqlite.ConnectionState.CLOSING is connection.statistics().state
            with pytest.raises(trio.ClosedResourceError):
                await connection.run(insert, "late")
    assert ["running", "waiting"] == rows(path)
    assert sqlite.ConnectionState.CLOSED is connection.statistics().state


async def test_closing_again_does_nothing(path: Path) -> None:
    """`aclose` may be called any number of times, and each call is a checkpoint."""
    connection = await sqlite.Connection.open(path)
    await connection.aclose()
    with trio.testing.assert_checkpoints():
        await connection.aclose()


async def test_cancellation_does_not_keep_a_connection_open(path: Path) -> None:
    """Closing is shielded: the connection is closed even in a cancelled scope."""
    raws: list[sqlite3.Connection] = []
    with trio.CancelScope() as scope:
        async with sqlite.connect(path) as connection:
            await connection.run(raws.append)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert sqlite.ConnectionState.CLOSED is connection.statistics().state
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        raws[0].execute("SELECT 1")


async def closed(connection: sqlite.Connection) -> None:
    """Wait until a connection is closed that could not be closed in time."""
    with trio.fail_after(PATIENCE):
        while connection.statistics().state is not sqlite.ConnectionState.CLOSED:
            with suppress(trio.TooSlowError):
                await connection.aclose()


async def test_closing_has_a_deadline(path: Path) -> None:
    """A call that does not end delays `aclose` by the timeout."""
    connection = await sqlite.Connection.open(path, close_timeout=0.01)
    async with trio.open_nursery() as nursery:
        with Gate() as gate:
            nursery.start_soon(connection.run, gate, "slow")
            await gate.entered.wait()
            start = trio.current_time()
            with pytest.raises(trio.TooSlowError, match=r"a\.db.*close_timeout=0\.01"):
                await connection.aclose()
            assert trio.current_time() - start < 2
            with pytest.raises(trio.ClosedResourceError):
                await connection.run(insert, "late")


async def test_a_connection_that_could_not_be_closed_in_time_is_closed_later(path: Path) -> None:
    """When the running call, and the one that waits for its turn, have ended."""
    raws: list[sqlite3.Connection] = []
    connection = await sqlite.Connection.open(path, close_timeout=0.01)
    await connection.run(raws.append)
    async with trio.open_nursery() as nursery:
        with Gate() as gate:
            nursery.start_soon(connection.run, gate, "running")
            await gate.entered.wait()
            nursery.start_soon(connection.run, insert, "waiting")
            await wait_all_tasks_blocked()
            for _ in range(2):
                with pytest.raises(trio.TooSlowError):
                    await connection.aclose()
    await closed(connection)
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        raws[0].execute("SELECT 1")
    assert ["running", "waiting"] == rows(path)


async def test_a_transaction_left_open_is_rolled_back_by_closing(path: Path) -> None:
    """Rows that were not committed are not in the file."""
    async with sqlite.connect(path) as connection:
        await connection.execute("BEGIN")
        await connection.execute("INSERT INTO t VALUES (1)")
    assert [] == rows(path)


async def test_the_representation_has_path_and_state(path: Path) -> None:
    """One line names the file, and describes what the connection is doing."""
    async with sqlite.connect(path) as connection:
        assert f"<Connection {str(path)!r} open, idle, 0 waiting>" == repr(connection)
        async with trio.open_nursery() as nursery:
            with Gate() as gate:
                nursery.start_soon(connection.run, gate)
                await gate.entered.wait()
                assert f"<Connection {str(path)!r} open, running, 0 waiting>" == repr(connection)
    assert f"<Connection {str(path)!r} closed, idle, 0 waiting>" == repr(connection)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_forked_child_does_not_touch_the_connection(path: Path) -> None:
    """In a child, calls raise: its COMMIT would seem to succeed, but its row would be lost."""
    raws: list[sqlite3.Connection] = []
    async with sqlite.connect(path) as connection:
        await connection.run(raws.append)
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            answer, status = "the call returned", 1
            try:
                await connection.transaction(insert, "child")
            except RuntimeError as error:
                answer = str(error)
                await connection.aclose()
                raws[0].execute("SELECT 1")  # still open: only the parent closes it
                status = 0
            finally:
                os.write(send, answer.encode())
                os._exit(status)
        os.close(send)
        with os.fdopen(receive) as pipe:
            answer = pipe.read()
        _, status = os.waitpid(child, 0)
        await connection.transaction(insert, "parent")
    assert 0 == os.waitstatus_to_exitcode(status)
    assert f"process {os.getpid()}" in answer
    assert f"forked child {child}" in answer
    assert ["parent"] == rows(path)
