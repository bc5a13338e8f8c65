"""Calls of a buffer's methods, each in a task of its own that tells what became of it."""

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
    """The table refused the row, which is in the dead letters."""
    CLOSED = enum.auto()
    BROKEN = enum.auto()


@dataclass(eq=False)
class Call:
    """One call, from its start to its end."""

    name: str
    run: Callable[[], Awaitable[object]]
    operations: Sequence[Operation] = ()
    """What it asks for; for `enqueue_many`, what it drew so far."""
    ended: Ended | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    running_in: trio.lowlevel.Task | None = None

    def __repr__(self) -> str:
        return f"<{self.name}: {self.ended}>"

    async def task(self) -> None:
        """Make the call, and tell its end."""
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

    def told(self) -> Sequence[Operation]:
        """The operations that the call says were accepted."""
        if self.ended in {Ended.OK, Ended.REFUSED}:
            return self.operations
        # Of rows that are drawn from an iterator, one may wait for room.
        return self.operations[:-1] if self.name == "enqueue_many" else []

    def untold(self) -> Sequence[Operation]:
        """The operations of which the call does not say whether they were accepted."""
        if self.ended in {Ended.OK, Ended.REFUSED} or self.name not in {"write", "enqueue_many"}:
            return []
        return self.operations[-1:]


def enqueue_nowait(buffer: Buffer[Any], operation: Operation) -> None:
    """Hand in any operation at once."""
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
    """Hand in any operation."""
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
    """A call that hands in any operation."""
    return Call("enqueue", lambda: enqueue(buffer, operation), [operation])


def enqueue_many_call(buffer: Buffer[Any], writes: Sequence[Write]) -> Call:
    """A call that hands in rows from an iterator, which tells how many were drawn."""
    drawn: list[Operation] = []

    def rows() -> Iterator[Any]:
        for write in writes:
            drawn.append(write)
            yield write.row

    return Call("enqueue_many", lambda: buffer.enqueue_many(rows()), drawn)


def write_call(buffer: Buffer[Any], write: Write) -> Call:
    """A call that waits until its row is committed."""
    return Call("write", lambda: buffer.write(write.row), [write])


def flush_call(buffer: Buffer[Any]) -> Call:
    """A call that waits until all is settled."""
    return Call("flush", buffer.flush)
