"""Decode stored values, as a program's declaration of the table says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forebay._table.columns import Column, Storage
from forebay._table.operations import Delete, DeleteBy, Key, Operation, Row, Update, Write
from forebay._table.table import Table, select_columns


def decoder(column: Column) -> Callable[[Any], Any]:
    """Return a function that takes a stored value, except NULL, and returns the column's value.

    It raises an error for a stored value that is not one of the column. A codec may raise any
    error.
    """
    accepts, expected, codec = column.type.accepts, column.expected, column.type.codec
    if codec is not None:
        decode, storage = codec.decode, codec.storage
        return lambda stored: decode(_of_storage(storage, stored))

    def check(stored: Any) -> Any:
        if type(stored) in accepts:
            return stored
        if type(stored) is int:
            if float in accepts and float(stored) == stored:  # in a column without a type
                return float(stored)
            if bool in accepts and stored in (0, 1):
                return bool(stored)
        raise TypeError(f"expected {expected}, got {type(stored).__name__}")

    return check


def _of_storage(storage: Storage, stored: Any) -> Any:
    if type(stored) is storage:
        return stored
    if storage is float and type(stored) is int:
        return float(stored)
    raise TypeError(f"it is not stored as {storage.__name__}")


def decode_value(column: Column, stored: Any, *, where: str) -> Any:
    """Return the value that was stored.

    Args:
        column: the column.
        stored: the stored value; None for NULL.
        where: the table, the column and the row, for the error.

    Raises:
        ValueError: the stored value is not one of this column.
    """
    if stored is None:
        return None
    try:
        return decoder(column)(stored)
    except Exception as error:
        raise ValueError(f"{where}: cannot decode {stored!r}: {error}") from error


def decode_values(table: Table[Any], operation: Operation) -> Operation:
    """Return an operation whose values are those that the program passed.

    Args:
        table: the program's declaration of the table.
        operation: an operation on the table, with stored values.

    Raises:
        ValueError: a stored value is not one of its column.
    """
    match operation:
        case Write(row):
            return Write(_decode_row(table, tuple(column.name for column in table.columns), row))
        case Update(key, columns):
            values = _decode_row(table, tuple(columns), tuple(columns.values()))
            return Update(_decode_key(table, key), dict(zip(columns, values, strict=True)))
        case Delete(key):
            return Delete(_decode_key(table, key))
        case DeleteBy(value):  # pragma: no branch  # the last kind
            return DeleteBy(_decode_row(table, (str(table.delete_by),), (value,))[0])


def _decode_key(table: Table[Any], key: Key) -> Key:
    if len(table.key) > 1:
        return _decode_row(table, table.key, key)
    return _decode_row(table, table.key, (key,))[0]


def _decode_row(table: Table[Any], names: tuple[str, ...], row: Row) -> Row:
    return tuple(
        decode_value(column, value, where=f"table {table.name!r}, column {column.label}")
        for column, value in zip(select_columns(table, names), row, strict=True)
    )
