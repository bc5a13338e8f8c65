"""What broke, in which buffer, and how many entries it concerns.

Two of Trio's own exceptions complete the set: `trio.ClosedResourceError` when this side closed
the buffer, `trio.BrokenResourceError` (with its cause) when the buffer's worker failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from forebay._table.operations import Operation


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
        unsettled: what is not in the table; or may not be, where the database was lost, or could
            not tell what became of a COMMIT.
        spill: the file that these entries are in as well; None where there is none.
    """

    def __init__(
        self, reason: str, *, buffer: str, unsettled: Unsettled, attempts: int = 1
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.buffer = buffer
        self.unsettled = unsettled
        self.spill: str | None = None
        self._attempts = attempts

    @property
    def in_doubt(self) -> bool:
        """Whether the entries may be in the table all the same, or were in one that is gone."""
        return _in_doubt(self.__cause__, self.unsettled.last_error)

    def __str__(self) -> str:
        # Made when it is asked for: the cause and the spill come after the error.
        left, errors = self.unsettled, (self.__cause__, self.unsettled.last_error)
        tries = f" after {self._attempts} attempts" if self._attempts > 1 else ""
        return (
            f"buffer {self.buffer!r} stopped{tries}: {self.reason}. "
            f"{_missing(self.in_doubt)} in the table: {_waiting(left)}. "
            f"{_kept('unsettled.entries', self.spill)} "
            f"{_remedy(*errors) or 'Mend the cause'}, then {_bring_back(self.spill)}."
        )


class DrainError(ForebayError):
    """The deadline of a drain passed before everything that was accepted was settled.

    Attributes:
        unsettled: what is not in the database, by the name of the buffer's table; or may not be,
            where it could not tell what became of a COMMIT.
        spill: the file that these entries are in as well; None where there is none.
    """

    def __init__(self, unsettled: Mapping[str, Unsettled]) -> None:
        super().__init__("the drain was not finished in time")
        self.unsettled: dict[str, Unsettled] = dict(unsettled)
        self.spill: str | None = None

    @property
    def reason(self) -> str:
        """Why, in words: what the attempts ended with."""
        failures = {str(left.last_error): None for left in self.unsettled.values()}
        failures.pop("None", None)
        return "; ".join(["the drain was not finished in time", *failures])

    @property
    def in_doubt(self) -> bool:
        """Whether entries may be in the database all the same."""
        return _in_doubt(*self._last_errors)

    @property
    def _last_errors(self) -> list[BaseException | None]:
        return [left.last_error for left in self.unsettled.values()]

    def __str__(self) -> str:
        lines = [
            f"- {name!r}: {_waiting(left)}"
            + (f"; last error: {left.last_error}" if left.last_error is not None else "")
            for name, left in self.unsettled.items()
        ]
        remedy = _remedy(*self._last_errors) or "Find what holds the database up"
        return (
            f"the drain was not finished in time. {_missing(self.in_doubt)} in the database:\n"
            + "\n".join(lines)
            + f"\n{_kept('unsettled', self.spill)} {remedy}, or raise "
            f"BufferOptions.drain_timeout, then {_bring_back(self.spill)}."
        )


_REMEDIES: Final = {
    "SQLITE_FULL": "Make room on the disk of the database",
    "SQLITE_BUSY": "Find the program that has the database locked",
    "SQLITE_LOCKED": "Find the program that has the database locked",
}
"""What to do first, by the database's name for the error."""


def _remedy(*errors: BaseException | None) -> str | None:
    codes = [getattr(e, "code", getattr(e, "sqlite_errorname", "")) for e in errors]
    return next((_REMEDIES[code] for code in codes if code in _REMEDIES), None)


def _in_doubt(*errors: BaseException | None) -> bool:
    # A file that is gone has what was committed to it; a COMMIT that failed may have taken place.
    return any(isinstance(e, StoreError) or getattr(e, "in_doubt", False) for e in errors)


def _missing(in_doubt: bool) -> str:
    return "Not known to be" if in_doubt else "Not"


def _waiting(left: Unsettled) -> str:
    oldest = "waiting" if left.count == 1 else "the oldest waiting"
    return f"{format_count(left.count, 'accepted entry')}, {oldest} for {left.oldest_age:,.1f} s"


def _kept(attribute: str, spill: str | None) -> str:
    file = "" if spill is None else f"in the file {spill!r}, and "
    return f"Kept {file}in this error's `{attribute}`."


def _bring_back(spill: str | None) -> str:
    if spill is None:
        return "enqueue these again; `open_buffers(..., spill=FILE)` would keep them in a file"
    return "bring these back by `forebay dead-letters replay DB --spill FILE`"


def format_count(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 entry` or `2,000 entries`.

    Args:
        count: the number.
        noun: the noun in the singular.
    """
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
