"""A buffer under random sequences of calls, waits, failures and closings, compared with a model.

The model is the sequence of accepted entries, and a table in which each entry is executed alone.
It does not know when a buffer flushes or what it coalesces. After every step, the table of the
store must equal the table of the model after as many entries as the buffer reports as settled.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import ExitStack, closing
from typing import Any

import anyio.from_thread
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from forebay import (
    Buffer,
    BufferOptions,
    Delete,
    DeleteBy,
    DrainError,
    FlushError,
    RetryPolicy,
    Unsettled,
    Update,
    Write,
    open_buffers,
)
from forebay._table.operations import Operation
from forebay._table.table import key_getter
from forebay.stores import FailureKind
from forebay.testing import MemoryStore
from tests import buffer_calls, one_by_one
from tests.buffer_calls import Call, Ended
from tests.random_tables import Drawn, keys_of, tables
from tests.random_tables import operation as operations
from tests.random_tables import write as writes


class BodyError(Exception):
    """The error that the body of an `open_buffers` block raises in this test."""


OPTIONS = st.builds(
    BufferOptions,
    capacity=st.sampled_from([3, 1, 2, 5]),
    capacity_bytes=st.sampled_from([None, None, 300]),
    batch_size=st.sampled_from([2, 1, 3, 100]),
    flush_interval=st.sampled_from([0.2, 0.0, math.inf]),
    drain_timeout=st.sampled_from([5.0, 0.0]),
    dead_letters_per_minute=st.sampled_from([1_000, 1]),
    on_failure=st.sampled_from(["stop", "suspend"]),
    retry=st.sampled_from([RetryPolicy(), RetryPolicy(max_attempts=2)]),
)
"""Options with limits that a few entries reach."""


class Session(trio.abc.Instrument):
    """One `open_buffers` block with one table, which records what the buffer accepts."""

    def __init__(self, store: MemoryStore, drawn: Drawn, options: BufferOptions) -> None:
        self._store = store
        self._drawn = drawn
        self._options = options
        self._leave = trio.Event()
        self._raises = False
        self._scope = trio.CancelScope()
        self.buffer: Buffer[Any]
        self.accepted: list[Operation] = []
        """The operations accepted, in order."""
        self._accepted_of = Counter[Call]()
        """The number of operations accepted of each call."""
        self.calls: list[Call] = []
        self.flushes: dict[Call, int] = {}
        """For each call of `flush`, the number of the last entry that it waits for."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep the block open until `leave` is called."""
        with self._scope:
            async with open_buffers(
                self._store, self._drawn.table, options=self._options
            ) as buffers:
                self.buffer = buffers[self._drawn.table]
                trio.lowlevel.add_instrument(self)
                try:
                    task_status.started()
                    await self._leave.wait()
                    if self._raises:
                        raise BodyError
                finally:
                    trio.lowlevel.remove_instrument(self)

    def enqueue_nowait(self, asked: Operation) -> None:
        """Enqueue an operation and record that it was accepted."""
        buffer_calls.enqueue_nowait(self.buffer, asked)
        self.accepted.append(asked)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Record the operations accepted in this step. They belong to the call of this task."""
        count = self.buffer.statistics().accepted - len(self.accepted)
        if count:
            [call] = [call for call in self.calls if call.running_in is task]
            before = self._accepted_of[call]
            assert before + count <= len(call.operations)
            self.accepted.extend(call.operations[before : before + count])
            self._accepted_of[call] += count

    def leave(self, how: str) -> None:
        """Make the block end: "normally", "raising", or "cancelled"."""
        if how == "cancelled":
            self._scope.cancel()
        self._raises = how == "raising"
        self._leave.set()


class BufferMachine(RuleBasedStateMachine):
    """A buffer on a `MemoryStore`. Time passes only in the rules `tick` and `close`."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = MockClock()
        self.resources = ExitStack()
        self.portal = self.resources.enter_context(
            anyio.from_thread.start_blocking_portal("trio", backend_options={"clock": self.clock})
        )
        self.model = self.resources.enter_context(
            closing(sqlite3.connect(":memory:", isolation_level=None))
        )
        self.store = MemoryStore()
        self.session: Session | None = None
        self.block: Future[None]
        self.settled = 0
        self.dead_letters = 0

    # Helpers of the rules

    def settle_down(self) -> None:
        """Wait until all tasks wait."""
        self.portal.call(wait_all_tasks_blocked)

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the thread of the event loop, and wait until all tasks wait."""
        result = self.portal.call(function, *args)
        self.settle_down()
        return result

    @property
    def open(self) -> Session:
        """The open session."""
        assert self.session is not None
        return self.session

    def start(self, call: Call) -> Call:
        """Start a call in its own task."""
        self.open.calls.append(call)
        self.portal.start_task_soon(call.task)
        self.settle_down()
        return call

    @initialize(drawn=tables(), options=OPTIONS)
    def create(self, drawn: Drawn, options: BufferOptions) -> None:
        """Choose a table and open the first block."""
        self.drawn = drawn
        self.model.execute(drawn.ddl)
        self.reopen(options)

    @rule(options=OPTIONS)
    @precondition(lambda self: self.session is None)
    def reopen(self, options: BufferOptions) -> None:
        """Open another block on the same store."""
        session = Session(self.store, self.drawn, options)
        self.session = session
        self.settled = 0
        self.block, _ = self.portal.start_task(session.run)
        self.settle_down()

    @rule(data=st.data())
    @precondition(lambda self: self.session)
    def enqueue_nowait(self, data: st.DataObject) -> None:
        """Enqueue without waiting: the buffer accepts the operation, is full, or has failed."""
        asked = data.draw(operations(self.drawn))
        before = len(self.open.accepted)
        try:
            self.portal.call(self.open.enqueue_nowait, asked)
        except (trio.WouldBlock, trio.BrokenResourceError):
            assert before == len(self.open.accepted)
        else:
            self.open.calls.append(Call("enqueue_nowait", trio.sleep_forever, [asked], Ended.OK))
        self.settle_down()

    @rule(data=st.data())
    @precondition(lambda self: self.session)
    def enqueue_several_nowait(self, data: st.DataObject) -> None:
        """Enqueue operations that the worker cannot take one by one, as it does not run between."""
        several = data.draw(st.lists(operations(self.drawn), min_size=2, max_size=6))

        def enqueue_until_full() -> None:
            for asked in several:
                try:
                    self.open.enqueue_nowait(asked)
                except (trio.WouldBlock, trio.BrokenResourceError):
                    break
                call = Call("enqueue_nowait", trio.sleep_forever, [asked], Ended.OK)
                self.open.calls.append(call)

        self.do(enqueue_until_full)

    @rule(data=st.data())
    @precondition(lambda self: self.session)
    def enqueue(self, data: st.DataObject) -> None:
        """Enqueue an operation, which may have to wait for room."""
        self.start(buffer_calls.enqueue_call(self.open.buffer, data.draw(operations(self.drawn))))

    @rule(data=st.data())
    @precondition(lambda self: self.session)
    def enqueue_many(self, data: st.DataObject) -> None:
        """Enqueue several rows, perhaps more than there is room for."""
        rows = data.draw(st.lists(writes(self.drawn), max_size=8))
        self.start(buffer_calls.enqueue_many_call(self.open.buffer, rows))

    @rule(data=st.data())
    @precondition(lambda self: self.session)
    def write(self, data: st.DataObject) -> None:
        """Write a row, which is committed when the call returns."""
        self.start(buffer_calls.write_call(self.open.buffer, data.draw(writes(self.drawn))))

    @rule()
    @precondition(lambda self: self.session)
    def flush(self) -> None:
        """Flush: all entries accepted before are settled when the call returns."""
        accepted = len(self.open.accepted)
        call = self.start(buffer_calls.flush_call(self.open.buffer))
        self.open.flushes[call] = accepted

    @rule(data=st.data())
    @precondition(lambda self: any(call.ended is None for call in self.waiting))
    def cancel(self, data: st.DataObject) -> None:
        """Cancel a call that waits."""
        call = data.draw(st.sampled_from(self.waiting))
        self.do(call.scope.cancel)
        assert Ended.CANCELLED is call.ended

    @property
    def waiting(self) -> list[Call]:
        """The calls that have not ended."""
        return [c for c in self.session.calls if c.ended is None] if self.session else []

    @rule(seconds=st.sampled_from([0.05, 0.2, 1.0, 3.0]))
    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.do(self.clock.jump, seconds)

    @rule(kind=st.sampled_from([FailureKind.TRANSIENT, FailureKind.IN_DOUBT, FailureKind.FATAL]))
    def store_fails(self, kind: FailureKind) -> None:
        """Make the next two commits fail."""
        self.store.fail_next(kind, times=2)

    @rule(kind=st.sampled_from([None, None, Write, Update, Delete, DeleteBy]))
    def store_refuses(self, kind: type[Operation] | None) -> None:
        """Make the table refuse operations of one kind from now on, or none."""
        self.store.refuse(None if kind is None else lambda asked: isinstance(asked, kind))

    @rule(delay=st.sampled_from([0.0, 0.3]))
    def store_is_slow(self, delay: float) -> None:
        """Set how long commits take."""
        self.store.delay = delay

    @rule()
    def store_stops(self) -> None:
        """Make commits hang."""
        self.portal.call(self.store.stop)

    @rule()
    def store_resumes(self) -> None:
        """Make commits continue."""
        self.do(self.store.resume)

    @rule(how=st.sampled_from(["normally", "raising", "cancelled"]))
    @precondition(lambda self: self.session)
    def close(self, how: str) -> None:
        """Leave the block, which drains and names the entries that it cannot settle in time."""
        if not self.block.done():
            self.do(self.open.leave, how)
        while not self.block.done():
            self.do(self.clock.jump, 0.5)
        self.check_steps()
        self.check_end(self.block.exception(), how)
        self.session = None

    # What holds after every step

    @invariant()
    def check_steps(self) -> None:
        """Check that the counts add up, and that the table is that of the settled entries."""
        if self.session is None:
            return
        seen = self.portal.call(self.session.buffer.statistics)
        accepted = self.session.accepted
        assert seen.accepted == len(accepted)
        assert seen.accepted == (
            seen.committed + seen.superseded + seen.dead_lettered + seen.pending
        )
        assert min(seen.committed, seen.superseded, seen.dead_lettered, seen.pending) >= 0
        assert seen.pending <= seen.capacity
        self.advance(seen.accepted - seen.pending)
        assert one_by_one.rows_of(self.model, self.drawn.table) == self.rows()
        self.check_get()
        self.check_calls()

    def check_get(self) -> None:
        """Check that `get_many` returns the rows after all accepted entries, settled or not."""
        if not self.drawn.table.key:
            return
        buffer = self.open.buffer
        try:
            found = self.do(buffer.get_many, keys_of(self.drawn))
        except trio.BrokenResourceError:
            assert self.block.done() or "failed" in repr(buffer)
            return
        except trio.ClosedResourceError:
            assert self.block.done()
            return
        rows = sorted(found.values(), key=key_getter(self.drawn.table))
        assert rows == self.rows_after(self.open.accepted[self.settled :])

    def rows_after(self, operations: Iterable[Operation]) -> list[tuple[Any, ...]]:
        """Return the rows that the model would have after more operations."""
        self.model.execute("SAVEPOINT before")
        one_by_one.execute(self.model, self.drawn.table, operations)
        rows = one_by_one.rows_of(self.model, self.drawn.table)
        self.model.execute("ROLLBACK TO before")
        return rows

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows of the store."""
        return self.store.rows(self.drawn.table)

    def advance(self, settled: int) -> None:
        """Execute in the model, one by one, the entries that settled since the last step."""
        assert settled >= self.settled
        rejected = {r.number: r.operation for r in self.store.dead_letters[self.dead_letters :]}
        self.dead_letters = len(self.store.dead_letters)
        for number in range(self.settled + 1, settled + 1):
            asked = self.open.accepted[number - 1]
            if number in rejected:
                assert rejected.pop(number) == asked
            else:
                one_by_one.execute(self.model, self.drawn.table, [asked])
        assert not rejected
        self.settled = settled

    def check_calls(self) -> None:
        """Check that the calls ended as their operations and flushes did."""
        accepted = Counter(map(repr, self.open.accepted))
        calls = self.open.calls
        known = Counter(repr(each) for call in calls for each in call.known_accepted())
        possible = Counter(repr(each) for call in calls for each in call.possibly_accepted())
        assert known <= accepted
        assert accepted <= known + possible
        for call, number in self.open.flushes.items():
            if call.ended is Ended.OK:
                assert number <= self.settled

    def check_end(self, error: BaseException | None, how: str) -> None:
        """Check that each entry is settled or named in the error that left the block."""
        assert not self.waiting
        left = self.open.accepted[self.settled :]
        unsettled: Unsettled | None = None
        match error:
            case DrainError():
                [unsettled] = error.unsettled.values()
            case FlushError():
                unsettled = error.unsettled
            case BaseExceptionGroup(exceptions=[BodyError(), DrainError() as late]):
                [unsettled] = late.unsettled.values()
            case BaseExceptionGroup(exceptions=[BodyError(), FlushError() as failed]):
                unsettled = failed.unsettled
            case BodyError():
                assert "raising" == how
            case _:
                assert error is None
        if unsettled is None:
            assert [] == left
            return
        assert len(left) == unsettled.count
        # The entries named in the error are coalesced, but must have the effect of those left.
        assert self.rows_after(left) == self.rows_after(unsettled.entries)

    def teardown(self) -> None:
        """Let the store recover and close the block."""
        try:
            if self.session is not None:
                self.store.delay = 0.0
                self.do(self.store.resume)
                self.close("normally")
        finally:
            self.resources.close()


TestBuffer = BufferMachine.TestCase
TestBuffer.settings = settings(
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
