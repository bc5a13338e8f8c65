"""Check the values that a program passes to a buffer: rows, keys, the columns of an update."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan
from operator import attrgetter, ne
from typing import Any, Generic, TypeVar, cast

from forebay._table.columns import Column
from forebay._table.fast_check import compile_recognizer
from forebay._table.operations import Key, Row
from forebay._table.table import Table, value_columns
from forebay._table.values import check_value, is_negative_zero

R = TypeVar("R")

_NONE = type(None)
_ANY_VALUE_FITS = {str, bytes, bool}
"""The types whose values SQLite stores as they are, whichever they are."""


class RowValidator(Generic[R]):
    """Check the values that a program passes to the buffer of one table, copy and encode them.

    The values returned are stored values: of the plain types that SQLite stores, and encoded if
    the column has a codec. Later changes of the caller's objects do not reach them.

    A column allows values of its declared type, and None only if its annotation does. A column of
    several types is declared so. An int in a float column becomes a float; an int that no float
    equals is refused. A bool is valid in an int column, since SQLite stores it as 0 or 1.
    """

    def __init__(self, table: Table[R]) -> None:
        """Prepare to check values for a table.

        Args:
            table: the table.
        """
        self._table = table
        self._columns = {column.name: column for column in table.columns}
        self._fields = {column.field: column for column in table.columns}
        self._get_values = _values_getter(table.row_type, tuple(self._fields))
        self._column_checks = tuple(
            _ColumnCheck(column, in_key=column.name in table.key) for column in table.columns
        )
        self._key_columns = tuple(self._columns[name] for name in table.key)
        self._settable = {column.field: column for column in value_columns(table)}
        self._encodes = any(column.type.codec is not None for column in table.columns)
        self.recognize: Callable[[R], Row | None] = compile_recognizer(
            table.row_type, table.columns, table.key
        )
        """Returns the values of a row that is valid as it is; None for any other. The caller then
        calls `validate_row`. This is the fastest check, and a buffer has no time for another."""

    def validate_row(self, row: R) -> Row:
        """Check one row and return its values, as `validate_rows` does for many.

        Args:
            row: an instance of the row type.

        Raises:
            TypeError: as for `validate_rows`.
            ValueError: as for `validate_rows`.
        """
        if (values := self.recognize(row)) is not None:
            return values
        [checked] = self.validate_rows((row,))
        return checked

    def validate_rows(self, rows: Sequence[R]) -> Sequence[Row]:
        """Check rows and return their values.

        Args:
            rows: instances of the row type.

        Returns:
            A tuple of values per row, in the order of the columns.

        Raises:
            TypeError: a row is not an instance of the row type, or the type of a value is not one
                that its column allows.
            ValueError: a row has a wrong number of values, or SQLite cannot store a value.
        """
        if set(map(type, rows)) != {self._table.row_type}:
            self._check_row_types(rows)
        values = cast("Sequence[Row]", rows if self._get_values is None else self._copy(rows))
        try:
            columns = tuple(zip(*values, strict=True))
        except ValueError:  # the rows have different lengths
            columns = ()
        if len(columns) != len(self._columns):
            self._check_row_types(rows)
        if not self._encodes:
            if all(map(_ColumnCheck.accepts_all, self._column_checks, columns)):
                return values
        elif None not in (stored := list(map(_ColumnCheck.encode, self._column_checks, columns))):
            return list(zip(*cast("list[Sequence[object]]", stored), strict=True))
        return [tuple(map(self._validate_value, self._table.columns, row)) for row in values]

    def _check_row_types(self, rows: Sequence[R]) -> None:
        for row in rows:
            if not isinstance(row, self._table.row_type):
                raise TypeError(
                    f"table {self._table.name!r}: expected a row of type "
                    f"{self._table.row_type.__name__}, got {row!r}"
                )
            if isinstance(row, tuple) and len(row) != len(self._columns):
                raise ValueError(
                    f"table {self._table.name!r} has {len(self._columns)} columns, "
                    f"but this row has {len(row)} values: {tuple(row)!r}"
                )

    def _copy(self, rows: Sequence[R]) -> Sequence[Row]:
        getter = cast("Callable[[R], Row]", self._get_values)
        return list(map(getter, rows))

    def _validate_value(self, column: Column, value: object) -> object:
        if (
            type(value) in _ANY_VALUE_FITS
            and type(value) in column.type.stored
            and column.type.codec is None
        ):
            return value
        return check_value(
            column,
            value,
            where=f"table {self._table.name!r}, column {column.label}",
            nan_as_null=self._table.nan_as_null,
            in_key=column.name in self._table.key,
        )

    def validate_key(self, key: Key) -> Key:
        """Check a key and return it as the buffer compares it.

        Args:
            key: the value of the key column. If the key has several columns: a tuple with the
                value of each, in the order of the table's `key`.

        Raises:
            TypeError: the table has no key, or a value is not of its column's type.
            ValueError: the key is not a tuple with one value per key column, or SQLite cannot
                store a value.
        """
        if not self._table.key:
            raise TypeError(
                f"table {self._table.name!r} has no key: rows can only be appended; "
                "declare a key with Table(..., key=COLUMN)"
            )
        if len(self._key_columns) == 1:
            return self._validate_value(self._key_columns[0], key)
        if not isinstance(key, tuple) or len(key) != len(self._key_columns):
            raise ValueError(
                f"table {self._table.name!r}: expected a key tuple "
                f"({', '.join(self._table.key)}), got {key!r}"
            )
        return tuple(map(self._validate_value, self._key_columns, key))

    def validate_key_to_find(self, key: Key) -> Key:
        """Check a key that is looked up, as `validate_key` does.

        Raises:
            TypeError: as for `validate_key`.
            ValueError: as for `validate_key`, or no stored text can equal a part of the key.
        """
        checked = self.validate_key(key)
        for part in checked if isinstance(checked, tuple) else (checked,):
            if isinstance(part, str):
                try:
                    part.encode()
                except UnicodeEncodeError as error:
                    raise ValueError(
                        f"table {self._table.name!r}: no row has the key {key!r}, since SQLite "
                        f"cannot store this text: {error}"
                    ) from error
        return checked

    def validate_update(self, columns: Mapping[str, object]) -> Mapping[str, Any]:
        """Check the columns of an update and return their values.

        Args:
            columns: the new values, by the field of the column.

        Returns:
            The values as they are stored, by the column's name.

        Raises:
            TypeError: there is no column, or a column is unknown or part of the key, or the type
                of a value is not one that its column allows.
            ValueError: SQLite cannot store a value.
        """
        if not columns or not columns.keys() <= self._settable.keys():
            refused = ", ".join(repr(name) for name in columns if name not in self._settable)
            raise TypeError(
                f"table {self._table.name!r}: an update must name columns outside the key "
                f"({', '.join(self._settable)}), got {refused or 'none'}"
            )
        return {
            self._settable[name].name: self._validate_value(self._settable[name], value)
            for name, value in columns.items()
        }

    def validate_delete_by(self, value: object) -> Any:
        """Check the value of a delete by the `delete_by` column and return it.

        Args:
            value: the value by which rows are deleted.

        Raises:
            TypeError: the table has no `delete_by` column, or the value is None or not of the
                column's type.
            ValueError: SQLite cannot store the value.
        """
        if self._table.delete_by is None:
            raise TypeError(
                f"table {self._table.name!r} has no delete_by column; "
                f"declare one with Table(..., delete_by=COLUMN)"
            )
        value = self._validate_value(self._columns[self._table.delete_by], value)
        if value is None:
            raise TypeError(
                f"table {self._table.name!r}: a delete by None matches no row, since NULLs are "
                f"never equal in SQL; store another value in the rows to delete"
            )
        return 0.0 if is_negative_zero(value) else value


_INTS = {int}
_FLOATS = {float}


class _ColumnCheck:
    """Check the values of one column over many rows at once, which is faster than one by one."""

    def __init__(self, column: Column, *, in_key: bool) -> None:
        accepts = column.type.stored
        self._column = column
        self._types = accepts | {_NONE} if column.nullable else accepts
        self._is_float_key = in_key and column.storage is float

    def encode(self, values: tuple[Any, ...]) -> Sequence[object] | None:
        """Return the stored values; None if the values must be checked one by one."""
        codec = self._column.type.codec
        if codec is not None:
            accepts, nullable = self._column.type.accepts, self._column.nullable
            types = set(map(type, values))
            if object not in accepts and not types <= (accepts | {_NONE} if nullable else accepts):
                return None
            encode = codec.encode
            try:
                if _NONE in types:
                    values = tuple(None if v is None else encode(v) for v in values)
                else:
                    values = tuple(map(encode, values))
            except Exception:  # noqa: BLE001  # a codec may raise anything; the next check reports it
                return None
        return values if self.accepts_all(values) else None

    def accepts_all(self, values: tuple[Any, ...]) -> bool:
        """Return whether all values can be stored unchanged.

        False means only that they must be checked one by one: a value may need a conversion.
        """
        types = set(map(type, values))
        if not types <= self._types:
            return False
        if self._is_float_key and 0.0 in values and any(map(is_negative_zero, values)):
            return False
        if types == _FLOATS:
            # The sum is NaN if a value is NaN, or, rarely, if infinities cancel each other out.
            return not isnan(sum(values))
        if float in types and any(map(ne, values, values)):  # only NaN differs from itself
            return False
        if int in types:
            return _fit_into_64_bits(values if types == _INTS else _integers(values))
        return True


def _integers(values: Iterable[object]) -> list[int]:
    return [value for value in values if type(value) is int]


def _fit_into_64_bits(integers: Sequence[int]) -> bool:
    try:
        struct.pack(f"{len(integers)}q", *integers)  # several times as fast as min and max
    except struct.error:
        return False
    return True


def _values_getter(row_type: type, names: tuple[str, ...]) -> Callable[[Any], Row] | None:
    """Return a function that returns the values of a row; None if rows are tuples themselves."""
    if issubclass(row_type, tuple):
        return None
    if len(names) == 1:
        get = attrgetter(names[0])
        return lambda row: (get(row),)
    return attrgetter(*names)
