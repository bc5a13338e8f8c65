"""Values as bytes of the Native format: exact bytes, ranges, and back."""

from __future__ import annotations

import enum
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from forebay import Table
from forebay._table.columns import parse_annotation
from forebay.stores.clickhouse._declared import created_type, declaration_errors
from forebay.stores.clickhouse._encoding import ValueRefusedError
from forebay.stores.clickhouse._native import Block, decode_column, encode_column, merge_blocks
from forebay.stores.clickhouse._server_types import (
    call_arguments,
    parse_type,
    quote_name,
    split_arguments,
    unquote_name,
)
from forebay.stores.clickhouse._values import find_encoding
from tests.all_types import Everything

UUID_TEXT = "00112233-4455-6677-8899-aabbccddeeff"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "it's"


ENUM = r"Enum8('red' = 1, 'it\'s' = -2)"

GOLDEN: list[tuple[Any, str, list[Any], str]] = [
    (int, "Int8", [-128, 127], "80 7f"),
    (int, "UInt8", [0, 255, True], "00 ff 01"),
    (int, "Int16", [-2], "fe ff"),
    (int, "UInt32", [2**32 - 1], "ff ff ff ff"),
    (int, "Int64", [-(2**63)], "00 00 00 00 00 00 00 80"),
    (int, "UInt64", [2**63 - 1], "ff ff ff ff ff ff ff 7f"),
    (int, "Int128", [-1], "ff" * 16),
    (int, "UInt256", [258], "02 01" + "00" * 30),
    (bool, "Bool", [True, False], "01 00"),
    (bool, "UInt8", [True], "01"),
    (float, "Float32", [1.5], "00 00 c0 3f"),
    (float, "Float64", [-0.0, float("inf")], "00" * 7 + "80" + "00" * 6 + "f0 7f"),
    (str, "String", ["", "é", "x" * 128], "00 02 c3 a9 80 01" + "78" * 128),
    (str, "String", ["", "a", "x" * 127], "00 01 61 7f" + "78" * 127),
    (str, "String", ["a", "é"], "01 61 02 c3 a9"),
    (str, "String", ["x" * 300], "ac 02" + "78" * 300),
    (str, "LowCardinality(String)", ["a"], "01 61"),
    (bytes, "String", [b"\0\xff"], "02 00 ff"),
    (bytes, "FixedString(2)", [b"ab"], "61 62"),
    (str, "FixedString(2)", ["é"], "c3 a9"),
    (Colour, ENUM, ["it's", "red"], "fe 01"),
    (date, "Date", ["1970-01-02", "2149-06-06"], "01 00 ff ff"),
    (date, "Date32", ["1969-12-31"], "ff ff ff ff"),
    (datetime, "DateTime('UTC')", ["1970-01-01 00:00:01.000000+00:00"], "01 00 00 00"),
    (datetime, "DateTime64(3)", ["1970-01-01 00:00:00.001000+00:00"], "01" + "00" * 7),
    (datetime, "DateTime64(6, 'UTC')", ["1969-12-31 23:59:59.999999+00:00"], "ff" * 8),
    (datetime, "DateTime64(9)", ["1970-01-01 00:00:00.000001+00:00"], "e8 03" + "00" * 6),
    (UUID, "UUID", [UUID_TEXT], "7766554433221100 ffeeddccbbaa9988"),
    (Decimal, "Decimal(9, 2)", ["1.5", "-0.01"], "96 00 00 00 ff ff ff ff"),
    (Decimal, "Decimal(38, 0)", ["1"], "01" + "00" * 15),
    (Decimal, "Decimal(76, 0)", ["1"], "01" + "00" * 31),
]


@pytest.mark.parametrize(("annotation", "server", "values", "expected"), GOLDEN)
def test_values_have_exact_bytes(
    annotation: Any, server: str, values: list[Any], expected: str
) -> None:
    """The bytes are those that ClickHouse documents, and they decode to equal values."""
    encoding = find_encoding(parse_annotation(annotation), parse_type(server))
    assert encoding is not None
    data = encoding.encode(values)
    assert bytes.fromhex(expected) == data
    decoded = encoding.decode(data, len(values))
    if annotation is Decimal:
        values, decoded = [Decimal(v) for v in values], [Decimal(v) for v in decoded]
    assert values == decoded
    assert len(encoding.encode([encoding.filler])) > 0


REFUSED: list[tuple[Any, str, Any]] = [
    (int, "Int8", 128),
    (int, "UInt8", -1),
    (int, "UInt64", -1),
    (int, "UInt128", -1),
    (float, "Float32", 1e300),
    (str, "String", "\udce9"),
    (str, "FixedString(2)", "a"),
    (bytes, "FixedString(2)", b"abc"),
    (Colour, "Enum8('red' = 1)", "it's"),
    (date, "Date", "1969-12-31"),
    (date, "Date32", "1899-12-31"),
    (date, "Date32", "2300-01-01"),
    (datetime, "DateTime", "1969-12-31 23:59:59.000000+00:00"),
    (datetime, "DateTime", "2106-02-07 06:28:16.000000+00:00"),
    (datetime, "DateTime", "2026-01-01 00:00:00.500000+00:00"),
    (datetime, "DateTime64(3)", "2026-01-01 00:00:00.000001+00:00"),
    (datetime, "DateTime64(6)", "1899-12-31 23:59:59.000000+00:00"),
    (datetime, "DateTime64(9)", "2262-04-12 00:00:00.000000+00:00"),
    (Decimal, "Decimal(4, 2)", "100"),
    (Decimal, "Decimal(4, 2)", "0.001"),
    (Decimal, "Decimal(4, 2)", "Infinity"),
    (Decimal, "Decimal(4, 2)", "1E+999999"),
]


@pytest.mark.parametrize(("annotation", "server", "value"), REFUSED)
def test_a_value_that_the_server_would_change_is_refused(
    annotation: Any, server: str, value: Any
) -> None:
    """The server checks no ranges, so each value is checked before it is sent."""
    encoding = find_encoding(parse_annotation(annotation), parse_type(server))
    assert encoding is not None
    with pytest.raises(ValueRefusedError):
        encoding.encode([encoding.filler, value])


@pytest.mark.parametrize(
    ("annotation", "server"),
    [
        (int, "String"),
        (int, "Float64"),
        (int, "Bool"),
        (str, "Int64"),
        (str, "UUID"),
        (str, "DateTime"),
        (float, "Int64"),
        (date, "DateTime"),
        (datetime, "Date"),
        (bool, "String"),
        (bytes, "UUID"),
        (int | str, "String"),
        (str, "Array(String)"),
        (str, "JSON"),
        (str, "Map(String, String)"),
        (int, "IPv4"),
    ],
)
def test_types_that_do_not_fit_have_no_encoding(annotation: Any, server: str) -> None:
    """A column of another type is refused by name, when the store opens."""
    assert find_encoding(parse_annotation(annotation), parse_type(server)) is None


def test_a_column_with_nulls() -> None:
    """Each NULL has a byte in the map of NULLs, and a filler among the values."""
    server = parse_type("LowCardinality(Nullable(String))")
    encoding = find_encoding(parse_annotation(str | None), server)
    assert encoding is not None
    column = encode_column("c", server, encoding, ["a", None])
    assert "Nullable(String)" == column.type
    assert b"\0\1" == column.nulls
    assert b"\1a\0" == column.data
    assert ["a", None] == decode_column(column, encoding, 2)


def test_a_block_has_exact_bytes_and_is_found_again_by_its_layout() -> None:
    """A block: the numbers of columns and rows, then each column with its name and type."""
    server = parse_type("Nullable(UInt8)")
    encoding = find_encoding(parse_annotation(int | None), server)
    assert encoding is not None
    block = Block(2, (encode_column("é", server, encoding, [7, None]),))
    body = block.to_bytes()
    assert b"\1\2\2\xc3\xa9\x0fNullable(UInt8)\0\1\7\0" == body
    assert block == Block.from_bytes(body, block.layout())
    with pytest.raises(ValueError, match="bytes"):
        Block.from_bytes(body[:-1], block.layout())
    merged = merge_blocks([block, block])
    assert 4 == merged.rows
    assert [7, None, 7, None] == decode_column(merged.columns[0], encoding, 4)


def test_arguments_are_split_at_the_outermost_commas() -> None:
    """Quotes, escapes and parentheses are respected."""
    text = r"a, f(b, c), 'd,\'e', `g,h`"
    assert ["a", "f(b, c)", r"'d,\'e'", "`g,h`"] == list(split_arguments(text))
    assert [] == list(split_arguments(" "))
    parsed = parse_type(r"SimpleAggregateFunction(any, LowCardinality(Nullable(String)))")
    assert ("String", True, "any") == (parsed.name, parsed.nullable, parsed.aggregate)
    assert {"a": 1, "b'c\\": -2} == parse_type(r"Enum16('a' = 1, 'b\'c\\' = -2)").members()


def test_names_of_types_and_columns_may_be_anything() -> None:
    """A type that is no call has no arguments, and a name in backquotes has escapes."""
    odd = parse_type("Object('json') x")
    assert ("Object('json') x", ()) == (odd.name, odd.arguments)
    for name in ("plain", "a`b", "a\\b"):
        assert name == unquote_name(quote_name(name))
    assert "plain" == unquote_name("plain")
    assert ["'c'", "'d'"] == call_arguments("Distributed('c', 'd') SETTINGS a = 1")
    assert [] == call_arguments("MergeTree ORDER BY a")


def test_a_type_that_create_makes_takes_the_values_of_its_column() -> None:
    """A declaration without such a type is refused: a created table would never pass the checks."""
    table = Table(Everything, name="everything")
    created = {column.name: parse_type(created_type(column)) for column in table.columns}
    refused = [
        column.name
        for column in table.columns
        if find_encoding(column.type, created[column.name]) is None
    ]
    errors = [str(error) for error in declaration_errors(table)]
    assert ["any", "several"] == refused
    assert [True, True] == [
        f"column {name!r}" in error for name, error in zip(refused, errors, strict=True)
    ]
