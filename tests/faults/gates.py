"""Block a transaction where a test wants it: an SQL function that waits in the writer's thread."""

from __future__ import annotations

import sqlite3
import threading

import trio

from tests.faults.harness import PATIENCE


class Gate:
    """Blocks each row that is inserted into a table, until the test lets it through.

    To set it up, call `store.run(gate.install, table)`.
    """

    def __init__(self) -> None:
        self.waiting = trio.Event()
        """Set when a row waits at the gate."""
        self._token = trio.lowlevel.current_trio_token()
        self._turns = threading.Semaphore(0)

    def install(self, raw: sqlite3.Connection, table: str) -> None:
        raw.create_function("gate", 0, self._wait)
        raw.execute(
            f'CREATE TEMP TRIGGER "gate of {table}" BEFORE INSERT ON main."{table}" '
            "BEGIN SELECT gate(); END"
        )

    def _wait(self) -> None:
        trio.from_thread.run_sync(self.waiting.set, trio_token=self._token)
        assert self._turns.acquire(timeout=PATIENCE)

    def let_through(self, rows: int) -> None:
        """Let this number of further rows through."""
        self._turns.release(rows)
