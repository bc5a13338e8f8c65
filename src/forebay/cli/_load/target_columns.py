"""The columns of the table, and whether a value fits one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from forebay._table.sqlite_rules import INT64
from forebay.cli._load.column_types import ALL_SPELLINGS, ColumnType, JsonType, reads_as_number

COMPUTED: Final = object()
"""The default of a column that SQLite computes for each row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetColumn:
    """A column of the table.

    Attributes:
        name: its name in the inputs.
        type: the type of its values.
        reason: why the column has its type, for the end of a message.
        in_key: whether it belongs to the key.
        holds_others: whether it also takes values of other types, if SQLite stores them unchanged.
        not_null: whether it refuses NULL.
        declared: whether an existing table declares the type.
        spellings: the ways to write a float that give back the texts of the sample.
        json: the JSON type of its values, for a column of the key: 1, true and "1" would be the
            same key.
        default: the value for a JSON object without the key; None for NULL, or `COMPUTED`.
    """

    name: str
    type: ColumnType
    reason: str
    in_key: bool = False
    holds_others: bool = False
    not_null: bool = False
    declared: bool = False
    spellings: int = ALL_SPELLINGS
    json: JsonType | None = None
    default: object = None


class MisfitError(ValueError):
    """A value does not fit its column."""


def fit_number(column: TargetColumn, value: float | str) -> Any:
    """Return the value for a column of numbers.

    Raises:
        MisfitError: SQLite would change the value, or it has another type than the column.
    """
    if isinstance(value, str):
        if reads_as_number(value):
            problem = f"SQLite would change {excerpt(value)} in column {column.name!r}"
            raise misfit(column, problem)
    elif isinstance(value, int):
        real = column.type is ColumnType.REAL
        if value not in INT64 or (real and value != float(value)):
            raise misfit(column, f"{excerpt(value)} is too large for column {column.name!r}")
        if real:
            value = float(value)
    elif column.type is ColumnType.INTEGER and value.is_integer() and int(value) in INT64:
        value = value if column.in_key else int(value)  # as SQLite stores it
    return check_value(column, value)


def check_value(column: TargetColumn, value: Any) -> Any:
    """Return the value; raise MisfitError if the column cannot have it."""
    if value is None:
        if column.in_key:
            raise MisfitError(f"key column {column.name!r} has no value")
        if column.not_null:
            raise MisfitError(f"column {column.name!r} is NOT NULL and has no value")
    elif not (column.holds_others or isinstance(value, column.type.value)):
        kind = "key column" if column.in_key else "column"
        raise misfit(column, f"{kind} {column.name!r} has the value {excerpt(value)}")
    return value


def misfit(column: TargetColumn, problem: str) -> MisfitError:
    return MisfitError(f"{problem}; expected {_NOUNS[column.type]}, {column.reason}")


_NOUNS = {
    ColumnType.INTEGER: "an integer",
    ColumnType.REAL: "a number",
    ColumnType.TEXT: "a text",
}


def excerpt(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
