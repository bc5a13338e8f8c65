"""A block of rows in ClickHouse's Native format: the rows of one INSERT, column by column.

A block contains the number of its rows, so the server refuses one that was cut short.
https://clickhouse.com/docs/interfaces/formats/Native
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from forebay.stores.clickhouse._encoding import Encoding
from forebay.stores.clickhouse._server_types import ServerType
from forebay.stores.clickhouse._texts import encode_length

MAX_ROWS: Final = 1_000_000
"""The largest number of rows of a block. ClickHouse would split a larger one in several parts, of
which the last could fail when the first are in the table."""


@dataclass(frozen=True, slots=True)
class EncodedColumn:
    """The values of one column.

    Attributes:
        name: the column's name.
        type: the type in which the values are sent.
        nulls: one byte per row, 1 for NULL; empty if the type allows no NULL.
        data: the bytes of the values.
    """

    name: str
    type: str
    nulls: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Rows in the Native format.

    Attributes:
        rows: the number of rows.
        columns: their values.
    """

    rows: int
    columns: tuple[EncodedColumn, ...]

    @property
    def header(self) -> tuple[tuple[str, str], ...]:
        """The names and types of the columns."""
        return tuple((column.name, column.type) for column in self.columns)

    def to_bytes(self) -> bytes:
        """Return the block as the server reads it."""
        parts = [encode_length(len(self.columns)), encode_length(self.rows)]
        for column in self.columns:
            for text in (column.name.encode(), column.type.encode()):
                parts += (encode_length(len(text)), text)
            parts += (column.nulls, column.data)
        return b"".join(parts)

    def layout(self) -> str:
        """Return what `from_bytes` needs to find the columns in the bytes, as JSON."""
        return json.dumps(
            {
                "rows": self.rows,
                "columns": [[c.name, c.type, len(c.nulls), len(c.data)] for c in self.columns],
            }
        )

    @classmethod
    def from_bytes(cls, body: bytes, layout: str) -> Block:
        """Return the block with these bytes and this layout.

        Raises:
            ValueError: they do not belong together.
        """
        try:
            fields = json.loads(layout)
            rows, described = int(fields["rows"]), list(fields["columns"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"invalid layout of a block: {layout!r}") from error
        columns: list[EncodedColumn] = []
        position = len(encode_length(len(described))) + len(encode_length(rows))
        for name, type_, nulls, data in described:
            for text in (name.encode(), type_.encode()):
                position += len(encode_length(len(text))) + len(text)
            middle, end = position + nulls, position + nulls + data
            columns.append(EncodedColumn(name, type_, body[position:middle], body[middle:end]))
            position = end
        if position != len(body):
            raise ValueError(f"the block has {len(body)} bytes, but its layout {position}")
        return cls(rows, tuple(columns))


def encode_column(
    name: str, server: ServerType, encoding: Encoding, values: Sequence[Any]
) -> EncodedColumn:
    """Return the values of a column, encoded.

    Raises:
        ValueRefusedError: the column cannot hold a value.
    """
    if not server.nullable:
        return EncodedColumn(name, str(server), b"", encoding.encode(values))
    if None not in values:
        return EncodedColumn(name, str(server), bytes(len(values)), encoding.encode(values))
    nulls = bytes([value is None for value in values])
    if 0 not in nulls:
        data = encoding.encode([encoding.filler]) * len(values)
        return EncodedColumn(name, str(server), nulls, data)
    filled = [encoding.filler if value is None else value for value in values]
    return EncodedColumn(name, str(server), nulls, encoding.encode(filled))


def decode_column(column: EncodedColumn, encoding: Encoding, rows: int) -> list[Any]:
    """Return the values of an encoded column."""
    values = encoding.decode(column.data, rows)
    if column.nulls:
        pairs = zip(values, column.nulls, strict=True)
        return [None if is_null else value for value, is_null in pairs]
    return values


def merge_blocks(blocks: Sequence[Block]) -> Block:
    """Return one block with the rows of blocks that have the same header, in their order."""
    first = blocks[0]
    columns = tuple(
        EncodedColumn(
            column.name,
            column.type,
            b"".join(block.columns[number].nulls for block in blocks),
            b"".join(block.columns[number].data for block in blocks),
        )
        for number, column in enumerate(first.columns)
    )
    return Block(sum(block.rows for block in blocks), columns)
