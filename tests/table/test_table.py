"""What a declaration takes, what it refuses and in which words."""

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


class Plain(enum.Enum):
    ONE = "one"


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
    """NamedTuples, dataclasses, attrs classes and msgspec Structs all declare columns."""
    table = Table(row_type, name="hits", key="url")

    assert [("url", str, False), ("size", int, True)] == [
        (column.name, column.storage, column.nullable) for column in table.columns
    ]
    assert table.row_type is row_type


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_a_row_becomes_the_tuple_of_its_values(row_type: type[Any]) -> None:
    """Whatever the row type, the buffer holds plain tuples in the order of the columns."""
    table = Table(row_type, name="hits", key="url")

    rows = RowValidator(table).validate_rows([row_type(url="a", size=1), row_type(url="b")])

    assert [("a", 1), ("b", None)] == [tuple(row) for row in rows]


def test_a_row_type_of_one_field_gives_tuples_of_one_value() -> None:
    """One column needs no special care of the caller."""

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
def test_an_annotation_tells_what_a_column_stores(
    annotation: Any, storage: type | None, nullable: bool
) -> None:
    """Each annotation means one storage type, or any, and allows None or does not."""
    [column] = Table.from_columns({"c": annotation}, name="t").columns

    assert (storage, nullable) == (column.storage, column.nullable)


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (complex, "complex"),
        (list[int], "list"),
        (dict, "dict"),
        (Plain, "Plain"),
        (str | list[int], "list"),
        (T, "T"),
        ("int", "int"),
    ],
)
def test_an_annotation_that_sqlite_cannot_hold_is_refused(annotation: Any, name: str) -> None:
    """The error names table, column and type, and says what can be declared instead."""
    message = (
        f"table 't', column 'c': SQLite cannot hold a {name}; declare str, int, float, bytes or "
        "bool (times as numbers, ids as str or bytes)"
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
                "row_type Untyped: 'a', 'b' without an annotation; write the type that SQLite is "
                "to hold, as in `a: str`"
            ),
        ),
        (
            attrs.make_class("Vague", ["x"]),
            (
                "row_type Vague: 'x' without an annotation; write the type that SQLite is to hold, "
                "as in `x: str`"
            ),
        ),
        (
            Late,
            (
                "the annotations of row_type Late cannot be resolved: name 'Undefined' is not "
                "defined; define the row type, and what it names, at the top of a module"
            ),
        ),
        (
            Box,
            (
                "table 't', column 'value': SQLite cannot hold a T; declare str, int, float, bytes "
                "or bool (times as numbers, ids as str or bytes)"
            ),
        ),
    ],
)
def test_a_row_type_without_columns_that_sqlite_can_hold_is_refused(
    row_type: Any, message: str
) -> None:
    """The error names the row type, the field, and what to write instead."""
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        Table(row_type, name="t")


COLUMNS = {"a": str, "b": int, "c": float | None, "d": str | int, "e": bytes | None}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": ""}, ValueError, "name must be text that is not empty, without NUL; got ''"),
        ({"name": "a\0"}, ValueError, "name must be text that is not empty, without NUL; got 'a"),
        ({"name": "\ud800"}, ValueError, "name must be text that is not empty, without NUL; got"),
        ({"name": 5}, ValueError, "name must be text that is not empty, without NUL; got 5"),
        (
            {"name": "SQLite_x"},
            ValueError,
            "name 'SQLite_x' is SQLite's own: choose one without 'sqlite_'",
        ),
        (
            {"columns": {}},
            ValueError,
            "table 't' has no columns: its row type has no fields",
        ),
        (
            {"columns": {"": int}},
            ValueError,
            "table 't': a column cannot be named ''; choose text that is not empty, without NUL",
        ),
        (
            {"columns": {"a": int, "A": int}},
            ValueError,
            "table 't': two columns have one name, as SQLite tells no case: a, A",
        ),
        (
            {"key": "x"},
            ValueError,
            "table 't': key names 'x', which is no column; there are a, b, c, d, e",
        ),
        ({"key": ()}, ValueError, "table 't': key must name each column once, got ()"),
        (
            {"key": ["a", "a"]},
            ValueError,
            "table 't': key must name each column once, got ('a', 'a')",
        ),
        ({"key": 5}, TypeError, "key must be the name of a column, or names of several; got 5"),
        (
            {"key": "c"},
            TypeError,
            (
                "table 't': key column 'c' must be of one type out of str, int, float and bytes, "
                "and never None (NULLs are never equal in SQL)"
            ),
        ),
        (
            {"key": "d"},
            TypeError,
            (
                "table 't': key column 'd' must be of one type out of str, int, float and bytes, "
                "and never None (NULLs are never equal in SQL)"
            ),
        ),
        (
            {"key": "a", "merge": {"x": Sum}},
            ValueError,
            "table 't': merge names 'x', which is no column; there are a, b, c, d, e",
        ),
        (
            {"key": "a", "merge": {"a": Keep}},
            ValueError,
            (
                "table 't': key column 'a' has a merge rule, but rows with one key have it in "
                "common; drop the rule"
            ),
        ),
        (
            {"key": "a", "merge": {"b": "sum"}},
            TypeError,
            "table 't': merge of 'b' must be a forebay.Merge, not 'sum'",
        ),
        (
            {"key": "a", "merge": {"e": Sum}},
            TypeError,
            "table 't': column 'e' is declared bytes | None, but Sum needs one of int, float",
        ),
        (
            {"key": "a", "merge": {"d": Min}},
            TypeError,
            (
                "table 't': column 'd' is declared str | int, but Min needs one of str, int, "
                "float, bytes"
            ),
        ),
        (
            {"merge": {"b": Sum}},
            ValueError,
            (
                "table 't': merge rules need a key, which tells what a row is merged with; name "
                "one, or drop the rules"
            ),
        ),
        (
            {"merge": Keep},
            ValueError,
            (
                "table 't': merge rules need a key, which tells what a row is merged with; name "
                "one, or drop the rules"
            ),
        ),
        (
            {"delete_by": "x"},
            ValueError,
            "table 't': delete_by names 'x', which is no column; there are a, b, c, d, e",
        ),
        (
            {"delete_by": "d"},
            TypeError,
            "table 't': delete_by column 'd' must be of one type out of str, int, float and bytes",
        ),
    ],
)
def test_a_declaration_that_cannot_hold_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The error names the argument, its value, and what would do."""
    columns = arguments.pop("columns", COLUMNS)
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        Table.from_columns(columns, **{"name": "t", **arguments})


@pytest.mark.parametrize("rule", [Replace, Keep, Sum, Min, Max])
def test_one_rule_for_all_is_a_rule_for_the_columns_outside_the_key(rule: Merge) -> None:
    """A key column is never merged, so that the rule need not fit it."""
    table = Table.from_columns({"k": str, "n": int}, name="t", key="k", merge=rule)

    assert [Replace, rule] == [column.merge for column in table.columns]


def test_rows_with_an_integer_key_keep_it_when_the_others_add_up() -> None:
    """`Sum` for all adds up values, not keys."""
    table = Table.from_columns({"k": int, "n": int}, name="t", key="k", merge=Sum)

    assert (7, 3) == RowMerger(table).merge((7, 1), (7, 2))


def test_names_that_differ_beyond_ascii_case_are_two_columns() -> None:
    """SQLite folds the case of the letters A to Z alone."""
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
def test_a_table_tells_what_it_is(table: Table[Any], text: str) -> None:
    """The repr names the table, its row type and its key."""
    assert text == repr(table)


@pytest.mark.parametrize(
    ("key", "expected"), [("url", "a"), (["url"], "a"), (("size", "url"), (1, "a"))]
)
def test_a_key_is_a_value_or_a_tuple_in_the_order_it_was_declared(key: Any, expected: Any) -> None:
    """One key column gives its value, several give a tuple."""
    assert expected == key_getter(Table(Hit, name="hits", key=key))(Hit("a", 1, 2.0))


def test_an_append_only_table_has_no_key_to_give() -> None:
    """Asking for a key is an error that names the table."""
    with pytest.raises(TypeError, match=r"^table 'hits' has no key$"):
        key_getter(Table(Hit, name="hits"))


@pytest.mark.parametrize(
    ("merge", "replaces"),
    [(Replace, True), (Keep, False), ({"size": Sum}, False), ({"size": Replace}, True)],
)
def test_a_table_replaces_when_all_its_rules_do(merge: Any, replaces: bool) -> None:
    """Only then a later row makes an earlier one void."""
    assert replaces == RowMerger(Table(Hit, name="hits", key="url", merge=merge)).replaces_rows


@pytest.mark.parametrize("name", ["forebay_dead_letters", "Forebay_progress"])
def test_the_names_of_forebays_own_tables_are_refused(name: str) -> None:
    """A program's table cannot take the place of one that forebay keeps its letters in."""
    with pytest.raises(ValueError, match="is forebay's own: choose one without 'forebay_'"):
        Table.from_columns({"k": int}, name=name, key="k")
