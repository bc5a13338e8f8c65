"""While another process recovers the WAL, SQLite refuses every call with SQLITE_BUSY_RECOVERY."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from forebay import open_sqlite
from forebay.sqlite import Connection

# What SQLite does when it begins to recover a WAL: it locks all of the wal-index but the locks of
# readers, and the header is invalid. See "The WAL-Index File Format" of SQLite.
RECOVERING = """
import fcntl, os, sys
shm = os.open(sys.argv[1] + "-shm", os.O_RDWR)
fcntl.lockf(shm, fcntl.LOCK_EX, 3, 120)  # the locks WRITE, CKPT and RECOVER
os.pwrite(shm, bytes(96), 0)
print(flush=True)
sys.stdin.readline()
"""


@contextmanager
def recovering(path: Path) -> Iterator[None]:
    """Recover the WAL in another process until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", RECOVERING, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        yield
        other.stdin.close()
    assert 0 == other.returncode


class Refusals:
    """Counts the calls of a method of connections that SQLite refuses, by the name of the error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self.names: list[str] = []
        self._refused = trio.Event()
        original = getattr(Connection, method)

        async def call(*args: Any, **options: Any) -> Any:
            try:
                return await original(*args, **options)
            except sqlite3.OperationalError as error:
                self.names.append(error.sqlite_errorname)
                self._refused.set()
                raise

        monkeypatch.setattr(Connection, method, call)

    async def wait(self) -> None:
        with trio.fail_after(60):
            await self._refused.wait()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript("PRAGMA journal_mode = wal; CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    return path


@pytest.mark.parametrize("opened", [False, True])
async def test_a_read_waits(path: Path, monkeypatch: pytest.MonkeyPatch, *, opened: bool) -> None:
    """It is repeated until it succeeds, on an open connection and on a new one."""
    answers: list[Any] = []

    async def read() -> None:
        answers.append(await store.fetch_all("SELECT a FROM t"))

    async with open_sqlite(path, busy_timeout=0.001) as store:
        if opened:
            await read()
        refusals = Refusals(monkeypatch, "fetch_all")
        async with trio.open_nursery() as nursery:
            with recovering(path):
                nursery.start_soon(read)
                await refusals.wait()
    assert {"SQLITE_BUSY_RECOVERY"} == set(refusals.names)
    assert [(1,)] == answers[-1]


async def test_a_transaction_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` calls its function once the transaction has begun."""
    calls: list[int] = []

    def insert(raw: sqlite3.Connection) -> None:
        calls.append(raw.execute("INSERT INTO t VALUES (2)").rowcount)

    async with open_sqlite(path, busy_timeout=0.001) as store:
        refusals = Refusals(monkeypatch, "run")
        async with trio.open_nursery() as nursery:
            with recovering(path):
                nursery.start_soon(store.run, insert)
                await refusals.wait()
        assert [1] == calls
        assert [(1,), (2,)] == await store.fetch_all("SELECT a FROM t")
    assert {"SQLITE_BUSY_RECOVERY"} == set(refusals.names)
