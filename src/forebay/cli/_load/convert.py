"""Convert the values of the inputs to the values of the table's rows."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, cast

from forebay._table.sqlite_rules import INT64
from forebay.cli._errors import InputError
from forebay.cli._load.column_types import (
    ALL_SPELLINGS,
    ColumnType,
    JsonType,
    RoundedFloat,
    equal_number,
    exact_number,
    reads_as_number,
)

# operator.call for map, which is faster than a loop.
_call = cast(Callable[[Callable[[Any], Any], Any], Any], operator.call)

# Values repeat, and a remembered number costs a tenth of a converted one. The bounds keep a wide
# table of unique values below some ten megabytes.
_REMEMBERED = 4096
_REMEMBERED_LENGTH = 40

_MISSING: Final = object()
"""The value of a key that a JSON object does not have."""

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


class Converter:
    """Converts rows of the inputs to rows of the table.

    It must get the rows in their order: from the first numbers of a column it learns how its floats
    are written, and refuses a later one that is written differently.

    Args:
        columns: the table's columns, in order.
        nulls: the texts that mean NULL.
    """

    def __init__(self, columns: Sequence[TargetColumn], nulls: Collection[str]) -> None:
        self._names = [column.name for column in columns]
        self._known = set(self._names)
        self._missing = [_MISSING] * len(columns)
        self._text_converters = [_text_converter(column, nulls) for column in columns]
        self._value_converters = [_value_converter(column, nulls) for column in columns]

    def bind(self, source: str, header: Sequence[str] | None) -> Callable[[Any], tuple[Any, ...]]:
        """Return a function that converts the rows of an input.

        Args:
            source: the input's name.
            header: its columns, if its rows are lists of text; None if they are objects.

        Returns:
            A function that takes a row, and raises MisfitError if a value does not fit.

        Raises:
            InputError: the input does not have the table's columns.
        """
        if header is None:
            return self._convert_object
        expected = f"; expected the columns of the first input: {', '.join(self._names)}"
        for name in self._names:
            if name not in header:
                raise InputError(source, f"column {name!r} is missing{expected}", line=1)
        for name in header:
            if name not in self._names:
                raise InputError(source, f"column {name!r} is unknown{expected}", line=1)
        converters = self._text_converters
        if list(header) == self._names:
            return lambda row: tuple(map(_call, converters, row))
        pick = itemgetter(*map(header.index, self._names))
        return lambda row: tuple(map(_call, converters, pick(row)))

    def _convert_object(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        if not row.keys() <= self._known:
            for name, value in row.items():
                if name not in self._known and value is not None:
                    raise MisfitError(f"key {name!r} is unknown; expected keys of the first rows")
        return tuple(map(_call, self._value_converters, map(row.get, self._names, self._missing)))


class _Memo(dict[str, Any]):
    """Remembers the values of texts, up to a bound."""

    def __init__(self, convert: Callable[[str], Any]) -> None:
        super().__init__()
        self._convert = convert

    def __missing__(self, text: str) -> Any:
        value = self._convert(text)
        if len(text) <= _REMEMBERED_LENGTH:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[text] = value
        return value


def _text_converter(column: TargetColumn, nulls: Collection[str]) -> Callable[[str], Any]:
    """Return a function that converts the cells of a column."""
    if column.type is ColumnType.TEXT and not nulls:
        return str
    # A key must give back its text: otherwise the keys 1.1 and 1.10 would be one.
    exact = column.in_key or not column.declared
    number_of = _ExactNumbers(column) if exact else equal_number

    def convert(text: str) -> Any:
        if text in nulls:
            return _checked(column, None)
        if column.type is ColumnType.TEXT:
            return text
        if not text:
            # The text '' would be greater than every number in the column.
            return _checked(column, None)
        number = number_of(text)
        return _fitted(column, text if number is None else number)

    return _Memo(convert).__getitem__


class _ExactNumbers:
    """Converts texts that the numbers of a column give back.

    Args:
        column: the column.
    """

    def __init__(self, column: TargetColumn) -> None:
        self._column = column
        self._spellings = column.spellings

    def __call__(self, text: str) -> int | float | None:
        number = exact_number(text)
        if number is None:
            return None
        if self._column.type is ColumnType.INTEGER:
            if isinstance(number.value, int):
                return number.value
            if number.value.is_integer() and int(number.value) in INT64:
                return None  # SQLite would store 1.0 as 1
        if not number.spellings:
            return number.value  # an integer that no float equals, which does not fit
        spellings = self._spellings & number.spellings
        if not spellings:
            problem = f"{_excerpt(text)} in column {self._column.name!r} is written differently"
            raise _misfit(self._column, f"{problem} from the numbers before it")
        self._spellings = spellings
        return number.value


def _value_converter(column: TargetColumn, nulls: Collection[str]) -> Callable[[Any], Any]:
    """Return a function that converts the JSON values of a column."""

    def convert(value: Any) -> Any:
        if value is _MISSING:
            return _default(column)
        if value is None or (isinstance(value, str) and value in nulls):
            return _checked(column, None)
        if column.json is not None and column.json is not JsonType.of(value):
            problem = f"key column {column.name!r} has the value {_excerpt(value)}"
            raise MisfitError(f"{problem}; expected {column.json.value}, as in the first rows")
        if isinstance(value, bool):
            value = int(value)
        elif isinstance(value, list | dict):
            value = json.dumps(value, ensure_ascii=False)
        elif isinstance(value, RoundedFloat):
            value = value.text
        if column.type is ColumnType.TEXT:
            return value if isinstance(value, str) else json.dumps(value)
        return _fitted(column, value)

    return convert


def _default(column: TargetColumn) -> Any:
    """Return the value of a column that a JSON object does not have."""
    if column.default is COMPUTED:
        raise MisfitError(
            f"key {column.name!r} is missing; expected a value, since the default is an "
            f"expression of SQL"
        )
    if column.default is None or column.in_key:
        return _checked(column, column.default)
    return column.default


def _fitted(column: TargetColumn, value: float | str) -> Any:
    """Return the value for a column of numbers.

    Raises:
        MisfitError: SQLite would change the value, or it has another type than the column.
    """
    if isinstance(value, str):
        if reads_as_number(value):
            problem = f"SQLite would change {_excerpt(value)} in column {column.name!r}"
            raise _misfit(column, problem)
    elif isinstance(value, int):
        real = column.type is ColumnType.REAL
        if value not in INT64 or (real and value != float(value)):
            raise _misfit(column, f"{_excerpt(value)} is too large for column {column.name!r}")
        if real:
            value = float(value)
    elif column.type is ColumnType.INTEGER and value.is_integer() and int(value) in INT64:
        value = value if column.in_key else int(value)  # as SQLite stores it
    return _checked(column, value)


def _checked(column: TargetColumn, value: Any) -> Any:
    """Return the value; raise MisfitError if the column cannot have it."""
    if value is None:
        if column.in_key:
            raise _misfit(column, f"key column {column.name!r} has no value")
        if column.not_null:
            raise _misfit(column, f"column {column.name!r} is NOT NULL and has no value")
    elif not (column.holds_others or isinstance(value, column.type.value)):
        kind = "key column" if column.in_key else "column"
        raise _misfit(column, f"{kind} {column.name!r} has the value {_excerpt(value)}")
    return value


def _misfit(column: TargetColumn, problem: str) -> MisfitError:
    return MisfitError(f"{problem}; expected {_NOUNS[column.type]}, {column.reason}")


_NOUNS = {
    ColumnType.INTEGER: "an integer",
    ColumnType.REAL: "a number",
    ColumnType.TEXT: "a text",
}


def _excerpt(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
