"""The errors of forebay: what failed, in which buffer, and which entries are affected.

The public API also raises two exceptions of Trio: `trio.ClosedResourceError` if the program closed
the buffer, and `trio.BrokenResourceError`, with its cause, if the buffer's worker task failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from forebay._portable import Portable
from forebay._table.operations import Operation


class ForebayError(Portable, Exception):
    """The base class of every error that forebay defines."""


class OptionsError(ForebayError, ValueError):
    """An option has an unknown name or an invalid value.

    The message contains the option's name, its value, and what is valid.
    """


class SchemaError(ForebayError):
    """A table in the database does not match its declaration.

    Attributes:
        table: the table's name; if several tables do not match, the first one's.
        sql: SQL that fixes all of them; read it before you run it. None if no SQL is safe.
    """

    def __init__(self, message: str, *, table: str, sql: str | None = None) -> None:
        if sql is not None:
            message = f"{message}\nTo fix it, run:\n{sql}"
        super().__init__(message)
        self.table = table
        self.sql = sql


def raise_schema_errors(errors: Sequence[SchemaError]) -> None:
    """Raise one error with the messages and the SQL of all errors, unless there is none."""
    if not errors:
        return
    if len(errors) == 1:
        raise errors[0]
    joined = SchemaError("\n\n".join(map(str, errors)), table=errors[0].table)
    statements = [error.sql.rstrip(";\n") for error in errors if error.sql is not None]
    joined.sql = ";\n".join(dict.fromkeys(statements)) + ";" if statements else None
    raise joined


class DecodeError(ForebayError, ValueError):
    """A value that a typed read found in the database is not a value of its column.

    The message has the rowid or the key of the row, if the query selected it. The error of the
    codec is the `__cause__`.

    Attributes:
        table: the table's name.
        column: the column's name.
        value: the value as it is stored.
    """

    def __init__(self, message: str, *, table: str, column: str, value: object) -> None:
        super().__init__(message)
        self.table = table
        self.column = column
        self.value = value


class StoreError(ForebayError):
    """The database itself is unusable: read-only, not a database, or replaced while open."""


class SpillError(ForebayError):
    """A spill file is damaged, is not a spill file, or belongs to another database.

    The message contains the number of the line.
    """


@dataclass(frozen=True)
class Unsettled:
    """The entries of one buffer that were pending when it stopped.

    Attributes:
        entries: the operations that are not in the table (`forebay.Write`, `Update`, `Delete`,
            `DeleteBy`). Executed in this order, they have the effect of the accepted entries.
            Entries that were coalesced already are grouped by the kind of operation.
            `Buffer.enqueue_again` accepts them in a new buffer.
        count: the number of pending entries, superseded ones included.
        oldest_age: how long the oldest entry was pending, in seconds.
        last_error: why the last attempt to flush was retried; None if none was.
    """

    entries: tuple[Operation, ...]
    count: int
    oldest_age: float
    last_error: BaseException | None = None


class RowError(ForebayError):
    """The table refused a row that was passed to `Buffer.write`. The row is a dead letter now.

    Attributes:
        buffer: the name of the buffer's table.
        operation: the refused operation, a `forebay.Write`.
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
    """A buffer stopped because its store failed to commit a batch and a retry cannot help.

    The store's error is the `__cause__`.

    Args:
        reason, buffer, unsettled: the values of the attributes below.
        cause: the error that stopped the buffer, by which `in_doubt` is decided.
        attempts: the number of attempts to commit the batch.

    Attributes:
        reason: the text of the store's error.
        buffer: the name of the buffer's table.
        unsettled: the entries that are not in the table. If the error is `in_doubt`, they may be.
        in_doubt: whether the entries may be in the table, or in a database file that was lost.
        spill: the spill file that also has these entries; None if there is none.
        spill_failed: whether the spill that was asked for could not be written.
    """

    def __init__(
        self,
        reason: str,
        *,
        buffer: str,
        unsettled: Unsettled,
        cause: BaseException | None = None,
        attempts: int = 1,
    ) -> None:
        super().__init__(reason)
        errors = (cause, cause and cause.__cause__, unsettled.last_error)
        self.reason = reason
        self.buffer = buffer
        self.unsettled = unsettled
        self.in_doubt: bool = _in_doubt(*errors)
        self.spill: str | None = None
        self.spill_failed: bool = False
        self._attempts = attempts
        self._first_step = _first_step(*errors) or "Fix the cause"

    def __str__(self) -> str:
        # The text is made on demand, since the spill is set after the constructor.
        attempts = f" after {self._attempts} attempts" if self._attempts > 1 else ""
        return (
            f"buffer {self.buffer!r} stopped{attempts}: {self.reason}. "
            f"{_where(self.in_doubt)} in the table: {_pending(self.unsettled)}. "
            f"{_kept_in('unsettled.entries', self.spill)} {self._first_step}, "
            f"then {_recover(self.spill, failed=self.spill_failed)}."
        )


class DrainError(ForebayError):
    """The deadline of a drain passed before all accepted entries were settled.

    Attributes:
        unsettled: the entries that are not in the database, by the name of the buffer's table. If
            the error is `in_doubt`, some of them may be.
        in_doubt: whether some of the entries may be in the database.
        spill: the spill file that also has these entries; None if there is none.
        spill_failed: whether the spill that was asked for could not be written.
    """

    def __init__(self, unsettled: Mapping[str, Unsettled]) -> None:
        super().__init__(_DRAIN_TIMED_OUT)
        errors = [part.last_error for part in unsettled.values()]
        self.unsettled: dict[str, Unsettled] = dict(unsettled)
        self.in_doubt: bool = _in_doubt(*errors)
        self.spill: str | None = None
        self.spill_failed: bool = False
        self._first_step = _first_step(*errors) or "Find out what blocks the database"

    @property
    def reason(self) -> str:
        """The reason of the error, which is the timeout and the last error of each buffer."""
        errors = {str(part.last_error): None for part in self.unsettled.values()}
        errors.pop("None", None)
        return "; ".join([_DRAIN_TIMED_OUT, *errors])

    def __str__(self) -> str:
        lines = [
            f"- {name!r}: {_pending(part)}"
            + (f"; last error: {part.last_error}" if part.last_error is not None else "")
            for name, part in self.unsettled.items()
        ]
        return (
            f"{_DRAIN_TIMED_OUT}. {_where(self.in_doubt)} in the database:\n"
            + "\n".join(lines)
            + f"\n{_kept_in('unsettled', self.spill)} {self._first_step}, or raise "
            f"BufferOptions.drain_timeout, then {_recover(self.spill, failed=self.spill_failed)}."
        )


_DRAIN_TIMED_OUT: Final = "the drain did not finish before its deadline"

_FIRST_STEPS: Final = {
    "SQLITE_FULL": "Free space on the disk of the database",
    "SQLITE_BUSY": "Find the program that locks the database",
    "SQLITE_LOCKED": "Find the program that locks the database",
}
"""What the user must do first, by the database's name for the error."""


def _first_step(*errors: BaseException | None) -> str | None:
    codes = [getattr(e, "code", getattr(e, "sqlite_errorname", "")) for e in errors]
    return next((_FIRST_STEPS[code] for code in codes if code in _FIRST_STEPS), None)


def _in_doubt(*errors: BaseException | None) -> bool:
    # A lost file contains what was committed to it, and a COMMIT that failed may have taken place.
    return any(isinstance(e, StoreError) or getattr(e, "in_doubt", False) for e in errors)


def _where(in_doubt: bool) -> str:
    return "Possibly not" if in_doubt else "Not"


def _pending(unsettled: Unsettled) -> str:
    oldest = "pending" if unsettled.count == 1 else "the oldest pending"
    entries = format_count(unsettled.count, "accepted entry")
    return f"{entries}, {oldest} for {unsettled.oldest_age:,.1f} s"


def _kept_in(attribute: str, spill: str | None) -> str:
    file = "" if spill is None else f"the file {spill!r} and in "
    return f"They are kept in {file}this error's `{attribute}`."


def _recover(spill: str | None, *, failed: bool) -> str:
    if spill is None:
        return "pass them to `enqueue_again` of a new buffer; " + (
            "the spill could not be written, so choose a file on a disk that has room"
            if failed
            else "`open_buffers(..., spill=FILE)` would keep them in a file"
        )
    return "replay them with `forebay dead-letters replay DB --spill FILE`"


def format_count(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 entry` or `2,000 entries`.

    Args:
        count: the number.
        noun: the noun in the singular.
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
