"""What callers hand in, checked and taken: rows, keys, the columns of an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import attrgetter, itemgetter, ne
from typing import Any, Generic, TypeVar, cast

from forebay._columns import ACCEPTED, Column
from forebay._merge import Merge
from forebay._operations import Key, Row

R = TypeVar("R")

_PLAIN = frozenset({str, int, float, bytes, bool, type(None)})
_COMPUTED = frozenset({Merge.SUM, Merge.MIN, Merge.MAX})


class RowCheck(Generic[R]):
    """The check of one table. What passes is plain values that nobody can change any more.

    Values may be of any type that SQLite stores. But what Python compares or adds in memory must
    be what SQLite would, so columns of the key, of `delete_by` and of a rule that computes are
    strict: they hold values of their one type only.
    """

    def __init__(
        self,
        table: str,
        row_type: type[R],
        columns: tuple[Column, ...],
        key: tuple[str, ...],
        delete_by: str | None,
        *,
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
        strict = {*key, *((delete_by,) if delete_by is not None else ())}
        self._strict = strict | {c.name for c in columns if c.merge in _COMPUTED}
        self._strict_types: tuple[tuple[Callable[[Row], Any], frozenset[type]], ...] = tuple(
            (
                itemgetter(self._index[c.name]),
                ACCEPTED[c.storage] | ({type(None)} if c.nullable else set()),
            )
            for c in columns
            if c.name in self._strict and c.storage is not None
        )

    def rows(self, rows: Sequence[R]) -> Sequence[Row]:
        """Check rows and take their values as they are now.

        Args:
            rows: instances of the row type.

        Returns:
            For each row the tuple of its values, which later changes do not reach.

        Raises:
            TypeError: one is no instance of the row type, or a value is of a type that SQLite
                or its column cannot take.
            ValueError: one has a wrong number of values, or holds a NaN.
        """
        if set(map(type, rows)) != {self._row_type} or self._row_type is tuple:
            self._check_types(rows)
        taken = cast("Sequence[Row]", rows if self._getter is None else self._take(rows))
        values = list(chain.from_iterable(taken))
        types = set(map(type, values))
        if (
            types <= _PLAIN
            and all(
                set(map(type, map(get, taken))) <= allowed for get, allowed in self._strict_types
            )
            and not (float in types and any(map(ne, values, values)))
        ):
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
                    f"but this row has {len(row)} values: {row!r}"
                )

    def _take(self, rows: Sequence[R]) -> Sequence[Row]:
        getter = cast("Callable[[R], Row]", self._getter)
        return list(map(getter, rows))

    def _value(self, column: Column, value: object) -> object:
        """Give a value as SQLite will hold it, or refuse it in words."""
        value = _plain(value)
        if type(value) not in _PLAIN:
            raise TypeError(
                f"table {self._table!r}, column {column.name!r}: SQLite cannot take "
                f"{value!r} of type {type(value).__name__}; expected {column.expected}"
            )
        if value != value:  # only NaN differs from itself
            if not self._nan_as_null or column.name in self._key:
                raise ValueError(
                    f"table {self._table!r}, column {column.name!r}: SQLite would store NaN as "
                    f"NULL; pass None, or declare the table with nan_as_null=True"
                )
            value = None
        if column.name in self._strict and not column.takes(value):
            raise TypeError(
                f"table {self._table!r}, column {column.name!r}: expected {column.expected}, "
                f"got {value!r} of type {type(value).__name__}"
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
        if value is None:
            raise TypeError(f"table {self._table!r}: delete by None matches nothing in SQL")
        return self._value(self._columns[self._index[self._delete_by]], value)


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
