"""Encode operations and declarations as JSON: decoding returns the original, in strict JSON."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import Delete, DeleteBy, Keep, Max, Merge, Replace, Sum, Table, Update, Write
from forebay._table.json_format import (
    decode_declaration,
    decode_operation,
    describe_operation,
    encode_declaration,
    encode_operation,
)
from forebay._table.operations import Operation
from forebay._table.table import value_columns

CODE_POINTS = st.characters(codec=None, exclude_categories=())
TEXTS = st.text(CODE_POINTS) | st.sampled_from(["\0", "\ud83d\ude00", "\\udce9\udce9", "\u2028"])
VALUES = {
    str: TEXTS,
    int: st.integers() | st.sampled_from([2**53, -(2**63), 2**63, 2**64, 10**5000]),
    float: st.floats(allow_nan=False) | st.sampled_from([-0.0, math.inf, 5e-324]),
    bytes: st.binary(),
}
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
    lambda name: not name.casefold().startswith(("sqlite_", "forebay_"))
)


@st.composite
def tables(draw: st.DrawFn) -> Table[tuple[Any, ...]]:
    """Draw any valid declaration."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique_by=str.casefold))
    key = names[: draw(st.integers(0, len(names)))]
    columns = {}
    merge = {}
    for name in names:
        storage = draw(st.sampled_from(list(VALUES)))
        if name in key:
            columns[name] = storage
            continue
        nullable, one = draw(st.booleans()), draw(st.booleans())
        base: Any = storage if one else str | int | float | bytes
        columns[name] = base | None if nullable else base
        if key:
            numeric = one and storage in (int, float)
            rules = [Replace, Keep] + [Merge.MIN, Max] * one + [Sum] * numeric
            merge[name] = draw(st.sampled_from(rules))
    typed = [name for name in names if columns[name] != (str | int | float | bytes)]
    typed = [name for name in typed if columns[name] != (str | int | float | bytes | None)]
    return Table.from_columns(
        columns,
        name=draw(NAMES),
        key=key or None,
        merge=merge,
        delete_by=draw(st.none() | st.sampled_from(typed)) if typed else None,
        nan_as_null=draw(st.booleans()),
    )


@st.composite
def tables_and_operations(draw: st.DrawFn) -> tuple[Table[Any], Any]:
    """Draw a table and an operation that its buffer may hold, with values of all types."""
    table = draw(tables())
    anything = st.none() | st.booleans() | st.one_of(*VALUES.values())
    key = st.tuples(
        *(VALUES[c.storage] for c in table.columns if c.name in table.key and c.storage)
    )
    if len(table.key) == 1:
        key = key.map(lambda values: values[0])
    kinds: list[st.SearchStrategy[Any]] = [
        st.builds(Write, st.tuples(*(anything for _ in table.columns)))
    ]
    if table.key:
        kinds.append(st.builds(Delete, key))
        if value_columns(table):
            names = st.sampled_from([column.name for column in value_columns(table)])
            kinds.append(st.builds(Update, key, st.dictionaries(names, anything, min_size=1)))
    if table.delete_by is not None:
        kinds.append(st.builds(DeleteBy, st.one_of(*VALUES.values())))
    return table, draw(st.one_of(*kinds))


def refuse(constant: str) -> None:
    """Raise an error for a JSON constant that the standard does not allow."""
    raise ValueError(constant)


def values(operation: Operation) -> list[Any]:
    """Return the key and the values of an operation."""
    match operation:
        case Write(row):
            return list(row)
        case Update(key, columns):
            return [key, *columns.values()]
        case Delete(value) | DeleteBy(value):
            return [value]


def type_and_sign(value: Any) -> Any:
    """Return what `==` ignores: the type, and the sign of a zero."""
    if isinstance(value, tuple):
        return tuple(map(type_and_sign, value))
    sign = math.copysign(1, value) if isinstance(value, float) else 0
    return int if isinstance(value, bool) else type(value), sign


@given(tables_and_operations())
def test_decoding_returns_the_encoded_operation(drawn: tuple[Table[Any], Any]) -> None:
    """This holds for every table and all values, with the decoded declaration of the table."""
    table, operation = drawn
    text = encode_operation(table, operation)
    back = decode_operation(decode_declaration(encode_declaration(table)), text)
    assert operation == back
    expected = list(map(type_and_sign, values(operation)))
    assert expected == list(map(type_and_sign, values(back)))


@given(tables_and_operations())
def test_the_text_is_strict_json(drawn: tuple[Table[Any], Any]) -> None:
    """The text has no NUL, no non-standard constant, and no integer that a float would change."""
    table, operation = drawn
    for text in (encode_operation(table, operation), encode_declaration(table)):
        assert "\0" not in text
        assert "\n" not in text
        assert text == text.encode().decode()
        json.loads(
            text,
            parse_constant=refuse,
            parse_int=lambda digits: refuse(digits) if int(float(digits)) != int(digits) else 0,
        )


@given(tables())
def test_decoding_returns_the_encoded_declaration(table: Table[Any]) -> None:
    """The columns with their types and rules, the key and the other arguments are the same."""
    back = decode_declaration(encode_declaration(table))
    assert table.columns == back.columns
    assert (table.name, table.key, table.delete_by) == (back.name, back.key, back.delete_by)
    assert table.nan_as_null == back.nan_as_null


class Size(NamedTuple):
    key: str
    part: int
    size: object
    owner: str | None


SIZES = Table(Size, name="sizes", key=("key", "part"), delete_by="owner")


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (
            Write(Size("ä", 1, b"\0\xff", None)),
            '{"write": {"key": "ä", "part": 1, "size": {"base64": "AP8="}, "owner": null}}',
        ),
        (
            Update(("a", 1), {"size": -math.inf}),
            '{"update": {"key": {"key": "a", "part": 1}, "set": {"size": {"float": "-inf"}}}}',
        ),
        (
            Update(("a", -1), {"size": 1.5, "owner": True}),
            '{"update": {"key": {"key": "a", "part": -1}, "set": {"size": 1.5, "owner": 1}}}',
        ),
        (
            Delete(("caf\udce9", 2**53)),
            r'{"delete": {"key": {"escaped": "caf\\udce9"}, "part": {"int": "9007199254740992"}}}',
        ),
        (DeleteBy("a\0"), r'{"delete_by": {"owner": "a\u0000"}}'),
    ],
)
def test_encoded_text(operation: Any, expected: str) -> None:
    """Values have the names of their columns; values that JSON does not have are tagged."""
    assert expected == encode_operation(SIZES, operation)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Expecting value"),
        ("[]", "an operation must be an object"),
        ("{}", "with 1 member"),
        ('{"upsert": {}}', "unknown operation 'upsert': expected write, update, delete, delete_by"),
        ('{"write": {"key": "a"}}', "expected the columns key, part, size, owner, got key"),
        ('{"write": null}', "must be an object"),
        (
            '{"write": {"key": "a", "part": 1, "size": [1], "owner": ""}}',
            "lists are not allowed",
        ),
        ('{"write": {"key": "a", "part": 1, "size": NaN, "owner": ""}}', "NaN is not JSON"),
        ('{"write": {"key": "a", "part": 1, "size": {"b": "a"}, "owner": ""}}', "invalid value"),
        ('{"write": {"key": "a", "part": 1, "size": {"int": 1}, "owner": ""}}', "invalid value"),
        ('{"write": {"key": "a", "part": 1, "size": {"base64": "é"}, "owner": ""}}', "ASCII"),
        (
            '{"write": {"key": "a", "part": 1, "size": {"base64": "AP8=!"}, "owner": ""}}',
            "(?i)base64|padding",
        ),
        ('{"update": {"key": {"key": "a", "part": 1}, "set": {}}}', "'set' must name columns"),
        ('{"update": {"key": {"key": "a", "part": 1}, "set": {"key": 1}}}', "outside its key"),
        ('{"update": {"key": {"key": "a", "part": 1}, "to": {}}}', "'key' and 'set'"),
        ('{"delete": {"key": "a"}}', "expected the columns key, part, got key"),
        ('{"delete_by": {"size": 1}}', "expected the columns owner"),
    ],
)
def test_an_invalid_operation_is_refused(text: str, expected: str) -> None:
    """Every kind of damage raises ValueError and no other error."""
    with pytest.raises(ValueError, match=expected):
        decode_operation(SIZES, text)


@pytest.mark.parametrize("text", ['{"delete": {"a": 1}}', '{"delete_by": {"a": 1}}'])
def test_an_operation_that_the_table_does_not_support_is_refused(text: str) -> None:
    """A delete needs a key, and a delete_by needs the declared column."""
    with pytest.raises(ValueError, match=r"no key|no delete_by"):
        decode_operation(Table.from_columns({"a": int}, name="t"), text)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        "{}",
        encode_declaration(SIZES).replace('"any"', '"blob"'),
        encode_declaration(SIZES).replace('"replace"', '"newest"'),
        encode_declaration(SIZES).replace('"key": ["key", "part"]', '"key": ["size"]'),
    ],
)
def test_an_invalid_declaration_is_refused(text: str) -> None:
    """Every kind of damage raises ValueError and no other error."""
    with pytest.raises(ValueError, match=r"declaration|Expecting"):
        decode_declaration(text)


def test_a_rule_for_all_columns_is_encoded_without_the_key() -> None:
    """A table with `Sum` for all columns may have a text key."""
    table = Table.from_columns({"url": str, "hits": int}, name="t", key="url", merge=Sum)
    assert [Replace, Sum] == [column.merge for column in table.columns]
    assert table.columns == decode_declaration(encode_declaration(table)).columns


PAIRS = Table.from_columns({"k": int, "v": str}, name="pairs", key="k", delete_by="v")
LOG = Table.from_columns({"line": str}, name="log")


@pytest.mark.parametrize(
    ("table", "operation", "expected"),
    [
        (PAIRS, Write((1, "a")), 'write of {"k": 1}'),
        (PAIRS, Write((10**5000, "a")), 'write of {"k": {"int": "0x'),
        (PAIRS, Update(1, {"v": "a"}), 'update of {"k": 1}'),
        (PAIRS, Delete(1), 'delete of {"k": 1}'),
        (PAIRS, DeleteBy("a\udce9"), 'delete_by of {"v": {"escaped": "a\\\\udce9"}}'),
        (LOG, Write(("a" * 1000,)), 'write of {"line": "aaa'),
    ],
)
def test_describe_operation(table: Table[Any], operation: Operation, expected: str) -> None:
    """The text has the key, or the row if there is no key, is short, and is printable."""
    text = describe_operation(table, operation)
    assert expected == text[: len(expected)]
    assert len(text) < 230
    assert text.encode()
