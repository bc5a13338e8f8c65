"""How the values of a column become bytes of ClickHouse's Native format, and values again.

The server checks no ranges: 300 in an Int8 column becomes 44, and a date outside the range of its
type becomes the nearest one. So each value is checked here, before it is sent.

Values are stored values: those of a column with a codec are encoded already, such as a datetime as
text. https://clickhouse.com/docs/interfaces/formats/Native
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

from forebay._table.codecs import Codec, UuidBytes, built_in_codec
from forebay._table.columns import VALUE_TYPES, ColumnType
from forebay.stores.clickhouse._encoding import Encoding
from forebay.stores.clickhouse._numbers import (
    bool_encoding,
    decimal_encoding,
    float_encoding,
    integer_encoding,
)
from forebay.stores.clickhouse._server_types import ServerType
from forebay.stores.clickhouse._texts import (
    bytes_encoding,
    enum_encoding,
    fixed_encoding,
    text_encoding,
    uuid_encoding,
)
from forebay.stores.clickhouse._times import date_encoding, datetime_encoding

_Family: TypeAlias = Callable[[ColumnType, ServerType], Encoding | None]

_FAMILIES: Final[tuple[_Family, ...]] = (
    integer_encoding,
    bool_encoding,
    float_encoding,
    text_encoding,
    bytes_encoding,
    fixed_encoding,
    enum_encoding,
    date_encoding,
    datetime_encoding,
    uuid_encoding,
    decimal_encoding,
)


def find_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how values of a declared type are sent to a column; None if they cannot be.

    Args:
        column: the declared type.
        server: the type of the column in the database.
    """
    if column.storage is None or not column.stored <= VALUE_TYPES[column.storage]:
        return None  # the column holds values of several types
    for family in _FAMILIES:
        found = family(column, server)
        if found is not None:
            return found
    return None


_CODECS: Final[dict[tuple[str, type], Codec[Any] | None]] = {
    ("Date", str): built_in_codec(date),
    ("Date32", str): built_in_codec(date),
    ("DateTime", str): built_in_codec(datetime),
    ("DateTime64", str): built_in_codec(datetime),
    ("UUID", str): built_in_codec(UUID),
    ("UUID", bytes): UuidBytes,
    ("Decimal", str): built_in_codec(Decimal),
}


def with_codec(column: ColumnType, server: ServerType) -> ColumnType:
    """Return a type that was declared by its stored values with the codec of these values.

    Args:
        column: the type, such as `str` for a column of dates.
        server: the type of the column in the database, by which the codec is known.
    """
    if column.codec is not None or column.storage is None:
        return column
    return replace(column, codec=_CODECS.get((server.name, column.storage)))
