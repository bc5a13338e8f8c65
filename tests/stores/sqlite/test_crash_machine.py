"""A buffer on a real file, under faults, crashes and reopenings, against a model.

A crash is what kill -9 leaves: the database and its log as they are at some statement of some
transaction. Opened again, the table is what the first so many accepted entries make of it, each
executed alone; and none that was acknowledged is missing.
"""

from __future__ import annotations

import math
import shutil
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio.from_thread
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forebay import Buffer, BufferOptions, DrainError, RetryPolicy, open_buffers, open_sqlite
from forebay._table.operations import Operation
from tests import buffer_calls, one_by_one
from tests.random_tables import Drawn, tables
from tests.random_tables import operation as operations

OPTIONS = BufferOptions(
    batch_size=3,
    flush_interval=math.inf,  # it flushes when it is told to, and when a batch is full
    drain_timeout=0.2,
    retry=RetryPolicy(initial_delay=0.001, max_delay=0.001),
)


class CrashMachine(RuleBasedStateMachine):
    """One table in one file, which is replaced by what a crash left of it."""

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.folder = Path(self.resources.enter_context(TemporaryDirectory()))
        self.portal = self.resources.enter_context(anyio.from_thread.start_blocking_portal("trio"))
        self.path = self.folder / "0.db"
        self.model = self.new_model()
        self.rival: sqlite3.Connection | None = None
        self.accepted: list[Operation] = []
        self.buffer: Buffer[Any]
        self.crashed: Path | None = None
        self.crash_in = 0
        self.late: list[Operation] = []
        """What is accepted between the last acknowledgement and the crash."""

    def new_model(self) -> sqlite3.Connection:
        """A table in which each entry is executed alone."""
        return self.resources.enter_context(
            closing(sqlite3.connect(":memory:", isolation_level=None))
        )

    @initialize(drawn=tables())
    def create(self, drawn: Drawn) -> None:
        """Make the file, and open it."""
        self.drawn = drawn
        self.model.execute(drawn.ddl)
        with closing(sqlite3.connect(self.path)) as raw:
            raw.execute("PRAGMA journal_mode = wal")
            raw.execute(drawn.ddl)
        self.open()

    def open(self) -> None:
        """Open the store and the buffer, until `leave` is set."""
        self.leave = trio.Event()
        self.block, _ = self.portal.start_task(self.run)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Hold the store and the buffer open."""
        table = self.drawn.table
        leave = self.leave
        async with (
            open_sqlite(self.path) as store,
            open_buffers(store, table, options=OPTIONS) as buffers,
        ):
            self.buffer = buffers[table]
            await store.run(lambda raw: raw.set_trace_callback(self.trace))
            task_status.started()
            await leave.wait()

    def trace(self, _statement: str) -> None:
        """Copy the files as they are before a statement, if the crash is to come here."""
        if self.crash_in:
            self.crash_in -= 1
            if not self.crash_in:
                self.crashed = self.copy()

    def copy(self) -> Path:
        """Take what a killed process would leave: the file and its log."""
        copy = self.path.with_name(f"{int(self.path.stem) + 1}.db")
        shutil.copyfile(self.path, copy)
        if (wal := Path(f"{self.path}-wal")).exists():
            shutil.copyfile(wal, f"{copy}-wal")
        return copy

    @rule(data=st.data())
    def enqueue(self, data: st.DataObject) -> None:
        """Accepted, and perhaps committed soon."""
        asked = data.draw(operations(self.drawn))
        self.portal.call(buffer_calls.enqueue_nowait, self.buffer, asked)
        self.accepted.append(asked)

    @rule()
    @precondition(lambda self: self.rival is None)
    def flush(self) -> None:
        """All that was accepted is acknowledged."""
        self.portal.call(self.buffer.flush)
        assert 0 == self.portal.call(self.buffer.statistics).pending

    @rule()
    @precondition(lambda self: self.rival is None)
    def fault(self) -> None:
        """Another process takes the lock: nothing is committed, nothing is dropped."""
        self.portal.call(self.buffer.flush)
        self.rival = sqlite3.connect(self.path, isolation_level=None, timeout=10)
        self.rival.execute("BEGIN IMMEDIATE")

    @rule()
    @precondition(lambda self: self.rival is not None)
    def mend(self) -> None:
        """It lets the lock go."""
        assert self.rival is not None
        self.rival.execute("ROLLBACK")
        self.rival.close()
        self.rival = None

    @rule(statements=st.integers(1, 12))
    @precondition(lambda self: self.rival is None)
    def crash(self, statements: int) -> None:
        """The process dies at some statement of a flush, or right after it."""
        self.portal.call(self.buffer.flush)
        acknowledged = len(self.accepted)
        self.crash_in = statements
        for asked in self.late:
            self.portal.call(buffer_calls.enqueue_nowait, self.buffer, asked)
            self.accepted.append(asked)
        self.portal.call(self.buffer.flush)
        self.crash_in = 0
        left = self.crashed
        if left is None:  # it outlived the flush
            left, acknowledged = self.copy(), len(self.accepted)
        self.crashed = None
        self.end()
        self.path = left
        self.resume(acknowledged)
        self.open()

    @rule(data=st.data())
    def plan(self, data: st.DataObject) -> None:
        """Choose what the next crash is to interrupt."""
        self.late = data.draw(st.lists(operations(self.drawn), max_size=7))

    def resume(self, acknowledged: int) -> None:
        """Find how many entries the file holds: all that were acknowledged, at the least."""
        with closing(sqlite3.connect(self.path)) as raw:
            found = one_by_one.rows_of(raw, self.drawn.table)
            assert [("ok",)] == raw.execute("PRAGMA integrity_check").fetchall()
        self.model = self.new_model()
        self.model.execute(self.drawn.ddl)
        one_by_one.execute(self.model, self.drawn.table, self.accepted[:acknowledged])
        survived = acknowledged
        while one_by_one.rows_of(self.model, self.drawn.table) != found:
            assert survived < len(self.accepted), "the file holds what no order of entries makes"
            one_by_one.execute(self.model, self.drawn.table, [self.accepted[survived]])
            survived += 1
        del self.accepted[survived:]

    @rule()
    @precondition(lambda self: self.rival is None)
    def reopen(self) -> None:
        """The block is left, which drains, and another is opened on the file."""
        self.end()
        self.open()

    def end(self) -> None:
        """Leave the block; with the lock taken, the drain names what it could not write."""
        self.portal.call(self.leave.set)
        try:
            self.block.result()
        except DrainError as error:
            assert self.rival is not None
            [left] = error.unsettled.values()
            assert 0 < left.count <= len(self.accepted)

    @invariant()
    def check(self) -> None:
        """The counts add up; with all settled, the table is what the model is."""
        seen = self.portal.call(self.buffer.statistics)
        assert seen.accepted == (
            seen.committed + seen.superseded + seen.dead_lettered + seen.pending
        )
        assert 0 == seen.dead_lettered
        if seen.pending == 0:
            with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
                model.execute(self.drawn.ddl)
                one_by_one.execute(model, self.drawn.table, self.accepted)
                expected = one_by_one.rows_of(model, self.drawn.table)
            with closing(sqlite3.connect(self.path)) as raw:
                assert expected == one_by_one.rows_of(raw, self.drawn.table)

    def teardown(self) -> None:
        """Nothing that was accepted is lost."""
        try:
            if self.rival is not None:
                self.mend()
            if hasattr(self, "block"):
                self.end()
                self.resume(len(self.accepted))
        finally:
            self.resources.close()


TestCrashes = CrashMachine.TestCase
TestCrashes.settings = settings(
    max_examples=settings.get_profile(settings.get_current_profile_name()).max_examples // 4,
    stateful_step_count=15,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
