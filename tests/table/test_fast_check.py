"""The generated check of a row agrees with the check value by value, for every type of row."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import attrs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay import Json, Table
from forebay._table.validation import RowValidator


class Colour(enum.StrEnum):
    RED = "red"


class Text(str):
    __slots__ = ()


Columns = Sequence[tuple[str, Any]]

ROW_TYPES: dict[str, Callable[[Columns], Any]] = {
    "NamedTuple": lambda columns: NamedTuple("Row", columns),
    "dataclass": lambda columns: dataclasses.make_dataclass("Row", columns),
    "slots": lambda columns: dataclasses.make_dataclass("Row", columns, slots=True),
    "attrs": lambda columns: attrs.make_class("Row", {n: attrs.field(type=t) for n, t in columns}),
    "msgspec": lambda columns: msgspec.defstruct("Row", columns),
}
"""Functions that create a row type from the names and annotations of its columns."""

NAMES = ["key", "row", "row_type", "v0", "type", "str", "count", "é", "get_v0", "types1", "self_"]
"""Names of columns, some of which the generated code uses for something else."""

VALUES: dict[Any, list[Any]] = {
    str: ["", "a", "a\0"],
    int: [0, -1, 2**63 - 1, -(2**63)],
    float: [0.0, 1.5, -math.inf, 1e300],
    bytes: [b"", b"a"],
    bool: [True, False],
    int | str: [1, "a"],
    float | bytes: [1.5, b""],
    Any: [None, 1, "a", 0.5, b""],
    datetime: [datetime(2026, 1, 2, tzinfo=UTC)],
    date: [date(2026, 1, 2)],
    UUID: [UUID(int=7)],
    Decimal: [Decimal("1.50")],
    Colour: [Colour.RED],
    Annotated[dict[str, Any], Json]: [{}, {"a": [1, None]}],
}
"""Valid values, by annotation."""

KEYS = [str, int, float, bytes, datetime, date, UUID, Colour]

ANY_VALUE = st.sampled_from(
    [
        *(value for values in VALUES.values() for value in values),
        *(None, 2**63, -(2**63) - 1, 10**400, math.nan, -0.0, Text("a"), bytearray(b"a"), 1j, []),
        *({1: 2}, {"a": {1}}, Decimal("NaN"), datetime(2026, 1, 2), 2**53 + 1),  # noqa: DTZ001  # naive
    ]
)
"""Values that are valid in some columns, and values that are valid in none."""


class Case(NamedTuple):
    table: Table[Any]
    row: Any
    values: Sequence[Any]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a table and a row, whose values are valid or not."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    keyed = draw(st.booleans())
    kinds = [
        draw(st.sampled_from(KEYS if keyed and name is names[0] else list(VALUES)))
        for name in names
    ]
    nullable = [not (keyed and name is names[0]) and draw(st.booleans()) for name in names]
    columns = [
        (name, kind | None if null else kind)
        for name, kind, null in zip(names, kinds, nullable, strict=True)
    ]
    row_type = ROW_TYPES[draw(st.sampled_from(list(ROW_TYPES)))](columns)
    table = Table(
        row_type, name="t", key=names[0] if keyed else None, nan_as_null=draw(st.booleans())
    )
    values = [
        draw(st.sampled_from([*VALUES[kind], None] if null else VALUES[kind]) | ANY_VALUE)
        for kind, null in zip(kinds, nullable, strict=True)
    ]
    return Case(table, row_type(*values), values)


def outcome(check: Callable[[], Sequence[Any]]) -> Any:
    """Return the values that a check returns, with their types, or the error that it raises."""
    try:
        return [(type(value), value, repr(value)) for value in check()]
    except (TypeError, ValueError) as error:
        return type(error), str(error)


def one_by_one(case: Case) -> Sequence[Any]:
    """Check the values of a row as those of a key and of updates."""
    validator = RowValidator(case.table)
    return [
        validator.validate_key(value)
        if column.name in case.table.key
        else validator.validate_update({column.name: value})[column.name]
        for column, value in zip(case.table.columns, case.values, strict=True)
    ]


@given(cases())
@example(Case(Table.from_columns({"k": float}, name="t", key="k"), (-0.0,), (-0.0,)))
def test_all_checks_of_a_row_agree(case: Case) -> None:
    """Each accepts the same rows, returns the same values, and raises the same errors."""
    validator = RowValidator(case.table)
    expected = outcome(lambda: one_by_one(case))

    assert expected == outcome(lambda: validator.validate_row(case.row))
    assert expected == outcome(lambda: validator.validate_rows([case.row])[0])
    recognized = validator.recognize(case.row)
    if recognized is not None:
        assert expected == outcome(lambda: recognized)


@pytest.mark.parametrize("row_type", ROW_TYPES.values(), ids=ROW_TYPES.keys())
@pytest.mark.parametrize("name", NAMES)
def test_a_valid_row_is_recognised(row_type: Callable[[Columns], Any], name: str) -> None:
    """Rows that need no conversion do not reach the check value by value, which is slow."""
    columns: Columns = [(name, int), ("at", datetime | None), ("f", float), ("b", bytes | None)]
    table = Table(row_type(columns), name="t")
    recognize = RowValidator(table).recognize

    assert (1, None, 0.5, b"a") == recognize(table.row_type(1, None, 0.5, b"a"))
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert (1, "2026-01-02 00:00:00.000000+00:00", 0.5, None) == recognize(
        table.row_type(1, at, 0.5, None)
    )
    assert recognize(table.row_type(1, at, 1, None)) is None


def test_a_row_with_an_attribute_that_is_missing_or_raises() -> None:
    """The exception reaches the caller, unchanged."""

    class Lazy(msgspec.Struct):
        name: str
        size: int

    table = Table(Lazy, name="lazy")
    row = Lazy("a", 1)
    del row.size
    assert RowValidator(table).recognize(row) is None
    with pytest.raises(AttributeError, match="size"):
        RowValidator(table).validate_row(row)
