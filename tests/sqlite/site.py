"""A database with a table ``t(x)``, for the tests of `forebay.sqlite`."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import trio

# Long enough for a slow machine; no test waits for it unless something is broken.
PATIENCE = 20.0


def rows(path: Path) -> list[Any]:
    """Return what another connection reads from ``t``."""
    with closing(sqlite3.connect(path)) as raw:
        return [x for (x,) in raw.execute("SELECT x FROM t ORDER BY rowid")]


def insert(raw: sqlite3.Connection, *values: object) -> int:
    for value in values:
        raw.execute("INSERT INTO t VALUES (?)", (value,))
    return len(values)


class Gate:
    """A function for a connection that stays in its thread until it is released."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._released = threading.Event()

    def __call__(self, raw: sqlite3.Connection, *values: object) -> int:
        self._token.run_sync_soon(self.entered.set)
        assert self._released.wait(PATIENCE)
        return insert(raw, *values)

    def release(self) -> None:
        self._released.set()


@contextmanager
def held() -> Iterator[Gate]:
    gate = Gate()
    try:
        yield gate
    finally:
        gate.release()
