"""What broke, in which buffer, and how many entries it concerns.

Two of Trio's own exceptions complete the set: `trio.ClosedResourceError` when this side closed
the buffer, `trio.BrokenResourceError` (with its cause) when the buffer's worker failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forebay._operations import Operation


class ForebayError(Exception):
    """The base of every error that forebay defines."""


class OptionsError(ForebayError, ValueError):
    """An option has an unknown name or a value that cannot be used.

    The message bears the option's name, the value, and what was expected.
    """


class SchemaError(ForebayError):
    """A table in the database is not what its declaration says.

    Attributes:
        table: the table's name.
        sql: SQL that would mend it, to read before it is run; None where there is no safe one.
    """

    def __init__(self, message: str, *, table: str, sql: str | None = None) -> None:
        if sql is not None:
            message = f"{message}\nThis would mend it:\n{sql}"
        super().__init__(message)
        self.table = table
        self.sql = sql


class StoreError(ForebayError):
    """The database itself cannot be used: read-only, not a database, or replaced while open."""


class SpillError(ForebayError):
    """A file is no spill file, or is damaged (the message has the line), or is of elsewhere."""


@dataclass(frozen=True)
class Unsettled:
    """What one buffer still held when it had to stop.

    Attributes:
        entries: the operations that are not in the table (`forebay.Write`, `Update`, `Delete`,
            `DeleteBy`), in an order that does to the table what the order of acceptance would:
            those that were coalesced are grouped by what they do.
        count: how many accepted entries these stand for, superseded ones included.
        oldest_age: how long the oldest had been waiting, in seconds.
        last_error: why the last attempt to flush had to be made again; None where none had.
    """

    entries: tuple[Operation, ...]
    count: int
    oldest_age: float
    last_error: BaseException | None = None


class RowError(ForebayError):
    """The table refused a row that `Buffer.write` was given; it is in the dead letters.

    Attributes:
        buffer: the name of the buffer's table.
        operation: what was asked for, a `forebay.Write`.
        code: the database's name for the error, such as `SQLITE_CONSTRAINT_NOTNULL`.
        dead_letter: the id of the dead letter.
    """

    def __init__(
        self, message: str, *, buffer: str, operation: Operation, code: str, dead_letter: int
    ) -> None:
        super().__init__(message)
        self.buffer = buffer
        self.operation = operation
        self.code = code
        self.dead_letter = dead_letter


class FlushError(ForebayError):
    """A buffer stopped, since its store refused a batch for a reason that waiting does not mend.

    The store's own error is the `__cause__`.

    Attributes:
        reason: why, in words.
        buffer: the name of the buffer's table.
        unsettled: what is not in the table.
    """

    def __init__(
        self, reason: str, *, buffer: str, unsettled: Unsettled, attempts: int = 1
    ) -> None:
        tries = f" after {attempts} attempts" if attempts > 1 else ""
        super().__init__(
            f"buffer {buffer!r} stopped{tries}: {reason}. {unsettled.count} accepted entries are "
            f"not in the table; they are in this error's unsettled.entries"
        )
        self.reason = reason
        self.buffer = buffer
        self.unsettled = unsettled


class DrainError(ForebayError):
    """The deadline of a drain passed before everything that was accepted was settled.

    Attributes:
        unsettled: what is not in the database, by the name of the buffer's table.
    """

    def __init__(self, unsettled: Mapping[str, Unsettled]) -> None:
        lines = [
            f"- {name!r}: {left.count:,} entries, the oldest waiting for {left.oldest_age:.1f} s"
            + (f"; last error: {left.last_error}" if left.last_error is not None else "")
            for name, left in unsettled.items()
        ]
        super().__init__(
            "the drain was not finished in time. These accepted entries are not in the database, "
            "but in this error's `unsettled`:\n"
            + "\n".join(lines)
            + "\nFind what holds the database up, or raise BufferOptions.drain_timeout."
        )
        self.unsettled: dict[str, Unsettled] = dict(unsettled)
