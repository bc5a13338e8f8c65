"""Declare tables: which row types, annotations, keys and rules are valid, and the errors."""

from __future__ import annotations

import collections
import dataclasses
import enum
import re
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar

import attrs
import msgspec
import pytest

from forebay import Keep, Max, Merge, Min, Replace, Sum, Table
from forebay._table.row_merger import RowMerger
from forebay._table.table import key_getter
from forebay._table.validation import RowValidator

Cents = NewType("Cents", int)
T = TypeVar("T")


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Hit(NamedTuple):
    url: str
    size: int
    first_seen: float


class HitTuple(NamedTuple):
    url: str
    size: int | None = None


@dataclasses.dataclass
class HitData:
    url: str
    size: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HitSlots:
    url: str
    size: int | None = None


@attrs.define
class HitAttrs:
    url: str
    size: int | None = None


@attrs.frozen(kw_only=True)
class HitFrozen:
    url: str
    size: int | None = None


class HitStruct(msgspec.Struct):
    url: str
    size: int | None = None


class HitSealed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    url: str
    size: int | None = None


ROW_TYPES: list[type[Any]] = [
    HitTuple,
    HitData,
    HitSlots,
    HitAttrs,
    HitFrozen,
    HitStruct,
    HitSealed,
]


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_the_fields_of_a_row_type_are_the_columns_in_order(row_type: type[Any]) -> None:
    """A row type can be a NamedTuple, a dataclass, an attrs class or a msgspec Struct."""
    table = Table(row_type, name="hits", key="url")

    assert [("url", str, False), ("size", int, True)] == [
        (column.name, column.storage, column.nullable) for column in table.columns
    ]
    assert table.row_type is row_type


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_a_row_becomes_the_tuple_of_its_values(row_type: type[Any]) -> None:
    """For every row type, the validator returns plain tuples in the order of the columns."""
    table = Table(row_type, name="hits", key="url")

    rows = RowValidator(table).validate_rows([row_type(url="a", size=1), row_type(url="b")])

    assert [("a", 1), ("b", None)] == [tuple(row) for row in rows]


def test_a_row_with_one_field_becomes_a_tuple_of_one_value() -> None:
    """A row type may have a single field."""

    @dataclasses.dataclass
    class Name:
        name: str

    table = Table(Name, name="names", key="name")

    assert [("a",)] == RowValidator(table).validate_rows([Name("a")])


@dataclasses.dataclass
class Late:
    when: Undefined  # type: ignore[name-defined]  # noqa: F821  # on purpose


Untyped = collections.namedtuple("Untyped", "a b")  # noqa: PYI024  # on purpose


@pytest.mark.parametrize(
    ("annotation", "storage", "nullable"),
    [
        (str, str, False),
        (int, int, False),
        (float, float, False),
        (bytes, bytes, False),
        (bool, int, False),
        (bytearray, bytes, False),
        (memoryview, bytes, False),
        (int | None, int, True),
        (int | float, float, False),
        (bool | int, int, False),
        (int | bool | float | None, float, True),
        (str | int, None, False),
        (str | int | None, None, True),
        (Any, None, True),
        (object, None, True),
        (None, None, True),
        (Cents, int, False),
        (Cents | None, int, True),
        (Annotated[int, "cents"], int, False),
        (Annotated[int | None, "cents"], int, True),
        (Annotated[Cents, "cents"] | None, int, True),
        (Literal["a", "b"], str, False),
        (Literal[1, 2] | None, int, True),
        (Literal["a", 1], None, False),
        (Literal[Colour.RED], str, False),
        (Colour, str, False),
        (Level, int, False),
        (Level | None, int, True),
    ],
)
def test_an_annotation_declares_the_storage_type_of_a_column(
    annotation: Any, storage: type | None, nullable: bool
) -> None:
    """An annotation means one storage type, or any, and may allow None."""
    [column] = Table.from_columns({"c": annotation}, name="t").columns

    assert (storage, nullable) == (column.storage, column.nullable)


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (complex, "complex"),
        (list[int], "list"),
        (dict, "dict"),
        (str | list[int], "list"),
        (T, "T"),
        ("int", "int"),
    ],
)
def test_an_annotation_that_sqlite_cannot_store_is_refused(annotation: Any, name: str) -> None:
    """The error names the table, the column and the type, and lists the valid types."""
    message = (
        f"table 't', column 'c': SQLite cannot store a value of type {name}; declare str, int, "
        "float, bytes, bool, datetime, date, time, UUID, Decimal or an Enum, or a codec: "
        f"Annotated[{name}, forebay.Json] or Annotated[{name}, forebay.Codec(…)]"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        Table.from_columns({"c": annotation}, name="t")


class Box(NamedTuple, Generic[T]):
    value: T


REFUSED_ROW_TYPE = "row_type must be a NamedTuple, a dataclass, an attrs class or a msgspec Struct"


@pytest.mark.parametrize(
    ("row_type", "message"),
    [
        (dict, f"{REFUSED_ROW_TYPE}, not <class 'dict'>"),
        (tuple, f"{REFUSED_ROW_TYPE}, not <class 'tuple'>"),
        (HitData("a"), f"{REFUSED_ROW_TYPE}, not HitData(url='a', size=None)"),
        (None, f"{REFUSED_ROW_TYPE}, not None"),
        (
            Untyped,
            (
                "row_type Untyped: no annotation on 'a', 'b'; annotate each field with the type "
                "of its values, such as `a: str`"
            ),
        ),
        (
            attrs.make_class("Vague", ["x"]),
            (
                "row_type Vague: no annotation on 'x'; annotate each field with the type of its "
                "values, such as `x: str`"
            ),
        ),
        (
            Late,
            (
                "row_type Late: cannot resolve its annotations: name 'Undefined' is not defined; "
                "define the row type, and every type that it names, at the top level of a module"
            ),
        ),
        (
            Box,
            (
                "table 't', column 'value': SQLite cannot store a value of type T; declare str, "
                "int, float, bytes, bool, datetime, date, time, UUID, Decimal or an Enum, or a "
                "codec: Annotated[T, forebay.Json] or Annotated[T, forebay.Codec(…)]"
            ),
        ),
    ],
)
def test_an_invalid_row_type_is_refused(row_type: Any, message: str) -> None:
    """The error names the row type and the field, and says what to write instead."""
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        Table(row_type, name="t")


INVALID_NAME = "table name must be a non-empty text without NUL characters"
INVALID_KEY = "key must name one or more columns, each only once"
ONE_TYPE = "must have exactly one of the types str, int, float and bytes"
COLUMNS = {"a": str, "b": int, "c": float | None, "d": str | int, "e": bytes | None}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": ""}, ValueError, f"{INVALID_NAME}, got ''"),
        ({"name": "a\0"}, ValueError, f"{INVALID_NAME}, got 'a"),
        ({"name": "\ud800"}, ValueError, f"{INVALID_NAME}, got"),
        ({"name": 5}, ValueError, f"{INVALID_NAME}, got 5"),
        (
            {"name": "SQLite_x"},
            ValueError,
            (
                "table name 'SQLite_x' is reserved for SQLite; choose a name that does not start "
                "with 'sqlite_'"
            ),
        ),
        (
            {"columns": {}},
            ValueError,
            "table 't' has no columns, since its row type has no fields; declare at least one",
        ),
        (
            {"columns": {"": int}},
            ValueError,
            "table 't': invalid column name ''; use a non-empty text without NUL characters",
        ),
        (
            {"columns": {"a": int, "A": int}},
            ValueError,
            (
                "table 't': duplicate column names 'a' and 'A': column names are case-insensitive "
                "in SQLite"
            ),
        ),
        (
            {"key": "x"},
            ValueError,
            "table 't': key names the unknown column 'x'; the columns are a, b, c, d, e",
        ),
        ({"key": ()}, ValueError, f"table 't': {INVALID_KEY}, got ()"),
        (
            {"key": ["a", "a"]},
            ValueError,
            f"table 't': {INVALID_KEY}, got ('a', 'a')",
        ),
        (
            {"key": 5},
            TypeError,
            "table 't': key must be a column name or a sequence of column names, got 5",
        ),
        (
            {"key": "c"},
            TypeError,
            (
                f"table 't': key column 'c' {ONE_TYPE}, and must not allow None (NULLs are never "
                f"equal in SQL)"
            ),
        ),
        (
            {"key": "d"},
            TypeError,
            (
                f"table 't': key column 'd' {ONE_TYPE}, and must not allow None (NULLs are never "
                f"equal in SQL)"
            ),
        ),
        (
            {"key": "a", "merge": {"x": Sum}},
            ValueError,
            "table 't': merge names the unknown column 'x'; the columns are a, b, c, d, e",
        ),
        (
            {"key": "a", "merge": {"a": Keep}},
            ValueError,
            (
                "table 't': key column 'a' has a merge rule, but rows that merge have the same "
                "key; remove the rule"
            ),
        ),
        (
            {"key": "a", "merge": {"b": "sum"}},
            TypeError,
            "table 't', column 'b': merge must be a forebay.Merge, got 'sum'",
        ),
        (
            {"key": "a", "merge": {"e": Sum}},
            TypeError,
            "table 't', column 'e': declared as bytes | None, but Sum needs int or float",
        ),
        (
            {"key": "a", "merge": {"d": Min}},
            TypeError,
            (
                "table 't', column 'd': declared as str | int, but Min needs str, int, float or "
                "bytes"
            ),
        ),
        (
            {"merge": {"b": Sum}},
            ValueError,
            (
                "table 't': merge rules need a key, since rows merge by key; add a key or remove "
                "the rules"
            ),
        ),
        (
            {"merge": Keep},
            ValueError,
            (
                "table 't': merge rules need a key, since rows merge by key; add a key or remove "
                "the rules"
            ),
        ),
        (
            {"delete_by": "x"},
            ValueError,
            "table 't': delete_by names the unknown column 'x'; the columns are a, b, c, d, e",
        ),
        (
            {"delete_by": "d"},
            TypeError,
            f"table 't': delete_by column 'd' {ONE_TYPE}",
        ),
    ],
)
def test_an_invalid_declaration_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The error names the argument and its value, and says what is valid."""
    columns = arguments.pop("columns", COLUMNS)
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        Table.from_columns(columns, **{"name": "t", **arguments})


@pytest.mark.parametrize("rule", [Replace, Keep, Sum, Min, Max])
def test_one_rule_for_all_columns_does_not_apply_to_the_key(rule: Merge) -> None:
    """Key columns are never merged, so a rule that does not fit their type is valid."""
    table = Table.from_columns({"k": str, "n": int}, name="t", key="k", merge=rule)

    assert [Replace, rule] == [column.merge for column in table.columns]


def test_a_rule_for_all_columns_does_not_add_up_keys() -> None:
    """With `Sum` for all columns, an integer key stays unchanged."""
    table = Table.from_columns({"k": int, "n": int}, name="t", key="k", merge=Sum)

    assert (7, 3) == RowMerger(table).merge((7, 1), (7, 2))


def test_names_that_differ_in_the_case_of_other_letters_are_two_columns() -> None:
    """SQLite ignores the case of the letters A to Z only."""
    table = Table.from_columns({"É": int, "é": int, "ß": int, "ss": int}, name="t")

    assert ["É", "é", "ß", "ss"] == [column.name for column in table.columns]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (Table(Hit, name="hits", key="url"), "<forebay.Table 'hits' of Hit, key url>"),
        (
            Table(Hit, name="hits", key=("url", "size")),
            "<forebay.Table 'hits' of Hit, key url, size>",
        ),
        (Table(Hit, name="hits"), "<forebay.Table 'hits' of Hit, append-only>"),
        (Table.from_columns({"a": int}, name="t"), "<forebay.Table 't' of tuple, append-only>"),
    ],
)
def test_repr(table: Table[Any], text: str) -> None:
    """The repr shows the table's name, its row type and its key."""
    assert text == repr(table)


@pytest.mark.parametrize(
    ("key", "expected"), [("url", "a"), (["url"], "a"), (("size", "url"), (1, "a"))]
)
def test_key_getter(key: Any, expected: Any) -> None:
    """A key is a value, or a tuple in the declared order if the key has several columns."""
    assert expected == key_getter(Table(Hit, name="hits", key=key))(Hit("a", 1, 2.0))


def test_key_getter_refuses_an_append_only_table() -> None:
    """The error names the table."""
    with pytest.raises(TypeError, match=r"^table 'hits' has no key$"):
        key_getter(Table(Hit, name="hits"))


@pytest.mark.parametrize(
    ("merge", "replaces"),
    [(Replace, True), (Keep, False), ({"size": Sum}, False), ({"size": Replace}, True)],
)
def test_rows_replace_each_other_if_all_rules_are_replace(merge: Any, replaces: bool) -> None:
    """Only then does a later row replace an earlier one as a whole."""
    assert replaces == RowMerger(Table(Hit, name="hits", key="url", merge=merge)).replaces_rows


@pytest.mark.parametrize("name", ["forebay_dead_letters", "Forebay_progress"])
def test_names_of_forebays_own_tables_are_reserved(name: str) -> None:
    """A program cannot declare a table that forebay creates itself, such as its dead letters."""
    with pytest.raises(ValueError, match="is reserved for forebay; choose a name that does not"):
        Table.from_columns({"k": int}, name=name, key="k")
