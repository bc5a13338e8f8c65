"""Declare indexes, names of columns and defaults: what is valid, and the errors."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from uuid import UUID, uuid4

import attrs
import msgspec
import pytest

import forebay
from forebay import Index, Table

AnyIndex: Any = Index
NOW = datetime(2026, 1, 2, tzinfo=UTC)
Tags = Annotated[list[str], forebay.Json]


class Job(NamedTuple):
    id: str
    type_: str
    at: datetime
    price: Decimal


def jobs(**arguments: Any) -> Table[Job]:
    """Declare a table with a field whose column has another name."""
    declared: dict[str, Any] = {"name": "jobs", "column_names": {"type_": "type"}, **arguments}
    return Table(Job, **declared)


def test_an_index_has_a_name_and_the_names_of_columns() -> None:
    """The fields that a program names are columns of another name in the file."""
    table = jobs(
        indexes=["type_", ("at", "type_"), ["id"], Index("at", unique=True, where="x", name="i")]
    )
    assert (
        Index("type", name="idx_jobs_type"),
        Index("at", "type", name="idx_jobs_at_type"),
        Index("id", name="idx_jobs_id"),
        Index("at", unique=True, where="x", name="i"),
    ) == table.indexes
    assert (Index("a", name="idx_t_a"),) == Table.from_columns(
        {"a": int}, name="t", indexes=["a"]
    ).indexes


@pytest.mark.parametrize(
    "index",
    [Index("a"), Index("a", "b", unique=True, where="a > 'x'", name="i"), Index("a", where="a")],
)
def test_the_repr_of_an_index_is_its_declaration(index: Index) -> None:
    """It is a part of errors."""
    assert index == eval(repr(index))  # noqa: S307  # that is the test


@pytest.mark.parametrize(
    ("declare", "error", "message"),
    [
        (Index, ValueError, "an index must name one or more columns"),
        (lambda: Index("a", "a"), ValueError, "each only once, got ('a', 'a')"),
        (
            lambda: AnyIndex(("a", "b")),
            TypeError,
            "names fields of the row type, got ('a'",
        ),
        (lambda: AnyIndex("a", unique=1), TypeError, "unique=1: pass True or False"),
        (lambda: AnyIndex("a", where=True), TypeError, "where=True: pass an SQL expression"),
        (lambda: Index("a", where=" "), ValueError, "where=' ': pass an SQL expression"),
        (lambda: Index("a", where="a\0"), ValueError, "without NUL characters"),
        (lambda: AnyIndex("a", name=1), TypeError, "name=1: pass a str"),
        (lambda: Index("a", name="x\0"), ValueError, "invalid name of an index"),
        (lambda: Index("a", name="SQLITE_x"), ValueError, "reserved for SQLite"),
        (lambda: jobs(indexes="id"), TypeError, "one member per index, got 'id'"),
        (lambda: jobs(indexes=Index("id")), TypeError, "one member per index, got Index('id')"),
        (lambda: jobs(indexes=1), TypeError, "indexes must be a sequence"),
        (lambda: jobs(indexes=[1]), TypeError, "an index is a field, a sequence of fields, or a"),
        (lambda: jobs(indexes=[()]), ValueError, "table 'jobs', indexes: an index must name one"),
        (lambda: jobs(indexes=[("id", 1)]), TypeError, "table 'jobs', indexes: an index names f"),
        (lambda: jobs(indexes=["type"]), ValueError, "unknown field 'type'; the fields are id, t"),
        (
            lambda: jobs(indexes=["id", Index("id", unique=True, name="IDX_jobs_id")]),
            ValueError,
            "two indexes have the name 'idx_jobs_id'; give one of them another name",
        ),
        (
            lambda: jobs(indexes=[Index("price", unique=True)]),
            TypeError,
            "unique index column 'price' is stored by a codec under which equal values",
        ),
    ],
)
def test_an_invalid_index_is_refused(
    declare: Callable[[], object], error: type[Exception], message: str
) -> None:
    """The error says what to pass."""
    with pytest.raises(error, match=re.escape(message)):
        declare()


def test_a_column_may_have_another_name_than_its_field() -> None:
    """The arguments name fields, the attributes have the names of columns."""
    table = jobs(key=("type_", "id"), delete_by="type_", merge={"at": forebay.Max})
    assert (("type", "id"), "type") == (table.key, table.delete_by)
    assert [("id", "id"), ("type", "type_"), ("at", "at"), ("price", "price")] == [
        (column.name, column.field) for column in table.columns
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"column_names": "type_"}, TypeError, "column_names must be a mapping by field"),
        (
            {"column_names": {"type": "x"}},
            ValueError,
            "column_names names the unknown field",
        ),
        ({"column_names": {"type_": ""}}, ValueError, "invalid column name ''"),
        ({"column_names": {"type_": 1}}, ValueError, "invalid column name 1"),
        ({"column_names": {"type_": "x\0"}}, ValueError, "invalid column name 'x\\x00'"),
        ({"column_names": {"type_": "ID"}}, ValueError, "duplicate column names 'id' and 'ID'"),
        (
            {"key": "type"},
            ValueError,
            (
                "key names the unknown column 'type'; the columns are id, type_, at, price (column "
                "'type' has the field 'type_', which is to be named)"
            ),
        ),
        ({"delete_by": "type"}, ValueError, "delete_by names the unknown column 'type'"),
        (
            {"key": "id", "merge": {"type": forebay.Keep}},
            ValueError,
            "merge names the unknown column 'type'",
        ),
    ],
)
def test_an_invalid_name_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Whether it is that of a field or that of a column."""
    with pytest.raises(error, match=re.escape(f"table 'jobs': {message}")):
        jobs(**arguments)


def test_columns_may_exchange_their_names() -> None:
    """A column can have the name of another field, if that has another column."""
    table = Table(Job, name="t", column_names={"id": "type_", "type_": "id"}, key="id")
    assert ("type_",) == table.key


class Defaults(NamedTuple):
    key: str
    none: int | None = None
    number: int = 3
    real: float = 1
    flag: bool = True
    when: datetime = NOW
    tags: Tags = ["a"]  # noqa: RUF012  # it is encoded when the table is declared
    naive: datetime = datetime(2026, 1, 2)  # noqa: DTZ001  # it cannot be stored
    wrong: int = "x"  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    nul: str = "\0"


def defaults(table: Table[Any]) -> dict[str, Any]:
    """Return the defaults that columns have, by the column's name."""
    return {column.name: column.default for column in table.columns if column.default is not None}


def test_the_default_of_a_field_is_stored_as_its_values_are() -> None:
    """A default that cannot be stored, or cannot be part of a statement, is left out."""
    stored = {
        "number": 3,
        "real": 1.0,
        "flag": True,
        "when": "2026-01-02 00:00:00.000000+00:00",
        "tags": '["a"]',
    }
    assert stored == defaults(Table(Defaults, name="t", key="key"))
    explicit = {"number": None, "real": 2, "none": 7, "naive": NOW, "nul": "b", "wrong": 0}
    changed = {"real": 2.0, "none": 7, "naive": stored["when"], "nul": "b", "wrong": 0}
    del stored["number"]
    assert stored | changed == defaults(Table(Defaults, name="t", key="key", defaults=explicit))


class KeyDefault(NamedTuple):
    key: str = "a"
    size: int = 3


@dataclasses.dataclass(kw_only=True)
class DataDefaults:
    a: int
    id: UUID = dataclasses.field(default_factory=uuid4)
    n: int = 3


@attrs.define(kw_only=True)
class AttrsDefaults:
    a: int
    id: UUID = attrs.field(factory=uuid4)
    n: int = 3


class StructDefaults(msgspec.Struct):
    a: int
    id: UUID = msgspec.field(default_factory=uuid4)
    n: int = 3


class KeywordDefaults(msgspec.Struct, kw_only=True):
    n: int = 3
    a: int
    id: UUID = msgspec.field(default_factory=uuid4)


AnythingAsText = Annotated[Any, forebay.Codec(encode=str, decode=str, storage=str)]


class AnyDefaults(msgspec.Struct, kw_only=True):
    n: int = 3
    a: AnythingAsText
    id: AnythingAsText = msgspec.field(default_factory=uuid4)


@attrs.define(kw_only=True)
class AnyAttrs:
    a: AnythingAsText
    id: AnythingAsText = attrs.field(factory=uuid4)
    n: int = 3


@dataclasses.dataclass(kw_only=True)
class AnyData:
    a: AnythingAsText
    id: AnythingAsText = dataclasses.field(default_factory=uuid4)
    n: int = 3


@pytest.mark.parametrize(
    "row_type",
    [
        *(DataDefaults, AttrsDefaults, StructDefaults, KeywordDefaults),
        *(AnyData, AnyAttrs, AnyDefaults),
    ],
)
def test_a_default_factory_is_no_default(row_type: type[Any]) -> None:
    """Each row has another value of it; only a constant can be in the table's declaration."""
    assert {"n": 3} == defaults(Table(row_type, name="t"))


@pytest.mark.parametrize(
    ("default", "error", "message"),
    [
        ({"x": 1}, ValueError, "table 't': defaults names the unknown field 'x'; the fields are"),
        ([], TypeError, "table 't': defaults must be a mapping by field"),
        ({"key": "a"}, ValueError, "column 'key', default: a column of the key has no default"),
        ({"number": "a"}, TypeError, "column 'number', default: expected int, got 'a'"),
        ({"number": 2**63}, ValueError, "column 'number', default: 9223372036854775808 does not"),
        ({"real": math.nan}, ValueError, "column 'real', default: NaN cannot be stored"),
        ({"naive": datetime(2026, 1, 2)}, ValueError, "has no time zone"),  # noqa: DTZ001
        ({"nul": "\0"}, ValueError, r"column 'nul', default: '\x00' cannot be part of an SQL st"),
        ({"nul": "\udc80"}, ValueError, "use a text without NUL characters and lone surrogates"),
    ],
)
def test_an_invalid_default_is_refused(default: Any, error: type[Exception], message: str) -> None:
    """If the program names it, it must be one that can be stored."""
    with pytest.raises(error, match=re.escape(message)):
        Table(Defaults, name="t", key="key", defaults=default)


def test_a_column_of_the_key_has_no_default() -> None:
    """Each row has its own key, whatever the default of the field is."""
    assert {"size": 3} == defaults(Table(KeyDefault, name="t", key="key"))
    assert {"key": "a", "size": 3} == defaults(Table(KeyDefault, name="t"))


def test_nan_as_null_is_no_default() -> None:
    """NaN is stored as NULL in such a table, which is what a column without a default has."""
    table = Table.from_columns(
        {"v": float | None}, name="t", nan_as_null=True, defaults={"v": math.nan}
    )
    assert {} == defaults(table)
