"""What a dead letter is, as data; and how to select some of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict

from forebay._errors import StoreError
from forebay._table.decoding import decode_values
from forebay._table.json_format import decode_declaration, decode_operation
from forebay._table.operations import Operation
from forebay._table.sqlite_rules import fold_case
from forebay._table.table import Table
from forebay.sqlite import Parameters


@dataclass(frozen=True, slots=True)
class Failure:
    """One refusal of a letter's entry.

    Attributes:
        error_code: the name of the error, such as `SQLITE_CONSTRAINT_NOTNULL`; `SPILLED` for an
            entry that comes from a spill file and was not tried since.
        error: the error's text.
        failed_at: the time, in seconds since 1970, UTC.
    """

    error_code: str
    error: str
    failed_at: float


def _failure(value: object) -> Failure:
    match value:
        case {"error_code": str(code), "error": str(error), "failed_at": int() | float() as at}:
            return Failure(code, error, at)
        case _:
            raise ValueError(f"expected an object with error_code, error, failed_at; got {value!r}")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that a table refused.

    Attributes:
        id: its number in the file. No other letter ever has the same one.
        buffer: the name of the table.
        operation: what the entry does: `write`, `update`, `delete` or `delete_by`.
        entry: the entry itself, as JSON: its values by the names of their columns.
        declaration: the table as the program declared it, as JSON.
        failure: the last refusal.
        attempts: how often the entry was tried.
        history: the earlier refusals, oldest first.
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
            StoreError: the history cannot be decoded.
        """
        letter, buffer, operation, entry, declaration, *last, attempts, history = row
        try:
            past = tuple(map(_failure, json.loads(history)))
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(
                f"the history of dead letter {letter} was changed and cannot be read ({error}); "
                f"set it to '[]' in the table forebay_dead_letters"
            ) from error
        return cls(letter, buffer, operation, entry, declaration, Failure(*last), attempts, past)

    def decode(self, table: Table[Any] | None = None) -> tuple[Table[Any], Operation]:
        """Return the table and the entry.

        Args:
            table: the program's declaration of the table. The values of the entry are then decoded
                by the codecs of its columns. None: the table is declared anew from the letter, and
                the values are as they are stored.

        Raises:
            ValueError: the declaration or the entry was changed and cannot be decoded; or the
                letter is one of another table, or has other columns than this declaration; or a
                stored value is not one of its column.
        """
        if table is None:
            declared = decode_declaration(self.declaration)
            return declared, decode_operation(declared, self.entry)
        if fold_case(table.name) != fold_case(self.buffer):
            raise ValueError(
                f"dead letter {self.id} is one of table {self.buffer!r}, not of {table.name!r}; "
                f"pass the declaration of its table"
            )
        return table, decode_values(table, decode_operation(table, self.entry))


@dataclass(frozen=True, slots=True)
class Count:
    """The number of letters of one buffer and one error.

    Attributes:
        buffer: the name of the table.
        error_code: the name of the error.
        count: the number of letters.
        oldest: the time of the earliest of their last refusals, in seconds since 1970, UTC.
        newest: the time of the latest one.
    """

    buffer: str
    error_code: str
    count: int
    oldest: float
    newest: float


class Selection(TypedDict, total=False):
    """The letters for which all the given conditions hold; without a condition, all letters.

    Attributes:
        buffer: letters of the table with this name.
        error_code: letters whose last refusal has this code.
        failed_before: letters whose last refusal was before this time, in seconds since 1970, UTC.
        ids: letters with these ids. Ids without a letter are ignored.
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
