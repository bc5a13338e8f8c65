"""Decode stored values, as a program's declaration of the table says."""

from __future__ import annotations

from typing import Any

from forebay._table.columns import Column
from forebay._table.operations import Delete, DeleteBy, Key, Operation, Row, Update, Write
from forebay._table.table import Table, select_columns


def decode_value(column: Column, stored: Any, *, where: str) -> Any:
    """Return the value that was stored, which is the same one if its column has no codec.

    Args:
        column: the column.
        stored: the stored value; None for NULL.
        where: the table, the column and the row, for the error.

    Raises:
        ValueError: the stored value is not one of this column.
    """
    codec = column.type.codec
    if codec is None or stored is None:
        return stored
    if not isinstance(stored, codec.storage):
        raise ValueError(  # noqa: TRY004  # the data is wrong, not the call
            f"{where}: cannot decode {stored!r}: it is not stored as {codec.storage.__name__}"
        )
    try:
        return codec.decode(stored)
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
        case DeleteBy(value):
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
