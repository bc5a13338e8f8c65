"""Encode a batch as the one block that is inserted for it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from forebay._batching.batch import Batch, DeleteStep, Step, WriteStep
from forebay._errors import SchemaError
from forebay._table.columns import Column
from forebay._table.operations import Delete, Key, Operation, Row, Write
from forebay._table.table import Table, key_getter
from forebay.stores.clickhouse._declared import (
    DELETED,
    VERSION,
    Kind,
    full_name,
    kind_of,
    refused_steps,
)
from forebay.stores.clickhouse._encoding import Encoding, ValueRefusedError
from forebay.stores.clickhouse._native import (
    MAX_ROWS,
    Block,
    EncodedColumn,
    decode_column,
    encode_column,
)
from forebay.stores.clickhouse._numbers import encode_version
from forebay.stores.clickhouse._server_types import ServerType, parse_type, quote_name
from forebay.stores.clickhouse._values import find_encoding, with_codec


class BlockEncoder:
    """Encodes the batches of one table.

    Args:
        table: the declaration.
        database: the database of the table.
        types: the type of each column in the database, by name.
        stored: whether the declaration has stored types, as one that was read from a spool: a text
            for a date.

    Raises:
        SchemaError: values of a column cannot be sent to a column of its type.
    """

    def __init__(
        self, table: Table[Any], database: str, types: Mapping[str, str], *, stored: bool = False
    ) -> None:
        self.table = table
        self.kind: Kind = kind_of(table)
        self._database = database
        self._stored = stored
        self.refused: dict[type[Step], str] = refused_steps(table)
        """The operations that the table does not allow, with the reason."""
        self._columns = [
            (column.name, server, _encoding(table, column, server, stored=stored))
            for column in table.columns
            for server in (parse_type(types[column.name]),)
        ]
        names = [name for name, _, _ in self._columns]
        self.types: list[tuple[str, str]] = [
            (name, str(server)) for name, server, _ in self._columns
        ]
        """The names of the declared columns, and the types in which their values are sent."""
        if self.kind is Kind.REPLACE:
            names += [VERSION, DELETED]
        listed = ", ".join(map(quote_name, names))
        self.sql: str = f"INSERT INTO {full_name(database, table.name)} ({listed}) FORMAT Native"
        """The statement that inserts a block."""

    def encode(self, batch: Batch, version: int) -> list[Block]:
        """Return the rows of a batch as blocks: none if it has no rows, and seldom more than one.

        Args:
            batch: the batch.
            version: the version of its rows, if rows of the table replace each other.

        Raises:
            ValueRefusedError: a column cannot hold a value, or the table allows no such operation.
        """
        for step in batch.steps:
            reason = self.refused.get(type(step))
            if reason is not None:
                raise ValueRefusedError(f"table {self.table.name!r}: {reason}")
        if self.kind is Kind.REPLACE:
            rows, deleted = self._last_rows(batch)
        else:
            written = [step.rows for step in batch.steps if isinstance(step, WriteStep)]
            rows = written[0] if len(written) == 1 else list(chain.from_iterable(written))
            deleted = b""
        parts = range(0, len(rows), MAX_ROWS)
        return [
            self._block(rows[part : part + MAX_ROWS], deleted[part : part + MAX_ROWS], version)
            for part in parts
        ]

    def decode(self, block: Block) -> list[Operation]:
        """Return the operations that a block contains, in order."""
        values = self.values_of(block)
        rows = list(zip(*values, strict=True))
        if self.kind is not Kind.REPLACE:
            return [Write(row) for row in rows]
        key_of = key_getter(self.table)
        flags = block.columns[-1].data
        return [
            Delete(key_of(row)) if flag else Write(row)
            for row, flag in zip(rows, flags, strict=True)
        ]

    def of_block(self, block: Block) -> BlockEncoder:
        """Return the encoder that encoded a block, perhaps before a column had its type of today.

        Raises:
            ValueError: the block has other columns than the declaration.
        """
        names = [name for name, _ in self.types]
        types = dict(block.header[: len(names)])
        if list(types) != names:
            raise ValueError(f"the block has the columns {list(types)}, the declaration {names}")
        try:
            return BlockEncoder(self.table, self._database, types, stored=self._stored)
        except SchemaError as error:
            raise ValueError(str(error)) from error

    def encode_again(self, block: Block, source: BlockEncoder) -> Block:
        """Return the rows of a block with the types of this encoder.

        Args:
            block: the block.
            source: the encoder that encoded it.

        Raises:
            ValueError: a column cannot hold a value.
        """
        columns = self._encode(source.values_of(block))
        return Block(block.rows, (*columns, *block.columns[len(self._columns) :]))

    def split(self, block: Block) -> list[Block]:
        """Return the first and the second half of the rows of a block of two rows or more."""
        values = self.values_of(block)
        middle = block.rows // 2
        halves: list[Block] = []
        for rows in (slice(None, middle), slice(middle, None)):
            columns = self._encode([part[rows] for part in values])
            size = len(range(block.rows)[rows])
            if self.kind is Kind.REPLACE:
                versions, deleted = block.columns[-2:]
                data = b"".join(
                    versions.data[row * 8 : row * 8 + 8] for row in range(block.rows)[rows]
                )
                columns += (
                    EncodedColumn(VERSION, versions.type, b"", data),
                    EncodedColumn(DELETED, deleted.type, b"", deleted.data[rows]),
                )
            halves.append(Block(size, tuple(columns)))
        return halves

    def values_of(self, block: Block) -> list[list[Any]]:
        """Return the values of the declared columns of a block that this encoder encoded.

        Raises:
            ValueError: the block is damaged.
        """
        columns = block.columns[: len(self._columns)]
        try:
            return [
                decode_column(column, encoding, block.rows)
                for column, (_, _, encoding) in zip(columns, self._columns, strict=True)
            ]
        except (struct.error, LookupError, OverflowError) as error:
            raise ValueError(f"the block is damaged: {error!r}") from error

    def _encode(self, values: Sequence[Sequence[Any]]) -> list[EncodedColumn]:
        """Return the declared columns with these values.

        Raises:
            ValueRefusedError: a column cannot hold a value.
        """
        columns: list[EncodedColumn] = []
        for (name, server, encoding), part in zip(self._columns, values, strict=True):
            try:
                columns.append(encode_column(name, server, encoding, part))
            except ValueRefusedError as error:
                raise ValueRefusedError(
                    f"table {self.table.name!r}, column {name!r}: {error}"
                ) from None
        return columns

    def _block(self, rows: Sequence[Row], deleted: bytes, version: int) -> Block:
        # `zip(*rows)` makes an iterator per row, all at once: the garbage collector then visits
        # the objects of the whole program, which takes ten times as long as the work itself.
        flat = list(chain.from_iterable(rows))
        width = len(self._columns)
        columns = self._encode([flat[number::width] for number in range(width)])
        if self.kind is Kind.REPLACE:
            columns += (
                EncodedColumn(VERSION, "UInt64", b"", encode_version(version) * len(rows)),
                EncodedColumn(DELETED, "UInt8", b"", deleted),
            )
        return Block(len(rows), tuple(columns))

    def _last_rows(self, batch: Batch) -> tuple[Sequence[Row], bytes]:
        """Return one row per key, the last one, and a byte per row: 1 for a tombstone.

        All rows of a batch have one version, so two rows of one key would have no order.
        """
        steps = batch.steps
        if len(steps) == 1 and isinstance(steps[0], WriteStep) and self.table.coalesce:
            return steps[0].rows, bytes(len(steps[0].rows))
        key_of = key_getter(self.table)
        last: dict[Key, tuple[Row, bool]] = {}
        for step in steps:
            if isinstance(step, WriteStep):
                last.update((key_of(row), (row, False)) for row in step.rows)
            elif isinstance(step, DeleteStep):
                last.update((key, (self._tombstone(key), True)) for key in step.keys)
        return [row for row, _ in last.values()], bytes(gone for _, gone in last.values())

    def _tombstone(self, key: Key) -> Row:
        parts = (key,) if len(self.table.key) == 1 else key
        keys = dict(zip(self.table.key, parts, strict=True))
        return tuple(
            keys.get(name, None if server.nullable else encoding.filler)
            for name, server, encoding in self._columns
        )


def _encoding(table: Table[Any], column: Column, server: ServerType, *, stored: bool) -> Encoding:
    declared = with_codec(column.type, server) if stored else column.type
    found = find_encoding(declared, server)
    if found is None:
        raise SchemaError(
            f"table {table.name!r}, column {column.name!r}: values of type {column.expected} "
            f"cannot be sent to a column of type {server}",
            table=table.name,
        )
    return found
