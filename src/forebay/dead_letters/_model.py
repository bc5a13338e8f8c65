"""What a dead letter is, as data; and which of them are meant."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict

from forebay._errors import StoreError
from forebay._table.json_format import decode_declaration, decode_operation
from forebay._table.operations import Operation
from forebay._table.table import Table
from forebay.sqlite import Parameters


@dataclass(frozen=True, slots=True)
class Failure:
    """One time that a letter's operation was refused.

    Attributes:
        error_code: the name of the error, such as `SQLITE_CONSTRAINT_NOTNULL`; `SPILLED` for an
            entry that a drain had no time for.
        error: the error's text.
        failed_at: when, in seconds since 1970, UTC.
    """

    error_code: str
    error: str
    failed_at: float


def _failure(value: object) -> Failure:
    match value:
        case {"error_code": str(code), "error": str(error), "failed_at": int() | float() as at}:
            return Failure(code, error, at)
        case _:
            raise ValueError(f"{value!r} is no failure")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An operation that a table refused.

    Attributes:
        id: its number in the file; no other letter ever has it.
        buffer: the name of the table.
        operation: what was to be done: `write`, `update`, `delete` or `delete_by`.
        entry: the operation itself, as JSON: values by the names of their columns.
        declaration: the table as the program declared it, as JSON.
        failure: why, and when, it was refused the last time.
        attempts: how often it was tried.
        history: the failures before the last one, oldest first.
    """

    id: int
    buffer: str
    operation: str
    entry: str = field(repr=False)
    declaration: str = field(repr=False)
    failure: Failure
    attempts: int
    history: tuple[Failure, ...] = ()

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> DeadLetter:
        """Make a letter of its row in the file.

        Raises:
            StoreError: its history is not as forebay wrote it.
        """
        identity, buffer, operation, entry, declaration, *last, attempts, history = row
        try:
            past = tuple(map(_failure, json.loads(history)))
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(
                f"dead letter {identity}: its history is not as forebay wrote it ({error}); "
                f"set it to '[]' in the table forebay_dead_letters"
            ) from error
        return cls(identity, buffer, operation, entry, declaration, Failure(*last), attempts, past)

    def decode(self) -> tuple[Table[tuple[Any, ...]], Operation]:
        """Give the table, declared anew, and the operation.

        Raises:
            ValueError: somebody has changed the letter into what it cannot be.
        """
        table = decode_declaration(self.declaration)
        return table, decode_operation(table, self.entry)


@dataclass(frozen=True, slots=True)
class Count:
    """How many letters have one buffer and one error.

    Attributes:
        buffer: the name of the table.
        error_code: the name of the error.
        count: how many there are.
        oldest: when the first of them was refused last, in seconds since 1970, UTC.
        newest: when the last of them was.
    """

    buffer: str
    error_code: str
    count: int
    oldest: float
    newest: float


class Selection(TypedDict, total=False):
    """Which letters are meant: those that all the given conditions hold for; without any, all.

    Attributes:
        buffer: those of the table of this name.
        error_code: those whose last failure has this code.
        failed_before: those whose last failure was before this, in seconds since 1970, UTC.
        ids: those with these ids; ids of letters that are not there are passed over.
    """

    buffer: str | None
    error_code: str | None
    failed_before: float | None
    ids: Iterable[int] | None


class DeadLetterReader(Protocol):
    """What letters are read from: a `SqliteStore`, or a `forebay.sqlite.Connection`."""

    path: str
    """The file."""

    async def fetch_all(self, sql: str, parameters: Parameters = ..., /) -> list[tuple[Any, ...]]:
        """Run a query and return all its rows."""
        ...
