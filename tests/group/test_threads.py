"""Calls from another thread: they are refused, and the error says how to make them."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from forebay import Buffer, Buffers, SqliteStore, Table, Write, open_buffers, open_sqlite
from forebay.sqlite import Connection

EVENTS = Table.from_columns(
    {"kind": str, "number": int}, name="events", key="kind", delete_by="number"
)

Call = Callable[[Buffers, SqliteStore, Connection], Any]


def buffer_of(buffers: Buffers) -> Buffer[Any]:
    return buffers[EVENTS]


CALLS: dict[str, Call] = {
    "enqueue_nowait": lambda b, _s, _c: buffer_of(b).enqueue_nowait(("x", 1)),
    "enqueue": lambda b, _s, _c: buffer_of(b).enqueue(("x", 1)),
    "enqueue_many": lambda b, _s, _c: buffer_of(b).enqueue_many([("x", 1)]),
    "enqueue_again": lambda b, _s, _c: buffer_of(b).enqueue_again([Write(("x", 1))]),
    "enqueue_update_many": lambda b, _s, _c: buffer_of(b).enqueue_update_many([]),
    "enqueue_delete_many": lambda b, _s, _c: buffer_of(b).enqueue_delete_many(["a"]),
    "enqueue_update_nowait": lambda b, _s, _c: buffer_of(b).enqueue_update_nowait("a", number=9),
    "enqueue_update": lambda b, _s, _c: buffer_of(b).enqueue_update("a", number=9),
    "enqueue_delete_nowait": lambda b, _s, _c: buffer_of(b).enqueue_delete_nowait("a"),
    "enqueue_delete": lambda b, _s, _c: buffer_of(b).enqueue_delete("a"),
    "enqueue_delete_by_nowait": lambda b, _s, _c: buffer_of(b).enqueue_delete_by_nowait(1),
    "enqueue_delete_by": lambda b, _s, _c: buffer_of(b).enqueue_delete_by(1),
    "write": lambda b, _s, _c: buffer_of(b).write(("x", 1)),
    "flush": lambda b, _s, _c: buffer_of(b).flush(),
    "flush all": lambda b, _s, _c: b.flush(),
    "give_up": lambda b, _s, _c: b.give_up(),
    "run": lambda _b, s, _c: s.run(lambda raw: raw.execute("DELETE FROM events").close()),
    "fetch_all": lambda _b, s, _c: s.fetch_all("SELECT 1"),
    "fetch_one": lambda _b, s, _c: s.fetch_one("SELECT 1"),
    "prepare": lambda _b, s, _c: s.prepare([EVENTS]),
    "connection.run": lambda _b, _s, c: c.run(lambda raw: raw.execute("DELETE FROM events")),
    "connection.transaction": lambda _b, _s, c: c.transaction(lambda _raw: None),
    "connection.execute": lambda _b, _s, c: c.execute("DELETE FROM events"),
}


async def finish(call: Callable[[], Any]) -> None:
    """Make a call, and wait for its result if it is awaitable."""
    result = call()
    if inspect.isawaitable(result):
        await result


def under_trio(call: Callable[[], Any]) -> None:
    trio.run(finish, call)


def under_asyncio(call: Callable[[], Any]) -> None:
    asyncio.run(finish(call))


def in_thread(run: Callable[[Callable[[], Any]], None], call: Callable[[], Any]) -> Exception:
    """Run a call in a thread that is not of Trio, and return what it raises."""
    raised: list[Exception] = []

    def target() -> None:
        try:
            run(call)
        except Exception as error:  # noqa: BLE001  # the test checks it
            raised.append(error)

    thread = threading.Thread(target=target, name="another thread")
    thread.start()
    thread.join()
    [error] = raised
    return error


@pytest.mark.parametrize("run", [under_trio, under_asyncio])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_a_call_from_another_thread_is_refused(
    tmp_path: Path, call: Call, run: Callable[[Callable[[], Any]], None]
) -> None:
    """The error names what was called and the thread, and has the call that works."""
    path = tmp_path / "a.db"
    async with (
        open_sqlite(path, create=[EVENTS]) as store,
        open_buffers(store, EVENTS) as buffers,
    ):
        connection = await Connection.open(path)
        await buffers[EVENTS].write(("a", 1))
        buffers[EVENTS].enqueue_nowait(("b", 1))  # the next row would only be appended to this one
        before = buffers[EVENTS].statistics().accepted
        error = in_thread(run, lambda: call(buffers, store, connection))
        assert isinstance(error, RuntimeError)
        assert "'another thread'" in str(error)
        assert "trio.from_thread.run" in str(error)
        assert "trio_token=token" in str(error)
        assert before == buffers[EVENTS].statistics().accepted
        await buffers[EVENTS].write(("b", 2))
        assert [("a", 1), ("b", 2)] == await store.fetch_all("SELECT * FROM events ORDER BY kind")
        await connection.aclose()


async def test_a_function_in_a_thread_of_trio_is_refused_too(tmp_path: Path) -> None:
    """Also in the functions of `store.run`, whose thread is not that of the buffers."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[EVENTS]) as store,
        open_buffers(store, EVENTS) as buffers,
    ):
        enqueue_nowait = buffers[EVENTS].enqueue_nowait
        with pytest.raises(RuntimeError, match="buffer 'events' belongs to the thread of Trio"):
            await trio.to_thread.run_sync(enqueue_nowait, ("x", 1))
        with pytest.raises(RuntimeError, match="buffer 'events' belongs to the thread of Trio"):
            await store.run(lambda _raw: enqueue_nowait(("x", 1)))
        assert 0 == buffers[EVENTS].statistics().accepted


async def test_the_call_that_the_error_names_works(tmp_path: Path) -> None:
    """From a thread of Trio without a token, from any other thread with one."""
    token = trio.lowlevel.current_trio_token()
    async with (
        open_sqlite(tmp_path / "a.db", create=[EVENTS]) as store,
        open_buffers(store, EVENTS) as buffers,
    ):
        buffer = buffers[EVENTS]

        def use() -> None:
            trio.from_thread.run_sync(buffer.enqueue_nowait, ("nowait", 1), trio_token=token)
            trio.from_thread.run(buffer.enqueue, ("wait", 1), trio_token=token)
            trio.from_thread.run(buffer.flush, trio_token=token)
            rows = trio.from_thread.run(
                store.fetch_all, "SELECT kind FROM events", trio_token=token
            )
            assert [("nowait",), ("wait",)] == rows

        thread = threading.Thread(target=use)
        thread.start()
        await trio.to_thread.run_sync(thread.join)
        await trio.to_thread.run_sync(
            trio.from_thread.run_sync, buffer.enqueue_nowait, ("of Trio", 1)
        )
    assert 3 == buffer.statistics().committed


async def test_the_statistics_may_be_read_in_any_thread(tmp_path: Path) -> None:
    """They only read counts; telemetry reads them in a thread of its own."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[EVENTS]) as store,
        open_buffers(store, EVENTS) as buffers,
    ):
        buffers[EVENTS].enqueue_nowait(("a", 1))
        counts = await trio.to_thread.run_sync(buffers.statistics)
    assert 1 == counts["events"].accepted
