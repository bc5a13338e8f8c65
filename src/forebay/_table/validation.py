"""What callers hand in, checked and taken: rows, keys, the columns of an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from operator import attrgetter, ne
from typing import Any, Generic, TypeVar, cast

from forebay._table.columns import ACCEPTED, Column
from forebay._table.merge import INT64
from forebay._table.operations import Key, Row

R = TypeVar("R")

_NONE = type(None)
_PLAIN = frozenset({str, int, float, bytes, bool, _NONE})
_MOST_KNOWN = 256
"""Columns that allow None, or any value, have combinations of types without number."""


class RowCheck(Generic[R]):
    """The check of one table. What passes is plain values that nobody can change any more.

    Values may be of any type that SQLite stores, None only where the annotation allows it. But
    what Python compares or adds in memory must be what SQLite would, so columns of the key, of
    `delete_by` and of a rule that computes are strict: they hold values of their one type only.
    An int is taken for a float, and becomes one, since two ints past 53 bits can be one float.
    """

    def __init__(
        self,
        table: str,
        row_type: type[R],
        columns: tuple[Column, ...],
        key: tuple[str, ...],
        delete_by: str | None,
        *,
        strict: frozenset[str],
        nan_as_null: bool,
    ) -> None:
        self._table = table
        self._row_type = row_type
        self._columns = columns
        self._index = {column.name: i for i, column in enumerate(columns)}
        self._key = key
        self._delete_by = delete_by
        self._nan_as_null = nan_as_null
        self._getter = _row_getter(row_type, tuple(self._index))
        self._strict = strict
        self._quick = tuple(_QuickCheck(column, column.name in strict) for column in columns)
        self._whole = tuple(
            i for i, c in enumerate(columns) if c.name in strict and c.storage is int
        )
        self._known: set[tuple[type, ...]] = set()
        """Types of values, column by column, that passed before."""

    def row(self, row: R) -> Row:
        """Check one row and take its values as they are now: `rows`, for one.

        What has types that passed before, and no value that its type alone does not vouch for,
        need not be looked at again.

        Raises:
            TypeError: as for `rows`.
            ValueError: as for `rows`.
        """
        if type(row) is self._row_type:
            taken = cast("Row", row if self._getter is None else self._getter(row))
            if (
                tuple(map(type, taken)) in self._known
                and not any(map(ne, taken, taken))  # only NaN differs from itself
                and all(type(taken[i]) is not int or taken[i] in INT64 for i in self._whole)
            ):
                return taken
        [checked] = self.rows((row,))
        if len(self._known) < _MOST_KNOWN:
            self._known.add(tuple(map(type, checked)))
        return checked

    def rows(self, rows: Sequence[R]) -> Sequence[Row]:
        """Check rows and take their values as they are now.

        An integer past 63 bits is refused where it is seen: always in a strict column.

        Args:
            rows: instances of the row type.

        Returns:
            For each row the tuple of its values, which later changes do not reach.

        Raises:
            TypeError: one is no instance of the row type, or a value is of a type that SQLite
                or its column cannot take.
            ValueError: one has a wrong number of values, or a value that SQLite cannot hold.
        """
        if set(map(type, rows)) != {self._row_type} or (
            self._getter is None
            and set(map(len, cast("Sequence[Row]", rows))) != {len(self._quick)}
        ):
            self._check_types(rows)
        taken = cast("Sequence[Row]", rows if self._getter is None else self._take(rows))
        if all(map(_QuickCheck.passes, self._quick, zip(*taken, strict=True))):
            return taken
        return [tuple(map(self._value, self._columns, row)) for row in taken]

    def _check_types(self, rows: Sequence[R]) -> None:
        for row in rows:
            if not isinstance(row, self._row_type):
                raise TypeError(
                    f"table {self._table!r} takes rows of {self._row_type.__name__}, not {row!r}"
                )
            if isinstance(row, tuple) and len(row) != len(self._columns):
                raise ValueError(
                    f"table {self._table!r} has {len(self._columns)} columns, "
                    f"but this row has {len(row)} values: {tuple(row)!r}"
                )

    def _take(self, rows: Sequence[R]) -> Sequence[Row]:
        getter = cast("Callable[[R], Row]", self._getter)
        return list(map(getter, rows))

    def _value(self, column: Column, value: object) -> object:
        """Give a value as SQLite will hold it, or refuse it in words."""
        value = _plain(value)
        where = f"table {self._table!r}, column {column.name!r}"
        if type(value) not in _PLAIN:
            raise TypeError(
                f"{where}: SQLite cannot take {value!r} of type {type(value).__name__}; "
                f"expected {column.expected}"
            )
        if type(value) is int and value not in INT64:
            raise ValueError(f"{where}: SQLite holds integers of 64 bits, which {value!r} is past")
        strict = column.name in self._strict
        if strict and column.storage is float and isinstance(value, int):
            value = float(value)
        if value != value:  # NaN
            if not (self._nan_as_null and column.nullable):
                raise ValueError(
                    f"{where}: SQLite would store NaN as NULL; pass None where the column allows "
                    f"it, which nan_as_null=True in the table's declaration does by itself"
                )
            value = None
        if value is None:
            if not column.nullable:
                raise TypeError(
                    f"{where}: expected {column.expected}, got None; where that is meant, "
                    f"declare the field `… | None`"
                )
        elif strict and column.storage and type(value) not in ACCEPTED[column.storage]:
            raise TypeError(
                f"{where}: expected {column.expected}, got {value!r} of type {type(value).__name__}"
            )
        return value

    def key(self, key: Key) -> Key:
        """Check a key as a caller gives it.

        Args:
            key: the value of the key column, or a tuple with one for each.

        Returns:
            The key as the buffer compares it.

        Raises:
            TypeError: the table has no key, or a value is not of its column's type.
            ValueError: it has a wrong number of values.
        """
        if not self._key:
            raise TypeError(f"table {self._table!r} has no key: its rows can only be appended")
        values = (key,) if len(self._key) == 1 else key
        if not isinstance(values, tuple) or len(values) != len(self._key):
            raise ValueError(
                f"table {self._table!r}: the key is a tuple ({', '.join(self._key)}), not {key!r}"
            )
        checked = tuple(
            self._value(self._columns[self._index[name]], value)
            for name, value in zip(self._key, values, strict=True)
        )
        return checked[0] if len(checked) == 1 else checked

    def update(self, columns: Mapping[str, object]) -> Mapping[str, Any]:
        """Check the columns of an update.

        Raises:
            TypeError: no column is named, or one is unknown or of the key, or a value is of a
                type that SQLite or its column cannot take.
        """
        settable = [c.name for c in self._columns if c.name not in self._key]
        if not columns or not set(columns) <= set(settable):
            unknown = ", ".join(map(repr, set(columns) - set(settable))) or "none"
            raise TypeError(
                f"table {self._table!r}: an update names columns outside the key "
                f"({', '.join(settable)}), not {unknown}"
            )
        return {
            name: self._value(self._columns[self._index[name]], value)
            for name, value in columns.items()
        }

    def delete_by(self, value: object) -> Any:
        """Check the value of a delete by another column than the key.

        Raises:
            TypeError: the table declares no `delete_by`, or the value is None or not of the
                column's type.
        """
        if self._delete_by is None:
            raise TypeError(f"table {self._table!r} declares no delete_by column")
        value = self._value(self._columns[self._index[self._delete_by]], value)
        if value is None:
            raise TypeError(
                f"table {self._table!r}: delete by None matches nothing, as NULLs are never equal "
                f"in SQL; set the column to a value that can be looked for"
            )
        return value


class _QuickCheck:
    """The check of one column over many rows at once.

    What passes is as it has to be. What does not is looked at value by value, and may be right.
    """

    def __init__(self, column: Column, strict: bool) -> None:
        storage = column.storage if strict else None
        types = _PLAIN - {_NONE} if storage is None else ACCEPTED[storage]
        self._types = types | {_NONE} if column.nullable else types
        self._whole = storage is int

    def passes(self, values: tuple[Any, ...]) -> bool:
        """Whether all values are of the column's types, and numbers that SQLite holds."""
        types = set(map(type, values))
        if not types <= self._types:
            return False
        if float in types:
            # A sum is NaN where a value is, and where infinities cancel out, which is seldom.
            return not isnan(sum(values)) if len(types) == 1 else not any(map(ne, values, values))
        if self._whole:
            whole = [value for value in values if value is not None] if _NONE in types else values
            return not whole or (min(whole) in INT64 and max(whole) in INT64)
        return True


def _row_getter(row_type: type, names: tuple[str, ...]) -> Callable[[Any], Row] | None:
    """Give what turns an instance into the tuple of its values; None where it is one."""
    if issubclass(row_type, tuple):
        return None
    if len(names) == 1:
        get = attrgetter(names[0])
        return lambda row: (get(row),)
    return attrgetter(*names)


def _plain(value: object) -> object:
    """Give a value of a subclass, or a mutable buffer, as the plain type SQLite takes."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return value
