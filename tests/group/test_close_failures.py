"""Blocks that are left while threads are forbidden, or while connections stay busy."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from forebay import open_sqlite
from forebay.sqlite import Connection
from forebay.stores.sqlite import _readers
from tests.descriptors import open_descriptors
from tests.waiting import wait_until_async

PATIENCE = 20.0

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

PROGRAM = """
import sqlite3, sys, threading, time
import trio
from forebay import BufferOptions, DrainError, Table, open_buffers, open_sqlite

path, spill = sys.argv[1:]
hits = Table.from_columns({"key": str, "n": int}, name="hits", key="key")
options = BufferOptions(drain_timeout=0.5)

def refuse(self):
    raise RuntimeError("can't start new thread")

async def main():
    async with (
        open_sqlite(path, create=[hits]) as store,
        open_buffers(store, hits, options=options, spill=spill) as buffers,
    ):
        await buffers[hits].write(("a", 1))
        await store.fetch_one("SELECT 1")
        threading.Thread.start = refuse
        rival = sqlite3.connect(path, isolation_level=None)
        rival.execute("BEGIN IMMEDIATE")
        for number in range(100):
            buffers[hits].enqueue_nowait((str(number), number))
        main.left = time.monotonic()

try:
    trio.run(main)
except DrainError as error:
    print(len(error.unsettled["hits"].entries), error.spill, time.monotonic() - main.left < 5)
"""


def test_the_entries_leave_the_block_although_no_thread_can_be_started(tmp_path: Path) -> None:
    """DrainError comes by the deadline, and the connections are closed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "a.db", tmp_path / "left.spill"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (0, f"100 {tmp_path / 'left.spill'} True\n") == (done.returncode, done.stdout)


@pytest.fixture
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_readers, "_CLOSE_TIMEOUT", 0.05)
    monkeypatch.setattr(Connection, "open", partial(Connection.open, close_timeout=0.05))


def leaves(error: BaseException) -> list[type[BaseException]]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [type(error)]


@pytest.mark.usefixtures("_python_handles_sigint", "_short_timeouts")
def test_each_busy_connection_is_an_error_beside_a_ctrl_c(tmp_path: Path) -> None:
    """The store is left by its deadlines; a connection is closed when its call has ended."""
    path = tmp_path / "a.db"
    released = threading.Event()

    def wait(_raw: sqlite3.Connection) -> None:
        assert released.wait(PATIENCE)

    async def main() -> None:
        reading = trio.CancelScope()

        async def read(store: Any) -> None:
            with reading:
                await store.fetch_all(ENDLESS)

        async with trio.open_nursery() as nursery:
            with trio.fail_after(PATIENCE), pytest.raises(BaseExceptionGroup) as raised:
                async with open_sqlite(path) as store:
                    await store.fetch_one("SELECT 1")  # opens the connection that `read` uses
                    nursery.start_soon(read, store)
                    nursery.start_soon(store.run, wait)
                    await wait_all_tasks_blocked()
                    signal.raise_signal(signal.SIGINT)
                    await trio.sleep(PATIENCE)
            assert [KeyboardInterrupt, trio.TooSlowError, trio.TooSlowError] == leaves(raised.value)
            assert 2 == open_descriptors(path)
            reading.cancel()
            released.set()
        await wait_until_async(lambda: not open_descriptors(path), "the file is closed")

    trio.run(main)
