"""Blocks are read again, cut in two, and refused if they are not what their table is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forebay import FlushReason, Table
from forebay._batching.coalesce import Coalescer
from forebay._table.operations import Delete, Operation, Write
from forebay.stores.clickhouse._encoder import BlockEncoder
from forebay.stores.clickhouse._native import Block
from tests.stores.clickhouse.tools import Page, pages

appended = Table(Page, name="appended")
TYPES = {"url": "String", "status": "Nullable(Int64)"}
ENTRIES: list[Any] = [("/", 200), Delete("/a"), ("/b", None)]


def encoded(table: Table[Any], entries: list[Any]) -> tuple[BlockEncoder, Block]:
    """Return the encoder of a table, and the one block that it makes of entries."""
    coalescer = Coalescer(table)
    coalescer.add(entries, only_rows=all(isinstance(entry, tuple) for entry in entries))
    encoder = BlockEncoder(table, "app", TYPES)
    [block] = encoder.encode(coalescer.take(FlushReason.FULL), 7)
    return encoder, block


def operations(encoder: BlockEncoder, *blocks: Block) -> list[Operation]:
    return [operation for block in blocks for operation in encoder.decode(block)]


@pytest.mark.parametrize("table", [appended, pages], ids=["appended", "replaced"])
def test_the_halves_of_a_block_have_its_rows(table: Table[Any]) -> None:
    """In the same order. A tombstone stays one, and each row keeps its version."""
    entries = ENTRIES if table is pages else [("/", 200), ("/b", None), ("/", 200)]
    encoder, block = encoded(table, entries)
    halves = encoder.split(block)
    assert [1, 2] == [half.rows for half in halves]
    expected = operations(encoder, block)
    assert 3 == len(expected)
    assert expected == operations(encoder, *halves)
    assert [[column.name for column in block.columns]] * 2 == [
        [column.name for column in half.columns] for half in halves
    ]
    for number, column in enumerate(block.columns):
        assert column.data == b"".join(half.columns[number].data for half in halves)


def test_a_block_comes_back_as_the_operations_that_it_was_made_of() -> None:
    """Rows of a table that replaces are writes, and tombstones are deletes."""
    found = operations(*encoded(pages, ENTRIES))
    assert {Write(("/", 200)), Delete("/a"), Write(("/b", None))} == set(found)
    assert [Write(("/", 200))] == operations(*encoded(appended, [("/", 200)]))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([("url", "String"), ("other", "Nullable(Int64)")], "other"),
        ([("url", "String"), ("status", "Array(String)")], "Array"),
    ],
    ids=["another column", "a type without an encoding"],
)
def test_a_block_of_another_table_is_refused(header: list[tuple[str, str]], message: str) -> None:
    """The message has what the block says."""
    encoder, block = encoded(appended, [("/", 200)])
    columns = [
        replace(column, name=name, type=server)
        for column, (name, server) in zip(block.columns, header, strict=True)
    ]
    with pytest.raises(ValueError, match=message):
        encoder.of_block(Block(block.rows, tuple(columns)))


def test_a_damaged_block_is_refused() -> None:
    """Its layout, its length, or the values of a column are not what they were."""
    encoder, block = encoded(appended, [("/", 200), ("/b", 3)])
    assert block == Block.from_bytes(block.to_bytes(), block.layout())
    for layout in ("", "{}", "[]"):
        with pytest.raises(ValueError, match="layout"):
            Block.from_bytes(block.to_bytes(), layout)
    with pytest.raises(ValueError, match="bytes"):
        Block.from_bytes(block.to_bytes()[:-1], block.layout())
    urls, sizes = block.columns
    for columns in ((replace(urls, data=urls.data[:2]), sizes), (urls, replace(sizes, data=b""))):
        with pytest.raises(ValueError, match="damaged"):
            encoder.decode(Block(block.rows, columns))
