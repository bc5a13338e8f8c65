"""How the values of a column become bytes of ClickHouse's Native format, and values again.

The server checks no ranges: 300 in an Int8 column becomes 44, and a date outside the range of its
type becomes the nearest one. So each value is checked here, before it is sent.

Values are stored values: those of a column with a codec are encoded already, such as a datetime as
text. https://clickhouse.com/docs/interfaces/formats/Native
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, TypeAlias
from uuid import UUID

from forebay._portable import Portable
from forebay._table.codecs import Codec, UuidBytes, built_in_codec
from forebay._table.columns import VALUE_TYPES, ColumnType
from forebay.stores.clickhouse._server_types import ServerType


class ValueRefusedError(Portable, ValueError):
    """A column of the server cannot hold a value exactly. The row becomes a dead letter."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the values of one column are sent. No value is None.

    Attributes:
        encode: returns the bytes of values, one after another. It raises `ValueRefusedError`.
        decode: takes bytes and the number of values in them, and returns the values.
        filler: the value that stands where the column has NULL.
    """

    encode: Callable[[Sequence[Any]], bytes]
    decode: Callable[[bytes, int], list[Any]]
    filler: Any


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


_Family: TypeAlias = Callable[[ColumnType, ServerType], Encoding | None]


# Integers and floats

_STRUCT_CODES: Final = {
    "Int8": "b",
    "Int16": "h",
    "Int32": "i",
    "Int64": "q",
    "UInt8": "B",
    "UInt16": "H",
    "UInt32": "I",
    "UInt64": "Q",
}


def _integer(column: ColumnType, server: ServerType) -> Encoding | None:
    if column.storage is not int or server.name.lstrip("U").rstrip("0123456789") != "Int":
        return None
    signed = not server.name.startswith("U")
    bits = int(server.name.rpartition("t")[2])
    low = -(2 ** (bits - 1)) if signed else 0
    allowed = range(low, low + 2**bits)
    if server.name in _STRUCT_CODES:
        encode = _packed(_STRUCT_CODES[server.name], lambda value: value in allowed, server)
        decode = _unpacked(_STRUCT_CODES[server.name])
    else:
        encode = _wide_integers(bits // 8, allowed, signed=signed, server=server)
        decode = _wide_unpacked(bits // 8, signed=signed)
    if column.accepts == frozenset[type]({bool}):
        return Encoding(encode, lambda data, rows: list(map(bool, decode(data, rows))), 0)
    return Encoding(encode, decode, 0)


def _bool(column: ColumnType, server: ServerType) -> Encoding | None:
    if column.accepts != frozenset[type]({bool}) or server.name != "Bool":
        return None
    return Encoding(bytes, lambda data, _rows: list(map(bool, data)), 0)


def _float(column: ColumnType, server: ServerType) -> Encoding | None:
    codes = {"Float32": "f", "Float64": "d"}
    if column.storage is not float or server.name not in codes:
        return None
    code = codes[server.name]
    return Encoding(_packed(code, lambda value: _packs(code, value), server), _unpacked(code), 0.0)


def _packs(code: str, value: object) -> bool:
    try:
        struct.pack(f"<{code}", value)
    except (struct.error, OverflowError):
        return False
    return True


def _packed(
    code: str, is_allowed: Callable[[Any], bool], server: ServerType
) -> Callable[[Sequence[Any]], bytes]:
    def encode(values: Sequence[Any]) -> bytes:
        try:
            return struct.pack(f"<{len(values)}{code}", *values)
        except (struct.error, OverflowError):
            refused = next(value for value in values if not is_allowed(value))
            raise _out_of_range(refused, server) from None

    return encode


def _unpacked(code: str) -> Callable[[bytes, int], list[Any]]:
    return lambda data, rows: list(struct.unpack(f"<{rows}{code}", data))


def _wide_integers(
    size: int, allowed: range, *, signed: bool, server: ServerType
) -> Callable[[Sequence[int]], bytes]:
    def encode(values: Sequence[int]) -> bytes:
        for value in values:
            if not allowed.start <= value < allowed.stop:
                raise _out_of_range(value, server)
        return b"".join(int(value).to_bytes(size, "little", signed=signed) for value in values)

    return encode


def _wide_unpacked(size: int, *, signed: bool) -> Callable[[bytes, int], list[Any]]:
    def decode(data: bytes, rows: int) -> list[Any]:
        parts = (data[row * size : (row + 1) * size] for row in range(rows))
        return [int.from_bytes(part, "little", signed=signed) for part in parts]

    return decode


def _out_of_range(value: object, server: ServerType) -> ValueRefusedError:
    return ValueRefusedError(f"{value!r} does not fit into {server.name}")


# Texts and bytes


def encode_version(version: int) -> bytes:
    """Return a version, the value of a UInt64 column."""
    return struct.pack("<Q", version)


@lru_cache(maxsize=1 << 14)  # to look a length up is faster than to encode it
def encode_length(length: int) -> bytes:
    """Return a length as a varint, which precedes a text."""
    found = bytearray()
    while length > 0x7F:
        found.append(length & 0x7F | 0x80)
        length >>= 7
    found.append(length)
    return bytes(found)


def encode_texts(texts: Sequence[bytes]) -> bytes:
    """Return texts, each after its length."""
    parts = [b""] * (2 * len(texts))
    parts[::2] = map(encode_length, map(len, texts))
    parts[1::2] = texts
    return b"".join(parts)


def _decode_texts(data: bytes, rows: int) -> list[bytes]:
    found: list[bytes] = []
    position = 0
    for _ in range(rows):
        length, shift = 0, 0
        while True:
            byte = data[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        found.append(data[position : position + length])
        position += length
    return found


def _to_utf8(values: Sequence[str]) -> list[bytes]:
    try:
        return list(map(str.encode, values))
    except UnicodeEncodeError as error:
        raise ValueRefusedError(f"{error.object!r} has a lone surrogate") from None


def _encode_strings(values: Sequence[str]) -> bytes:
    with suppress(ValueError):  # a text is longer than 127 characters
        # The length of a short text is one ASCII character. If the texts are ASCII too, one call
        # encodes all, in a third of the time.
        parts = [""] * (2 * len(values))
        parts[::2] = bytes(map(len, values)).decode("ascii")
        parts[1::2] = values
        joined = "".join(parts)
        if joined.isascii():
            return joined.encode()
    return encode_texts(_to_utf8(values))


def _text(column: ColumnType, server: ServerType) -> Encoding | None:
    if column.storage is not str or server.name != "String":
        return None
    return Encoding(
        _encode_strings,
        lambda data, rows: [text.decode() for text in _decode_texts(data, rows)],
        "",
    )


def _bytes(column: ColumnType, server: ServerType) -> Encoding | None:
    if column.storage is not bytes or server.name != "String":
        return None
    return Encoding(encode_texts, _decode_texts, b"")


def _fixed(column: ColumnType, server: ServerType) -> Encoding | None:
    if server.name != "FixedString" or column.storage not in (str, bytes):
        return None
    size = int(server.arguments[0])
    is_text = column.storage is str

    def encode(values: Sequence[Any]) -> bytes:
        for text in (texts := _to_utf8(values) if is_text else values):
            if len(text) != size:
                # The server appends NULs, with which the value is read again.
                raise ValueRefusedError(
                    f"{text!r} has {len(text)} bytes, and FixedString({size}) holds exactly {size}"
                )
        return b"".join(texts)

    def decode(data: bytes, rows: int) -> list[Any]:
        parts = [data[row * size : (row + 1) * size] for row in range(rows)]
        return [part.decode() for part in parts] if is_text else parts

    filler = "\0" * size if is_text else bytes(size)
    return Encoding(encode, decode, filler)


def _enum(column: ColumnType, server: ServerType) -> Encoding | None:
    codes = {"Enum8": "b", "Enum16": "h"}
    if server.name not in codes or column.storage not in (str, int):
        return None
    members = server.members()
    numbers: dict[Any, int] = (
        dict(members) if column.storage is str else {number: number for number in members.values()}
    )
    values = {number: value for value, number in numbers.items()}
    code = codes[server.name]

    def encode(stored: Sequence[Any]) -> bytes:
        try:
            return struct.pack(f"<{len(stored)}{code}", *(numbers[value] for value in stored))
        except KeyError as error:
            raise ValueRefusedError(f"{error.args[0]!r} is no member of {server}") from None

    def decode(data: bytes, rows: int) -> list[Any]:
        return [values[number] for number in struct.unpack(f"<{rows}{code}", data)]

    return Encoding(encode, decode, next(iter(numbers)))


# Dates and times

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = date(1970, 1, 1).toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)

_DATES: Final = {
    "Date": ("H", range(2**16)),
    "Date32": (
        "i",
        range(date(1900, 1, 1).toordinal() - _DAY, date(2300, 1, 1).toordinal() - _DAY),
    ),
}


def _date(column: ColumnType, server: ServerType) -> Encoding | None:
    if column.codec is not built_in_codec(date) or server.name not in _DATES:
        return None
    code, allowed = _DATES[server.name]

    def encode(values: Sequence[str]) -> bytes:
        days = [date.fromisoformat(value).toordinal() - _DAY for value in values]
        for value, day in zip(values, days, strict=True):
            if day not in allowed:
                raise _out_of_range(value, server)
        return struct.pack(f"<{len(days)}{code}", *days)

    def decode(data: bytes, rows: int) -> list[Any]:
        days = struct.unpack(f"<{rows}{code}", data)
        return [date.fromordinal(day + _DAY).isoformat() for day in days]

    return Encoding(encode, decode, "1970-01-01")


def _datetime(column: ColumnType, server: ServerType) -> Encoding | None:
    codec = built_in_codec(datetime)
    if codec is None or column.codec is not codec or server.name not in ("DateTime", "DateTime64"):
        return None
    digits = int(server.arguments[0]) if server.name == "DateTime64" else 0
    code = "q" if server.name == "DateTime64" else "I"
    first, end = _range_of_datetimes(server.name, digits)

    def encode(values: Sequence[str]) -> bytes:
        ticks: list[int] = []
        for value in values:
            micros = (datetime.fromisoformat(value) - _EPOCH) // _MICROSECOND
            if not first <= micros < end:
                raise _out_of_range(value, server)
            if digits >= 6:
                ticks.append(micros * 10 ** (digits - 6))
                continue
            tick, rest = divmod(micros, 10 ** (6 - digits))
            if rest:
                raise ValueRefusedError(f"{value!r} has more digits than {server} holds")
            ticks.append(tick)
        return struct.pack(f"<{len(ticks)}{code}", *ticks)

    def decode(data: bytes, rows: int) -> list[Any]:
        ticks = struct.unpack(f"<{rows}{code}", data)
        micros = (tick * 10**6 // 10**digits for tick in ticks)
        return [codec.encode(_EPOCH + micro * _MICROSECOND) for micro in micros]

    return Encoding(encode, decode, codec.encode(_EPOCH))


def _range_of_datetimes(name: str, digits: int) -> tuple[int, int]:
    """Return the first microsecond that a type holds, and the one after the last."""
    if name == "DateTime":
        return 0, 2**32 * 10**6
    first = (datetime(1900, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
    end = (datetime(2300, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
    return first, min(end, (2**63 - 1) * 10**6 // 10**digits)


# UUIDs and decimals


def _uuid(column: ColumnType, server: ServerType) -> Encoding | None:
    if server.name != "UUID" or column.codec not in (built_in_codec(UUID), UuidBytes):
        return None
    is_text = column.storage is str

    def encode(values: Sequence[Any]) -> bytes:
        parts = (UUID(value).bytes if is_text else value for value in values)
        return b"".join(part[7::-1] + part[:7:-1] for part in parts)  # two integers, little-endian

    def decode(data: bytes, rows: int) -> list[Any]:
        swapped = (data[row * 16 : (row + 1) * 16] for row in range(rows))
        parts = (part[7::-1] + part[:7:-1] for part in swapped)
        return [str(UUID(bytes=part)) if is_text else part for part in parts]

    return Encoding(encode, decode, str(UUID(int=0)) if is_text else bytes(16))


def _decimal(column: ColumnType, server: ServerType) -> Encoding | None:
    if server.name != "Decimal" or column.codec is not built_in_codec(Decimal):
        return None
    precision, scale = map(int, server.arguments)
    size = next(size for size, most in ((4, 9), (8, 18), (16, 38), (32, 76)) if precision <= most)
    # Enough digits for every value that fits: a value that needs more is refused.
    context = Context(prec=precision + 1, traps=[InvalidOperation])

    def scaled(value: str) -> int:
        try:
            number = Decimal(value).scaleb(scale, context)
            fits = number == number.to_integral_value() and abs(number) < 10**precision
            if fits and Decimal(value) == number.scaleb(-scale, context):
                return int(number)
        except (InvalidOperation, OverflowError, ValueError):
            pass  # an infinite number, or an exponent beyond every limit
        raise ValueRefusedError(f"{value!r} does not fit into {server}")

    def encode(values: Sequence[str]) -> bytes:
        return b"".join(scaled(value).to_bytes(size, "little", signed=True) for value in values)

    def decode(data: bytes, rows: int) -> list[Any]:
        parts = _wide_unpacked(size, signed=True)(data, rows)
        return [str(Decimal(part).scaleb(-scale, Context(prec=80))) for part in parts]

    return Encoding(encode, decode, "0")


_FAMILIES: Final[tuple[_Family, ...]] = (
    _integer,
    _bool,
    _float,
    _text,
    _bytes,
    _fixed,
    _enum,
    _date,
    _datetime,
    _uuid,
    _decimal,
)
