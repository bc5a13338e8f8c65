"""How integers, floats, booleans and decimals are sent. The server itself checks no range."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

from forebay._table.codecs import built_in_codec
from forebay._table.columns import ColumnType
from forebay.stores.clickhouse._encoding import Encoding, ValueRefusedError, out_of_range
from forebay.stores.clickhouse._server_types import ServerType

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


def integer_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how integers and booleans are sent to a column of integers, or None."""
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


def bool_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how booleans are sent to a column of them, or None."""
    if column.accepts != frozenset[type]({bool}) or server.name != "Bool":
        return None
    return Encoding(bytes, lambda data, _rows: list(map(bool, data)), 0)


def float_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how floats are sent, or None."""
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
            raise out_of_range(refused, server) from None

    return encode


def _unpacked(code: str) -> Callable[[bytes, int], list[Any]]:
    return lambda data, rows: list(struct.unpack(f"<{rows}{code}", data))


def _wide_integers(
    size: int, allowed: range, *, signed: bool, server: ServerType
) -> Callable[[Sequence[int]], bytes]:
    def encode(values: Sequence[int]) -> bytes:
        for value in values:
            if not allowed.start <= value < allowed.stop:
                raise out_of_range(value, server)
        return b"".join(int(value).to_bytes(size, "little", signed=signed) for value in values)

    return encode


def _wide_unpacked(size: int, *, signed: bool) -> Callable[[bytes, int], list[Any]]:
    def decode(data: bytes, rows: int) -> list[Any]:
        parts = (data[row * size : (row + 1) * size] for row in range(rows))
        return [int.from_bytes(part, "little", signed=signed) for part in parts]

    return decode


def encode_version(version: int) -> bytes:
    """Return a version, the value of a UInt64 column."""
    return struct.pack("<Q", version)


def decimal_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how decimals are sent to a column with a fixed number of digits, or None."""
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
