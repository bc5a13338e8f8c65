"""Calls of a buffer's methods, each of which runs in its own task and records its outcome."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from forebay import Buffer, Delete, DeleteBy, RowError, Update, Write
from forebay._table.operations import Operation


class Ended(enum.Enum):
    """How a call ended."""

    OK = enum.auto()
    CANCELLED = enum.auto()
    REFUSED = enum.auto()
    """The table refused the row. It is in the dead letters."""
    CLOSED = enum.auto()
    BROKEN = enum.auto()


@dataclass(eq=False)
class Call:
    """One call, from its start to its end."""

    name: str
    run: Callable[[], Awaitable[object]]
    operations: Sequence[Operation] = ()
    """The operations to enqueue; for `enqueue_many`, those drawn so far."""
    ended: Ended | None = None
    """How the call ended; None while it runs."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    running_in: trio.lowlevel.Task | None = None

    def __repr__(self) -> str:
        return f"<{self.name}: {self.ended}>"

    async def task(self) -> None:
        """Run the call and record how it ended."""
        self.running_in = trio.lowlevel.current_task()
        with self.scope:
            try:
                await self.run()
            except trio.ClosedResourceError:
                self.ended = Ended.CLOSED
            except trio.BrokenResourceError:
                self.ended = Ended.BROKEN
            except RowError:
                self.ended = Ended.REFUSED
            else:
                self.ended = Ended.OK
        if self.scope.cancelled_caught:
            self.ended = Ended.CANCELLED

    def known_accepted(self) -> Sequence[Operation]:
        """Return the operations that were accepted, judging by how the call ended."""
        if self.ended in {Ended.OK, Ended.REFUSED}:
            return self.operations
        # The last row drawn from an iterator may still wait for room.
        return self.operations[:-1] if self.name == "enqueue_many" else []

    def possibly_accepted(self) -> Sequence[Operation]:
        """Return the operations that may have been accepted or not."""
        if self.ended in {Ended.OK, Ended.REFUSED} or self.name not in {"write", "enqueue_many"}:
            return []
        return self.operations[-1:]


def enqueue_nowait(buffer: Buffer[Any], operation: Operation) -> None:
    """Enqueue any operation without waiting."""
    match operation:
        case Write(row):
            buffer.enqueue_nowait(row)
        case Update(key, columns):
            buffer.enqueue_update_nowait(key, **columns)
        case Delete(key):
            buffer.enqueue_delete_nowait(key)
        case DeleteBy(value):
            buffer.enqueue_delete_by_nowait(value)


async def enqueue(buffer: Buffer[Any], operation: Operation) -> None:
    """Enqueue any operation."""
    match operation:
        case Write(row):
            await buffer.enqueue(row)
        case Update(key, columns):
            await buffer.enqueue_update(key, **columns)
        case Delete(key):
            await buffer.enqueue_delete(key)
        case DeleteBy(value):
            await buffer.enqueue_delete_by(value)


def enqueue_call(buffer: Buffer[Any], operation: Operation) -> Call:
    """Return a call that enqueues an operation."""
    return Call("enqueue", lambda: enqueue(buffer, operation), [operation])


def enqueue_many_call(buffer: Buffer[Any], writes: Sequence[Write]) -> Call:
    """Return a call of `enqueue_many` with an iterator that records the rows drawn."""
    drawn: list[Operation] = []

    def rows() -> Iterator[Any]:
        for write in writes:
            drawn.append(write)
            yield write.row

    return Call("enqueue_many", lambda: buffer.enqueue_many(rows()), drawn)


def write_call(buffer: Buffer[Any], write: Write) -> Call:
    """Return a call that waits until its row is committed."""
    return Call("write", lambda: buffer.write(write.row), [write])


def flush_call(buffer: Buffer[Any]) -> Call:
    """Return a call that waits until all entries accepted before are settled."""
    return Call("flush", buffer.flush)
