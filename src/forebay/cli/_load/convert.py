"""Convert the rows of the inputs to rows of the table."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, cast

from forebay._table.sqlite_rules import INT64
from forebay.cli._errors import InputError
from forebay.cli._load.cells import CellConverter, SharedMemos
from forebay.cli._load.column_types import JSON_TYPES, ColumnType, JsonType, RoundedFloat
from forebay.cli._load.limits import TOO_DEEP
from forebay.cli._load.target_columns import (
    COMPUTED,
    MisfitError,
    TargetColumn,
    check_value,
    excerpt,
    fit_number,
)

# operator.call for map, which is faster than a loop.
_call = cast(Callable[[Callable[[Any], Any], Any], Any], operator.call)

_MISSING: Final = object()
"""The value of a key that a JSON object does not have."""


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
        shared = SharedMemos(nulls)
        self._cells = [CellConverter(column, shared) for column in columns]
        self._values = [_ValueConverter(column, nulls) for column in columns]

    def bind(self, source: str, header: Sequence[str] | None) -> RowConverter:
        """Return what converts the rows of an input.

        Args:
            source: the input's name.
            header: its columns, if its rows are lists of text; None if they are objects.

        Raises:
            InputError: the input does not have the table's columns.
        """
        if header is None:
            return _ObjectsConverter(self._values)
        expected = f"; expected the columns of the first input: {', '.join(self._names)}"
        for name in self._names:
            if name not in header:
                raise InputError(source, f"column {name!r} is missing{expected}", line=1)
        for name in header:
            if name not in self._known:
                problem = f"column {name!r} is unknown{expected}"
                advice = "to add columns, load this input by itself, with --alter"
                raise InputError(source, f"{problem}; {advice}", line=1)
        places = None if list(header) == self._names else list(map(header.index, self._names))
        return _CellsConverter(self._cells, places)


class RowConverter:
    """Converts the rows of one input.

    Args:
        convert: converts a row; raises MisfitError if a value does not fit.
    """

    def __init__(self, convert: Callable[[Any], tuple[Any, ...]]) -> None:
        self.convert = convert

    def convert_all(self, rows: Sequence[Any]) -> list[tuple[Any, ...]] | None:
        """Convert rows together, which is faster.

        Returns:
            The rows of the table; None if one of them does not fit. `convert` then finds it.
        """
        try:
            return list(map(self.convert, rows))
        except MisfitError:
            return None


class _CellsConverter(RowConverter):
    """Converts rows of cells.

    Args:
        cells: the converters of the table's columns.
        places: for each of them, the place of its column in the input; None for the same places.
    """

    def __init__(self, cells: Sequence[CellConverter], places: Sequence[int] | None) -> None:
        converters = [cell.convert for cell in cells]
        if places is None:
            super().__init__(lambda row: tuple(map(_call, converters, row)))
        else:
            pick = itemgetter(*places)
            super().__init__(lambda row: tuple(map(_call, converters, pick(row))))
        self._cells = cells
        self._places = places

    def convert_all(self, rows: Sequence[Any]) -> list[tuple[Any, ...]] | None:
        if not rows:
            return []
        columns = list(zip(*rows, strict=True))
        if self._places is not None:
            columns = [columns[place] for place in self._places]
        before = [cell.spellings for cell in self._cells]
        try:
            # A list per column: zip of iterators would change the column for each value.
            converted = [
                cell.convert_all(column) for cell, column in zip(self._cells, columns, strict=True)
            ]
            return list(zip(*converted, strict=True))
        except MisfitError:
            for cell, spellings in zip(self._cells, before, strict=True):
                cell.go_back(spellings)
            return None


class _ObjectsConverter(RowConverter):
    """Converts JSON objects.

    Args:
        values: the converters of the table's columns.
    """

    def __init__(self, values: Sequence[_ValueConverter]) -> None:
        super().__init__(self._convert)
        self._values = values
        self._converters = [value.convert for value in values]
        self._names = [value.column.name for value in values]
        self._known = frozenset(self._names)
        self._missing = [value.missing for value in values]

    def _convert(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        if not row.keys() <= self._known:
            for name, value in row.items():
                if name not in self._known and value is not None:
                    raise MisfitError(
                        f"key {name!r} is unknown; expected keys of the first rows, or of the "
                        f"table; --alter adds the other keys"
                    )
        return tuple(map(_call, self._converters, map(row.get, self._names, self._missing)))

    def convert_all(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]] | None:
        if not all(row.keys() <= self._known for row in rows):
            return super().convert_all(rows)
        try:
            columns = [
                value.convert_all([row.get(name, missing) for row in rows])
                for value, name, missing in zip(
                    self._values, self._names, self._missing, strict=True
                )
            ]
        except MisfitError:
            return None
        return list(zip(*columns, strict=True))


class _ValueConverter:
    """Converts the JSON values of a column.

    Args:
        column: the column.
        nulls: the texts that mean NULL.

    Attributes:
        column: the column.
        missing: what stands for the value of an object without the key.
    """

    def __init__(self, column: TargetColumn, nulls: Collection[str]) -> None:
        self.column = column
        self._nulls = frozenset(nulls)
        nullable = not (column.in_key or column.not_null)
        self.missing = None if nullable and column.default is None else _MISSING
        own = JSON_TYPES[column.type]
        self._plain: frozenset[type] = frozenset()
        if column.json in {None, own}:
            self._plain = frozenset({column.type.value, *([_NONE] if nullable else [])})

    def convert_all(self, values: Sequence[Any]) -> Sequence[Any]:
        """Return the values of several objects; raise MisfitError if one does not fit."""
        types = set(map(type, values))
        if types <= self._plain:
            if int in types:
                integers = [v for v in values if v is not None] if _NONE in types else values
                if min(integers) in INT64 and max(integers) in INT64:
                    return values
            elif str not in types or not self._nulls or self._nulls.isdisjoint(values):
                return values
        return list(map(self.convert, values))

    def convert(self, value: Any) -> Any:
        """Return the value of the table; raise MisfitError if the value does not fit."""
        column = self.column
        if value is _MISSING:
            return _default(column)
        if value is None or (isinstance(value, str) and value in self._nulls):
            return check_value(column, None)
        if column.json is not None and column.json is not JsonType.of(value):
            problem = f"key column {column.name!r} has the value {excerpt(value)}"
            raise MisfitError(f"{problem}; expected {column.json.value}, as in the first rows")
        if isinstance(value, bool):
            value = int(value)
        elif isinstance(value, list | dict):
            value = _to_json(value)
        elif isinstance(value, RoundedFloat):
            value = value.text
        if column.type is ColumnType.TEXT:
            return value if isinstance(value, str) else json.dumps(value)
        return fit_number(column, value)


_NONE = type(None)


def _to_json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise MisfitError(TOO_DEEP) from None


def _default(column: TargetColumn) -> Any:
    """Return the value of a column that a JSON object does not have."""
    if column.default is COMPUTED:
        raise MisfitError(
            f"key {column.name!r} is missing; expected a value, since the default is an "
            f"expression of SQL"
        )
    if column.default is None or column.in_key:
        return check_value(column, column.default)
    return column.default
