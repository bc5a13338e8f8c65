"""How texts and bytes are sent, and what is stored as either: members of enums, and UUIDs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any
from uuid import UUID

from forebay._table.codecs import UuidBytes, built_in_codec
from forebay._table.columns import ColumnType
from forebay.stores.clickhouse._encoding import Encoding, ValueRefusedError
from forebay.stores.clickhouse._server_types import ServerType


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


def text_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how texts are sent to a String, or None."""
    if column.storage is not str or server.name != "String":
        return None
    return Encoding(
        _encode_strings,
        lambda data, rows: [text.decode() for text in _decode_texts(data, rows)],
        "",
    )


def bytes_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how bytes are sent to a String, or None."""
    if column.storage is not bytes or server.name != "String":
        return None
    return Encoding(encode_texts, _decode_texts, b"")


def fixed_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how texts and bytes are sent to a FixedString, or None."""
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


def enum_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how names or numbers of members are sent to an Enum, or None."""
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


def uuid_encoding(column: ColumnType, server: ServerType) -> Encoding | None:
    """Return how UUIDs are sent, or None."""
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
