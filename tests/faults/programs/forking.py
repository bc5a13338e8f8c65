"""Fork while buffers are open; the child tries to use them.

Arguments: the database, and ``try`` or ``leave``. With ``try`` the child makes every call of a
buffer and a store. With ``leave`` it leaves the block of the buffers; then the parent ends too,
since the child has run the event loop that they share.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import trio

import forebay
from tests.faults.tables import ENTRIES, EVENTS, PATIENT, TABLES, Entry, Event


def outcome(call: Callable[[], object]) -> str:
    """Make a call, run it to its first checkpoint if it is a coroutine, and return the outcome."""
    try:
        coroutine = call()
        if isinstance(coroutine, Coroutine):
            coroutine.send(None)
            coroutine.close()
            return "waits"
    except StopIteration:
        return "returns"
    except Exception as error:  # noqa: BLE001  # the test compares its type
        return type(error).__name__
    return "returns"


def try_all(store: forebay.SqliteStore, buffers: forebay.Buffers) -> None:
    entries = buffers[ENTRIES]
    row = Entry("child", 0, 0)
    calls: dict[str, Callable[[], Any]] = {
        "enqueue_nowait": lambda: entries.enqueue_nowait(row),
        "enqueue": lambda: entries.enqueue(row),
        "enqueue_many": lambda: entries.enqueue_many([row]),
        "enqueue_again": lambda: entries.enqueue_again([forebay.Write(tuple(row))]),
        "enqueue_update_many": lambda: entries.enqueue_update_many([("parent", {"value": 9})]),
        "enqueue_delete_many": lambda: entries.enqueue_delete_many(["parent"]),
        "enqueue_update_nowait": lambda: entries.enqueue_update_nowait("parent", value=9),
        "enqueue_update": lambda: entries.enqueue_update("parent", value=9),
        "enqueue_delete_nowait": lambda: entries.enqueue_delete_nowait("parent"),
        "enqueue_delete": lambda: entries.enqueue_delete("parent"),
        "write": lambda: entries.write(row),
        "flush": entries.flush,
        "flush all": buffers.flush,
        "run": lambda: store.run(lambda raw: raw.execute("DELETE FROM entries").close()),
        "fetch_all": lambda: store.fetch_all("SELECT * FROM entries"),
    }
    for name, call in calls.items():
        print(name, outcome(call))


async def fork_and_try(path: str) -> None:
    async with (
        forebay.open_sqlite(path, create=TABLES) as store,
        forebay.open_buffers(store, ENTRIES, EVENTS, options=PATIENT) as buffers,
    ):
        await buffers[EVENTS].enqueue(Event("parent", 0))
        # The next row of this thread would only be appended to this one.
        buffers[ENTRIES].enqueue_nowait(Entry("parent", 0, 0))
        pid = os.fork()
        if pid == 0:
            try:
                try_all(store, buffers)
            finally:
                sys.stdout.flush()
                os._exit(0)
        os.waitpid(pid, 0)
        await buffers[EVENTS].write(Event("parent", 1))
    print("drained")


async def fork_and_leave(path: str) -> None:
    async with forebay.open_sqlite(path, create=TABLES) as store:
        try:
            async with forebay.open_buffers(
                store, ENTRIES, EVENTS, options=PATIENT, spill=f"{path}.spill"
            ) as buffers:
                await buffers[ENTRIES].enqueue(Entry("parent", 0, 0))
                pid = os.fork()
                if pid == 0:
                    sys.exit(7)
                _, status = os.waitpid(pid, 0)
                print("child", os.waitstatus_to_exitcode(status))
                os._exit(0)
        except SystemExit as leaving:
            os._exit(leaving.code if isinstance(leaving.code, int) else 1)


if __name__ == "__main__":
    trio.run({"try": fork_and_try, "leave": fork_and_leave}[sys.argv[2]], sys.argv[1])
