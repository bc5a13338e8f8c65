"""Check one value for a column, and return it as SQLite stores it."""

from __future__ import annotations

from math import copysign
from typing import Any, Final

from forebay._table.codecs import Codec
from forebay._table.columns import ALL_TYPES, Column
from forebay._table.sqlite_rules import INT64

_PLAIN: Final = ALL_TYPES | {type(None)}


def check_value(
    column: Column, value: object, *, where: str, nan_as_null: bool, in_key: bool
) -> object:
    """Return a value as SQLite will store it.

    Args:
        column: the column.
        value: the value that the program passed.
        where: the table and the column, for the errors.
        nan_as_null: whether NaN is stored as NULL.
        in_key: whether the column is part of the key.

    Raises:
        TypeError: the column does not allow values of this type.
        ValueError: SQLite cannot store the value.
    """
    if column.type.codec is not None and value is not None:
        value = _encode(column, column.type.codec, value, where)
    value = _plain(value)
    if type(value) not in _PLAIN:
        raise TypeError(
            f"{where}: {value!r} of type {type(value).__name__} cannot be stored; "
            f"expected {column.expected}"
        )
    if type(value) is int and value not in INT64:
        raise ValueError(
            f"{where}: {value!r} does not fit into a 64-bit integer; "
            f"store larger numbers as str or float"
        )
    accepts = column.type.stored
    if isinstance(value, int) and float in accepts and type(value) not in accepts:
        value = _exact_float(value, where)
    if value != value:  # NaN
        if in_key:
            raise ValueError(f"{where}: NaN cannot be stored; it would be NULL, which no key is")
        if not (nan_as_null and column.nullable):
            raise ValueError(
                f"{where}: NaN cannot be stored; SQLite makes it NULL. Pass None, or declare the "
                f"table with nan_as_null=True (in both cases the column must allow None)"
            )
        value = None
    if value is None:
        if not column.nullable:
            advice = (
                "a column of the key cannot be NULL"
                if in_key
                else "to allow None, declare the field as `… | None`"
            )
            raise TypeError(f"{where}: expected {column.expected}, got None; {advice}")
    elif type(value) not in accepts:
        raise TypeError(
            f"{where}: expected {column.expected}, got {value!r} of type {type(value).__name__}"
        )
    if in_key and is_negative_zero(value):
        return 0.0
    return value


def _encode(column: Column, codec: Codec[Any], value: object, where: str) -> object:
    """Return what is stored for a value.

    Raises:
        TypeError: the value is not of the column's type, or the codec says so.
        ValueError: the codec refused the value, or returned something else than its storage type.
    """
    if not isinstance(value, tuple(column.type.accepts)):
        raise TypeError(
            f"{where}: expected {column.expected}, got {value!r} of type {type(value).__name__}"
        )
    try:
        stored = codec.encode(value)
    except Exception as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{where}: cannot store {value!r}: {error}") from error
    if not isinstance(stored, codec.storage):
        raise ValueError(  # noqa: TRY004  # the value is not wrong, the codec is
            f"{where}: the codec must return {codec.storage.__name__}, but for {value!r} it "
            f"returned {stored!r} of type {type(stored).__name__}"
        )
    return stored


def _exact_float(value: int, where: str) -> float:
    """Return an int as the float that equals it.

    Raises:
        ValueError: no float equals it. Another int would become the same float.
    """
    converted = float(value)
    if converted != value:
        raise ValueError(
            f"{where}: no float equals {value!r}; pass a float, or declare the column as int"
        )
    return converted


def is_negative_zero(value: object) -> bool:
    """Return whether a value is -0.0, which a key must not be.

    It equals 0.0, so both are the same key. But a column without affinity stores it as it is, so
    the stored key would depend on which of the two was inserted first.
    """
    return isinstance(value, float) and value == 0.0 and copysign(1.0, value) < 0


def _plain(value: object) -> object:
    """Return a value of a subclass, or a mutable buffer, as a plain type that SQLite stores."""
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
