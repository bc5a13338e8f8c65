"""Compare a buffer on a real file with a model, under locks, crashes and reopenings.

A crash leaves the same files as kill -9: copies of the database and its log, taken before some
statement of some transaction. After the crash, the table must be the result of the first n
accepted entries, each executed alone, and these must include every entry that a flush has settled.
"""

from __future__ import annotations

import math
import shutil
import sqlite3
from contextlib import ExitStack, closing
from functools import partial
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
from forebay._table.table import key_getter
from tests import buffer_calls, one_by_one
from tests.random_tables import Drawn, keys_of, tables
from tests.random_tables import operation as operations

OPTIONS = BufferOptions(
    batch_size=3,
    flush_interval=math.inf,  # a flush happens only on request and when a batch is full
    drain_timeout=0.2,
    retry=RetryPolicy(initial_delay=0.001, max_delay=0.001),
)


class CrashMachine(RuleBasedStateMachine):
    """One table in one file. After a crash, the copied files replace the file."""

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.folder = Path(self.resources.enter_context(TemporaryDirectory()))
        self.portal = self.resources.enter_context(anyio.from_thread.start_blocking_portal("trio"))
        self.path = self.folder / "0.db"
        self.other: sqlite3.Connection | None = None
        """Another process that holds the write lock, if any."""
        self.accepted: list[Operation] = []
        self.buffer: Buffer[Any]
        self.crash_copy: Path | None = None
        self.statements_until_crash = 0
        self.unsettled_at_crash: list[Operation] = []
        """The entries that the next crash interrupts."""

    @initialize(drawn=tables())
    def create(self, drawn: Drawn) -> None:
        """Create the file, and open it."""
        self.drawn = drawn
        with closing(sqlite3.connect(self.path)) as raw:
            raw.execute("PRAGMA journal_mode = wal")
            raw.execute(drawn.ddl)
        self.open()

    def open(self) -> None:
        """Open the store and the buffer; they stay open until `leave` is set."""
        self.leave = trio.Event()
        self.block, _ = self.portal.start_task(self.run)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep the store and the buffer open."""
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
        """Copy the files before a statement if the crash happens here."""
        if self.statements_until_crash:
            self.statements_until_crash -= 1
            if not self.statements_until_crash:
                self.crash_copy = self.copy_files()

    def copy_files(self) -> Path:
        """Copy the files that a killed process would leave: the database and its log."""
        copy = self.path.with_name(f"{int(self.path.stem) + 1}.db")
        shutil.copyfile(self.path, copy)
        if (wal := Path(f"{self.path}-wal")).exists():
            shutil.copyfile(wal, f"{copy}-wal")
        return copy

    @rule(data=st.data())
    def enqueue(self, data: st.DataObject) -> None:
        """Enqueue an entry."""
        operation = data.draw(operations(self.drawn))
        self.portal.call(buffer_calls.enqueue_nowait, self.buffer, operation)
        self.accepted.append(operation)

    @rule()
    @precondition(lambda self: self.other is None)
    def flush(self) -> None:
        """Flush; every accepted entry is then settled."""
        self.portal.call(self.buffer.flush)
        assert 0 == self.portal.call(self.buffer.statistics).pending

    @rule()
    @precondition(lambda self: self.other is None)
    def lock(self) -> None:
        """Another process takes the write lock; nothing can be committed now."""
        self.portal.call(self.buffer.flush)
        self.other = sqlite3.connect(self.path, isolation_level=None, timeout=10)
        self.other.execute("BEGIN IMMEDIATE")

    @rule()
    @precondition(lambda self: self.other is not None)
    def unlock(self) -> None:
        """The other process releases the lock."""
        assert self.other is not None
        self.other.execute("ROLLBACK")
        self.other.close()
        self.other = None

    @rule(statements=st.integers(1, 12))
    @precondition(lambda self: self.other is None)
    def crash(self, statements: int) -> None:
        """The process is killed at some statement of a flush, or right after the flush."""
        self.portal.call(self.buffer.flush)
        settled = len(self.accepted)
        self.statements_until_crash = statements
        for operation in self.unsettled_at_crash:
            self.portal.call(buffer_calls.enqueue_nowait, self.buffer, operation)
            self.accepted.append(operation)
        self.portal.call(self.buffer.flush)
        self.statements_until_crash = 0
        copy = self.crash_copy
        if copy is None:  # the flush had fewer statements
            copy, settled = self.copy_files(), len(self.accepted)
        self.crash_copy = None
        self.end()
        self.path = copy
        self.forget_lost_entries(settled)
        self.open()

    @rule(data=st.data())
    def choose_unsettled(self, data: st.DataObject) -> None:
        """Choose the entries that the next crash interrupts."""
        self.unsettled_at_crash = data.draw(st.lists(operations(self.drawn), max_size=7))

    def forget_lost_entries(self, settled: int) -> None:
        """Find out how many entries are in the file, which must include all settled ones."""
        with closing(sqlite3.connect(self.path)) as raw:
            found = one_by_one.rows_of(raw, self.drawn.table)
            assert [("ok",)] == raw.execute("PRAGMA integrity_check").fetchall()
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
            model.execute(self.drawn.ddl)
            one_by_one.execute(model, self.drawn.table, self.accepted[:settled])
            survived = settled
            while one_by_one.rows_of(model, self.drawn.table) != found:
                assert survived < len(self.accepted), "the rows are not those of any n entries"
                one_by_one.execute(model, self.drawn.table, [self.accepted[survived]])
                survived += 1
        del self.accepted[survived:]

    @rule()
    @precondition(lambda self: self.other is None)
    def reopen(self) -> None:
        """Leave the block, which drains the buffer, and open the file again."""
        self.end()
        self.open()

    def end(self) -> None:
        """Leave the block; if the file is locked, the error has the unsettled entries."""
        self.portal.call(self.leave.set)
        try:
            self.block.result()
        except DrainError as error:
            assert self.other is not None
            [left] = error.unsettled.values()
            assert 0 < left.count <= len(self.accepted)

    @invariant()
    def check(self) -> None:
        """The counts add up; if no entry is pending, the table equals the model."""
        seen = self.portal.call(self.buffer.statistics)
        assert seen.accepted == (
            seen.committed + seen.superseded + seen.dead_lettered + seen.pending
        )
        assert 0 == seen.dead_lettered
        if seen.pending == 0:
            with closing(sqlite3.connect(self.path)) as raw:
                assert self.expected_rows() == one_by_one.rows_of(raw, self.drawn.table)

    def expected_rows(self) -> list[tuple[Any, ...]]:
        """Return the rows of the table after all accepted entries."""
        return one_by_one.rows_after(self.drawn.ddl, self.drawn.table, self.accepted)

    @invariant()
    def check_get(self) -> None:
        """`get_many` returns the rows after all accepted entries, settled or not."""
        if not self.drawn.table.key:
            return
        call = partial(self.buffer.get_many, keys_of(self.drawn))
        try:
            found = self.portal.call(call)
        except TypeError:
            assert self.converts_values()
            return
        rows = sorted(found.values(), key=key_getter(self.drawn.table))
        assert rows == self.expected_rows()

    def converts_values(self) -> bool:
        """Return whether a column of the table has a type that converts some values."""
        with closing(sqlite3.connect(self.path)) as raw:
            columns = raw.execute("SELECT name, type FROM pragma_table_info('t')").fetchall()
        stored = dict(columns)
        kinds = {int: "INTEGER", str: "TEXT", float: "REAL", bytes: "BLOB", None: ""}
        return any(
            stored[column.name] != kinds[column.storage] for column in self.drawn.table.columns
        )

    def teardown(self) -> None:
        """Drain; then every accepted entry is in the file."""
        try:
            if self.other is not None:
                self.unlock()
            if hasattr(self, "block"):
                self.end()
                self.forget_lost_entries(len(self.accepted))
        finally:
            self.resources.close()


TestCrashes = CrashMachine.TestCase
TestCrashes.settings = settings(
    max_examples=settings.get_profile(settings.get_current_profile_name()).max_examples // 4,
    stateful_step_count=15,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
