"""Turns the values that were read into the values of a table's rows."""

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

# operator.call, for map: a loop without Python's own steps.
_call = cast(Callable[[Callable[[Any], Any], Any], Any], operator.call)

# Real columns repeat themselves, and a number found again costs a tenth of one worked out. The
# bounds hold the memory of a wide table of unique values to some ten megabytes.
_REMEMBERED = 4096
_REMEMBERED_LENGTH = 40


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column of the table.

    Attributes:
        name: its name, as the inputs spell it.
        kind: what it holds.
        in_key: whether it is of the key, so that its values must all be of its kind.
        reason: why it is of its kind, to end a message with.
        declared: whether the table was there and says of what kind it is.
        json: for a column of the key, the one type that its JSON values are of: 1, true and "1"
            would be the same key.
    """

    name: str
    kind: Kind
    in_key: bool
    reason: str
    declared: bool = False
    json: JsonType | None = None


class MisfitError(ValueError):
    """A value that its column cannot hold as it is."""


class Converter:
    """Makes rows of a table out of rows that were read.

    Args:
        columns: the table's columns, in their order there.
        nulls: the texts that stand for NULL.
    """

    def __init__(self, columns: Sequence[TargetColumn], nulls: Collection[str]) -> None:
        self._names = [column.name for column in columns]
        self._of_text = [_text_turner(column, nulls) for column in columns]
        self._of_value = [_value_turner(column, nulls) for column in columns]

    def bind(self, source: str, header: Sequence[str] | None) -> Callable[[Any], tuple[Any, ...]]:
        """What makes rows of the table out of the rows of an input.

        Args:
            source: the input's name.
            header: its columns, if its rows are lists of text; None if they are objects.

        Returns:
            A function that takes a row and raises MisfitError where the table cannot hold it.

        Raises:
            InputError: the input has not the table's columns.
        """
        if header is None:
            return self._convert_object
        expected = f"; expected those of the first input: {', '.join(self._names)}"
        for name in self._names:
            if name not in header:
                raise InputError(source, f"no column {name!r}{expected}", line=1)
        for name in header:
            if name not in self._names:
                raise InputError(source, f"a column {name!r}{expected}", line=1)
        turners = self._of_text
        if list(header) == self._names:
            return lambda row: tuple(map(_call, turners, row))
        pick = itemgetter(*map(header.index, self._names))
        return lambda row: tuple(map(_call, turners, pick(row)))

    def _convert_object(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        for name in row.keys() - self._names:
            if row[name] is not None:
                raise MisfitError(f"a key {name!r}; expected keys of the first rows")
        return tuple(map(_call, self._of_value, map(row.get, self._names)))


class _Memo(dict[str, Any]):
    """Remembers what texts were turned into, up to a bound."""

    def __init__(self, turn: Callable[[str], Any]) -> None:
        super().__init__()
        self._turn = turn

    def __missing__(self, text: str) -> Any:
        value = self._turn(text)
        if len(text) <= _REMEMBERED_LENGTH:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[text] = value
        return value


def _text_turner(column: TargetColumn, nulls: Collection[str]) -> Callable[[str], Any]:
    """What turns the cells of a column into its values."""

    def turn(text: str) -> Any:
        if text in nulls:
            return _checked(column, None)
        if column.kind is Kind.TEXT:
            return text
        if not text:
            # A text '' in a column of numbers would be greater than every number.
            return _checked(column, None)
        number = number_of(text, declared=column.declared)
        return _fitted(column, text if number is None else number)

    if column.kind is Kind.TEXT and not nulls:
        return str
    return _Memo(turn).__getitem__


def _value_turner(column: TargetColumn, nulls: Collection[str]) -> Callable[[Any], Any]:
    """What turns the JSON values of a column into its values."""

    def turn(value: Any) -> Any:
        if value is None or (isinstance(value, str) and value in nulls):
            return _checked(column, None)
        if column.json is not None and column.json is not JsonType.of(value):
            problem = f"{_shown(value)} in key column {column.name!r}, where keys of two types meet"
            raise MisfitError(f"{problem}; expected {column.json.value}, as in the first rows")
        if isinstance(value, bool):
            value = int(value)
        elif isinstance(value, list | dict):
            value = json.dumps(value, ensure_ascii=False)
        if column.kind is Kind.TEXT:
            return value if isinstance(value, str) else json.dumps(value)
        return _fitted(column, value)

    return turn


def _fitted(column: TargetColumn, value: float | str) -> Any:
    """The value as a column of numbers holds it, or a misfit where that would change it."""
    if isinstance(value, str):
        if reads_as_number(value):
            problem = f"{_shown(value)} in column {column.name!r}, where SQLite would change it"
            raise _misfit(column, problem)
    elif isinstance(value, int):
        if value not in INT64 or (column.kind is Kind.REAL and value != float(value)):
            raise _misfit(column, f"{_shown(value)} in column {column.name!r}, too large for it")
        if column.kind is Kind.REAL:
            value = float(value)
    return _checked(column, value)


def _checked(column: TargetColumn, value: Any) -> Any:
    """The value, or a misfit where the key cannot have it."""
    if column.in_key and not isinstance(value, column.kind.value):
        what = "nothing" if value is None else _shown(value)
        raise _misfit(column, f"{what} in key column {column.name!r}")
    return value


def _misfit(column: TargetColumn, problem: str) -> MisfitError:
    return MisfitError(f"{problem}; expected {_NOUNS[column.kind]}, {column.reason}")


_NOUNS = {Kind.INTEGER: "an integer", Kind.REAL: "a number", Kind.TEXT: "a text"}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
