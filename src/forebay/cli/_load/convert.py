"""Convert the values of the inputs to the values of the table's rows."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, cast

from forebay._table.sqlite_rules import INT64
from forebay.cli._errors import InputError
from forebay.cli._load.column_types import JsonType, Kind, number_of, reads_as_number

# operator.call for map, which is faster than a loop.
_call = cast(Callable[[Callable[[Any], Any], Any], Any], operator.call)

# Values repeat, and a remembered number costs a tenth of a converted one. The bounds keep a wide
# table of unique values below some ten megabytes.
_REMEMBERED = 4096
_REMEMBERED_LENGTH = 40


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column of the table.

    Attributes:
        name: its name in the inputs.
        kind: the type of its values.
        in_key: whether it belongs to the key. Then each value must have this type.
        reason: why the column has its type, for the end of a message.
        declared: whether an existing table declares the type.
        json: the JSON type of its values, for a column of the key: 1, true and "1" would be the
            same key.
    """

    name: str
    kind: Kind
    in_key: bool
    reason: str
    declared: bool = False
    json: JsonType | None = None


class MisfitError(ValueError):
    """A value does not fit its column."""


class Converter:
    """Converts rows of the inputs to rows of the table.

    Args:
        columns: the table's columns, in order.
        nulls: the texts that mean NULL.
    """

    def __init__(self, columns: Sequence[TargetColumn], nulls: Collection[str]) -> None:
        self._names = [column.name for column in columns]
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
        for name in row.keys() - self._names:
            if row[name] is not None:
                raise MisfitError(f"key {name!r} is unknown; expected keys of the first rows")
        return tuple(map(_call, self._value_converters, map(row.get, self._names)))


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

    def convert(text: str) -> Any:
        if text in nulls:
            return _checked(column, None)
        if column.kind is Kind.TEXT:
            return text
        if not text:
            # The text '' would be greater than every number in the column.
            return _checked(column, None)
        number = number_of(text, declared=column.declared)
        return _fitted(column, text if number is None else number)

    if column.kind is Kind.TEXT and not nulls:
        return str
    return _Memo(convert).__getitem__


def _value_converter(column: TargetColumn, nulls: Collection[str]) -> Callable[[Any], Any]:
    """Return a function that converts the JSON values of a column."""

    def convert(value: Any) -> Any:
        if value is None or (isinstance(value, str) and value in nulls):
            return _checked(column, None)
        if column.json is not None and column.json is not JsonType.of(value):
            problem = f"key column {column.name!r} has the value {_excerpt(value)}"
            raise MisfitError(f"{problem}; expected {column.json.value}, as in the first rows")
        if isinstance(value, bool):
            value = int(value)
        elif isinstance(value, list | dict):
            value = json.dumps(value, ensure_ascii=False)
        if column.kind is Kind.TEXT:
            return value if isinstance(value, str) else json.dumps(value)
        return _fitted(column, value)

    return convert


def _fitted(column: TargetColumn, value: float | str) -> Any:
    """Return the value for a column of numbers; raise MisfitError if SQLite would change it."""
    if isinstance(value, str):
        if reads_as_number(value):
            problem = f"SQLite would change {_excerpt(value)} in column {column.name!r}"
            raise _misfit(column, problem)
    elif isinstance(value, int):
        if value not in INT64 or (column.kind is Kind.REAL and value != float(value)):
            raise _misfit(column, f"{_excerpt(value)} is too large for column {column.name!r}")
        if column.kind is Kind.REAL:
            value = float(value)
    return _checked(column, value)


def _checked(column: TargetColumn, value: Any) -> Any:
    """Return the value; raise MisfitError if a column of the key cannot have it."""
    if column.in_key and not isinstance(value, column.kind.value):
        found = "no value" if value is None else f"the value {_excerpt(value)}"
        raise _misfit(column, f"key column {column.name!r} has {found}")
    return value


def _misfit(column: TargetColumn, problem: str) -> MisfitError:
    return MisfitError(f"{problem}; expected {_NOUNS[column.kind]}, {column.reason}")


_NOUNS = {Kind.INTEGER: "an integer", Kind.REAL: "a number", Kind.TEXT: "a text"}


def _excerpt(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
