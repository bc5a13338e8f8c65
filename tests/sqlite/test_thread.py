"""The thread of a connection: what a function may do in it, and how it starts and ends."""

from __future__ import annotations

import contextvars
import gc
import sqlite3
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from forebay import sqlite
from forebay.stores.sqlite import open_sqlite
from tests.sqlite.site import PATIENCE, Gate
from tests.thread_gate import ThreadGate

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


def thread(_raw: sqlite3.Connection) -> threading.Thread:
    return threading.current_thread()


def nothing(_raw: sqlite3.Connection) -> None:
    pass


def in_child(program: str, *arguments: object) -> str:
    """Run a program in a process of its own, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


async def test_all_calls_run_in_the_same_thread(tmp_path: Path) -> None:
    """Opening and closing do so too. It is not the thread of the event loop."""
    threads: list[threading.Thread] = []

    class Raw(sqlite3.Connection):
        def close(self) -> None:
            threads.append(threading.current_thread())
            super().close()

    def configure(raw: sqlite3.Connection) -> None:
        raw.create_function("note", 0, lambda: threads.append(threading.current_thread()))

    async with sqlite.connect(tmp_path / "a.db", configure=configure, factory=Raw) as connection:
        threads.append(await connection.run(thread))
        threads.append(await connection.transaction(thread))
        await connection.execute("SELECT note()")
        await connection.fetch_all("SELECT note()")
        await connection.fetch_one("SELECT note()")
    assert 6 == len(threads)
    assert 1 == len(set(threads))
    assert threading.current_thread() not in threads


async def test_the_function_sees_the_callers_context() -> None:
    """Context variables have the same values in the thread as in the task."""
    variable = contextvars.ContextVar("variable", default="default")

    def read(_raw: sqlite3.Connection) -> str:
        return variable.get()

    async with sqlite.connect(":memory:") as connection:
        variable.set("of the task")
        assert "of the task" == await connection.run(read)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_an_exception_that_ends_programs_reaches_the_caller(
    kind: type[BaseException],
) -> None:
    """The thread goes on."""

    def leave(_raw: sqlite3.Connection) -> None:
        raise kind

    async with sqlite.connect(":memory:") as connection:
        with pytest.raises(kind):
            await connection.run(leave)
        await connection.run(nothing)


async def test_an_async_function_is_refused() -> None:
    """Nobody would await its coroutine."""

    async def wrong(_raw: sqlite3.Connection) -> None:
        raise AssertionError

    async with sqlite.connect(":memory:") as connection:
        with pytest.raises(TypeError, match="wrong"):
            await connection.run(wrong)  # type: ignore[unused-coroutine]  # what is tested


async def test_an_idle_thread_keeps_no_result() -> None:
    """The memory of a result, or of an error, is free once the caller drops it."""

    class Big:
        pass

    def make(_raw: sqlite3.Connection) -> Big:
        return Big()

    def fail(_raw: sqlite3.Connection) -> None:
        big = Big()
        results.append(weakref.ref(big))
        raise LookupError

    results: list[weakref.ref[Big]] = []
    async with sqlite.connect(":memory:") as connection:
        for _ in range(3):
            results.append(weakref.ref(await connection.run(make)))
            with pytest.raises(LookupError):
                await connection.run(fail)
        with trio.fail_after(PATIENCE):
            while any(result() is not None for result in results):  # the thread drops the last one
                await trio.lowlevel.checkpoint()
                gc.collect()


# Short calls, for which the event loop itself waits


async def test_a_short_call_is_a_checkpoint() -> None:
    """Other tasks run between the calls, and a cancelled task makes no further one."""
    turns: list[str] = []

    async def note(name: str) -> None:
        for _ in range(100):
            await connection.run(nothing)
            turns.append(name)

    async with sqlite.connect(":memory:") as connection:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "one")
            nursery.start_soon(note, "other")
        assert {"one", "other"} == set(turns[:20])
        for _ in range(100):
            with trio.testing.assert_checkpoints():
                await connection.run(nothing)
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.run(lambda _raw: turns.append("cancelled"))
        assert scope.cancelled_caught
    assert 200 == len(turns)


async def test_an_eager_call_that_is_short_returns_before_other_tasks_run() -> None:
    """Its caller can act on the result first. It is a cancellation point as each call is."""

    turns = 0
    promptly = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with sqlite.connect(":memory:") as connection, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        for _ in range(100):  # a call that is not short lets other tasks run, as on a busy machine
            await trio.lowlevel.checkpoint()
            before = turns
            assert threading.current_thread() != await connection.run_eagerly(thread)
            promptly += turns == before
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.run_eagerly(lambda _raw: pytest.fail("it is cancelled"))
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()
    assert promptly


async def test_a_begun_call_that_is_short_has_ended() -> None:
    """It needs no checkpoint. Its error is raised like its result is returned."""

    def fail(_raw: sqlite3.Connection) -> None:
        raise LookupError

    ended = 0
    async with sqlite.connect(":memory:") as connection:
        for _ in range(100):
            await connection.run(nothing)
            with suppress(trio.WouldBlock):  # the last call took longer, as on a busy machine
                begun = connection.begin(thread)
                ended += begun.has_ended
                assert threading.current_thread() != await begun.wait()
            await connection.run(nothing)
            with suppress(trio.WouldBlock):
                failing = connection.begin(fail)
                with pytest.raises(LookupError):
                    await failing.wait()
    assert ended


async def test_a_begun_call_has_the_turn_until_it_ends() -> None:
    """Other calls wait, and no other call begins. Nobody needs to wait for it."""
    async with sqlite.connect(":memory:") as connection:
        for awaited in (False, True) * 3:
            gate = Gate()
            begun = None
            while begun is None:
                await connection.run(nothing)
                with suppress(trio.WouldBlock):
                    begun = connection.begin(gate)
            assert not begun.has_ended
            with pytest.raises(trio.WouldBlock):
                connection.begin(nothing)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.run, nothing)
                await wait_all_tasks_blocked(0.001)
                assert 1 == connection.statistics().waiting
                with trio.CancelScope() as scope:
                    scope.cancel()  # it does not cut the wait short
                    gate.release()
                    if awaited:
                        await begun.wait()
                        assert begun.has_ended


async def test_a_long_call_after_short_ones_does_not_hold_the_event_loop() -> None:
    """The loop waits for a moment, then it runs other tasks until the call ends."""
    async with sqlite.connect(":memory:") as connection:
        for _ in range(3):
            for _ in range(10):
                await connection.run(nothing)
            async with trio.open_nursery() as nursery:
                gate = Gate()
                nursery.start_soon(connection.run, gate)
                await gate.entered.wait()  # runs in this loop
                gate.release()


async def test_no_end_of_a_call_is_missed() -> None:
    """Calls whose length is about the time that the event loop waits for them."""

    def busy(_raw: sqlite3.Connection, number: int) -> int:
        end = perf_counter() + (number % 25) / 100_000
        while perf_counter() < end:
            pass
        return number

    async with sqlite.connect(":memory:") as connection:
        with trio.fail_after(PATIENCE):
            for number in range(1_500):
                assert number == await connection.run(busy, number)


# Calls back to Trio


async def test_a_function_calls_trio_without_a_token(tmp_path: Path) -> None:
    """`trio.from_thread` works as in every thread of Trio."""
    send, receive = trio.open_memory_channel[int](5)

    def call(_raw: sqlite3.Connection, number: int) -> int:
        trio.from_thread.run_sync(send.send_nowait, number)
        trio.from_thread.check_cancelled()
        return trio.from_thread.run(receive.receive)

    async with sqlite.connect(":memory:") as connection, open_sqlite(tmp_path / "a.db") as store:
        assert 1 == await connection.run(call, 1)
        assert 2 == await connection.transaction(call, 2)
        assert 3 == await store.run(call, 3)


async def test_a_cancelled_caller_cancels_what_its_function_awaits() -> None:
    """The transaction is rolled back, and the next call is not cancelled."""

    def wait(raw: sqlite3.Connection) -> None:
        raw.execute("INSERT INTO t VALUES (1)")
        trio.from_thread.run_sync(entered.set)
        trio.from_thread.run(trio.sleep_forever)

    def check(_raw: sqlite3.Connection) -> str:
        trio.from_thread.check_cancelled()
        trio.from_thread.run(trio.lowlevel.checkpoint)
        return "not cancelled"

    async with sqlite.connect(":memory:") as connection:
        await connection.execute("CREATE TABLE t (x)")
        for _ in range(3):
            entered = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.transaction, wait)
                await entered.wait()
                nursery.cancel_scope.cancel()
            assert nursery.cancel_scope.cancelled_caught
            assert "not cancelled" == await connection.run(check)
            assert [] == await connection.fetch_all("SELECT * FROM t")


async def test_a_call_that_waits_for_a_cancelled_one_is_not_cancelled() -> None:
    """Each call hears of the cancellation of its own task alone."""
    heard: list[str] = []

    def check(_raw: sqlite3.Connection) -> None:
        try:
            trio.from_thread.check_cancelled()
            heard.append("nothing")
        except trio.Cancelled:
            heard.append("cancelled")
            raise

    def hold_and_check(raw: sqlite3.Connection) -> None:
        gate(raw)
        check(raw)

    async def cancelled(scope: trio.CancelScope) -> None:
        with scope:
            await connection.run(hold_and_check)

    async with sqlite.connect(":memory:") as connection, trio.open_nursery() as nursery:
        gate, scope = Gate(), trio.CancelScope()
        nursery.start_soon(cancelled, scope)
        await gate.entered.wait()
        nursery.start_soon(connection.run, check)
        await wait_all_tasks_blocked()
        scope.cancel()
        gate.release()
    assert ["cancelled", "nothing"] == heard


def test_ctrl_c_while_a_function_runs_is_heard_in_it() -> None:
    """`check_cancelled` raises in the function, and the KeyboardInterrupt leaves the call."""
    printed = in_child(
        """
        import signal, sqlite3
        import trio
        from forebay import sqlite

        def wait(raw):
            signal.raise_signal(signal.SIGINT)
            trio.from_thread.run(trio.sleep_forever)

        async def main():
            async with sqlite.connect(":memory:") as connection:
                try:
                    await connection.run(wait)
                except KeyboardInterrupt:
                    print("interrupted,", await connection.fetch_one("SELECT 1"))

        trio.run(main)
        """
    )
    assert "interrupted, (1,)\n" == printed


# Cancelled reads


async def test_a_cancelled_read_interrupts_its_query(tmp_path: Path) -> None:
    """A query that never ends lasts as long as its task, and the connection stays usable."""
    async with open_sqlite(tmp_path / "a.db", readers=1) as store:
        for fetch in (store.fetch_all, store.fetch_one):
            with trio.move_on_after(0.05) as scope:
                await fetch(ENDLESS)
            assert scope.cancelled_caught
            assert [(1,)] == await store.fetch_all("SELECT 1")


@pytest.mark.parametrize("steps", range(8))
async def test_an_interrupt_hits_no_other_query(tmp_path: Path, steps: int) -> None:
    """Whenever the read is cancelled: before its query begins, while it runs, when it has ended."""

    async def cancel(scope: trio.CancelScope) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with open_sqlite(tmp_path / "a.db", readers=1) as store:
        for query in [ENDLESS, "SELECT 1"] * 10:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel, nursery.cancel_scope)
                nursery.start_soon(store.fetch_all, query)
            assert [(1,)] == await store.fetch_all("SELECT 1")


async def test_an_interrupt_before_the_query_begins_is_repeated(tmp_path: Path) -> None:
    """SQLite ignores the first one, since no statement runs."""
    gate = ThreadGate()

    class Raw(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql == ENDLESS:
                gate.wait()
            return super().execute(sql, *parameters)

    (tmp_path / "a.db").touch()
    async with (
        sqlite.connect(tmp_path / "a.db", readonly=True, factory=Raw) as connection,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(connection.fetch_all, ENDLESS)
        await gate.entered.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            gate.release()
    assert nursery.cancel_scope.cancelled_caught


async def test_a_statement_of_a_connection_that_may_write_is_not_interrupted(
    tmp_path: Path,
) -> None:
    """SQLite would roll back a transaction that consists of several calls."""

    def wait() -> int:
        gate.wait()
        return 1

    gate = ThreadGate()
    async with sqlite.connect(
        tmp_path / "a.db", configure=lambda raw: raw.create_function("wait", 0, wait)
    ) as connection:
        await connection.execute("CREATE TABLE t (x)")
        await connection.execute("BEGIN")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                connection.fetch_all, "INSERT INTO t VALUES (1), (wait()) RETURNING x"
            )
            await gate.entered.wait()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
            gate.release()
        await connection.execute("COMMIT")
        assert [(1,), (1,)] == await connection.fetch_all("SELECT x FROM t")


# Start and end


async def test_the_thread_ends_with_the_connection() -> None:
    """Then Trio may use it for something else, or end it."""
    async with sqlite.connect(":memory:"):
        assert 1 == trio.testing.active_thread_count()
    with trio.fail_after(PATIENCE):
        await trio.testing.wait_all_threads_completed()


async def test_a_connection_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    """The error of opening leaves `open`."""
    with pytest.raises(FileNotFoundError):
        await sqlite.Connection.open(tmp_path / "missing.db", readonly=True)
    with trio.fail_after(PATIENCE):
        await trio.testing.wait_all_threads_completed()


@pytest.mark.parametrize("call", ["pass", "await connection.run(print, 'called')"])
def test_a_connection_that_is_never_closed_does_not_keep_the_process(call: str) -> None:
    """`trio.run` returns, and so does the process."""
    in_child(
        f"""
        import trio
        from forebay import sqlite

        async def main():
            connection = await sqlite.Connection.open(":memory:")
            {call}
            return connection

        connection = trio.run(main)
        """
    )


def test_a_connection_of_an_earlier_run_is_refused(tmp_path: Path) -> None:
    """Its thread ended with that run. It can be closed."""
    connection = trio.run(sqlite.Connection.open, tmp_path / "a.db")

    async def use() -> None:
        with pytest.raises(trio.RunFinishedError, match=r"a\.db"):
            await connection.run(nothing)
        await connection.aclose()

    trio.run(use)
    assert sqlite.ConnectionState.CLOSED is connection.statistics().state


NO_THREAD = """
import os, sys, threading
import trio
from forebay import sqlite
from forebay.stores.sqlite import open_sqlite

path = sys.argv[1]

def refuse(self):
    raise RuntimeError("can't start new thread")
"""


def test_a_connection_cannot_be_opened_without_a_thread(tmp_path: Path) -> None:
    """The error of Python leaves `open`, and no file is created."""
    printed = in_child(
        NO_THREAD
        + textwrap.dedent(
            """
            async def main():
                threading.Thread.start = refuse
                try:
                    await sqlite.Connection.open(path)
                except RuntimeError as error:
                    print(error, os.path.exists(path))

            trio.run(main)
            """
        ),
        tmp_path / "a.db",
    )
    assert "can't start new thread False\n" == printed


def test_an_open_connection_needs_no_other_thread(tmp_path: Path) -> None:
    """Calls, cancelled calls and closing work when no thread can be started any more."""
    printed = in_child(
        NO_THREAD
        + textwrap.dedent(
            """
            def wait(raw):
                trio.from_thread.run(trio.sleep_forever)

            async def main():
                async with sqlite.connect(path) as connection:
                    threading.Thread.start = refuse
                    for _ in range(3):
                        with trio.move_on_after(0.01) as scope:
                            await connection.run(wait)
                        print(scope.cancelled_caught, await connection.fetch_one("SELECT 1"))
                print(connection.statistics().state.value)

            trio.run(main)
            """
        ),
        tmp_path / "a.db",
    )
    assert "True (1,)\n" * 3 + "closed\n" == printed


async def test_a_call_ends_although_memory_is_exhausted(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the thread has no memory to report the end of a call, it tries again."""
    async with sqlite.connect(":memory:") as connection:
        token = trio.lowlevel.current_trio_token()
        original: Callable[..., None] = type(token).run_sync_soon
        loop, failures = threading.current_thread(), 0

        def fail(self: trio.lowlevel.TrioToken, *args: Any, **options: Any) -> None:
            nonlocal failures
            if threading.current_thread() is not loop and failures < 3:
                failures += 1
                if failures == 2:  # as if only the wake-up failed
                    original(self, *args, **options)
                raise MemoryError
            original(self, *args, **options)

        monkeypatch.setattr(type(token), "run_sync_soon", fail)
        with trio.fail_after(PATIENCE):
            assert not await connection.run(lambda _raw: threading.Event().wait(0.01))  # not short
            assert (1,) == await connection.fetch_one("SELECT 1")
        assert 3 == failures
