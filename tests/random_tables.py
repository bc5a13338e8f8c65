"""Hypothesis strategies for tables and operations, with few keys so that operations collide."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from hypothesis import strategies as st

from forebay import Delete, DeleteBy, Keep, Max, Merge, Min, Replace, Sum, Table, Update, Write
from forebay._table.operations import Operation
from forebay._table.table import value_columns
from forebay.stores.sqlite._ddl import create_sql

_KEYS: dict[type, list[Any]] = {
    int: [0, 1, -7, 2**62],
    str: ["", "a", "A", "é"],
    bytes: [b"", b"a", b"\0"],
    float: [0.0, 1.0, 0.5, -1e300],
}
_VALUES: dict[Any, list[Any]] = {
    int: [0, 1, -2, 7, 2**40],
    str: ["", "a", "A", "b"],
    bytes: [b"", b"a", b"b"],
    # Sums of powers of two, so that sums are exact in any order.
    float: [0.0, 0.5, -1.25, 4.0],
    Any: [0, "a", b"a", 0.5, None],
}
_RULES: dict[Any, list[Merge]] = {
    int: [Replace, Keep, Sum, Min, Max],
    float: [Replace, Keep, Sum, Min, Max],
    str: [Replace, Keep, Min, Max],
    bytes: [Replace, Keep, Min, Max],
    Any: [Replace, Keep],
}


@dataclass(frozen=True)
class Drawn:
    """A table, the SQL that creates it, and the values that its columns can have."""

    table: Table[tuple[Any, ...]]
    ddl: str
    values: dict[str, list[Any]]

    def __repr__(self) -> str:
        rules = {column.name: column.merge.value for column in value_columns(self.table)}
        return (
            f"{self.table!r} {rules} delete_by={self.table.delete_by!r} "
            f"coalesce={self.table.coalesce}: {self.ddl}"
        )


@st.composite
def tables(draw: st.DrawFn) -> Drawn:
    """Draw a table: with or without a key and `delete_by`, with any rules, any CREATE TABLE."""
    keys = {
        f"k{i}": draw(st.sampled_from([int, str, bytes, float]))
        for i in range(draw(st.sampled_from([1, 2, 0, 1, 1])))
    }
    values = {
        f"v {i}": draw(st.sampled_from([int, float, str, bytes, Any]))
        for i in range(draw(st.sampled_from([1, 2, 3, 1, 0] if keys else [1, 2])))
    }
    nullable = {name for name in values if draw(st.booleans())}
    rules = {name: draw(st.sampled_from(_RULES[kind])) for name, kind in values.items() if keys}
    columns: dict[str, Any] = {
        **keys,
        **{name: kind | None if name in nullable else kind for name, kind in values.items()},
    }
    names = draw(st.permutations(list(columns)))
    searched = [name for name, kind in (keys | values).items() if kind is not Any]
    table = Table.from_columns(
        {name: columns[name] for name in names},
        name="t",
        key=draw(st.permutations(list(keys))) if keys else None,
        merge=rules,
        delete_by=draw(st.none() | st.sampled_from(searched)) if searched else None,
        coalesce=draw(st.sampled_from([True, True, False])),
    )
    few = draw(st.sampled_from([1, 2, 1, 4]))
    return Drawn(
        table,
        draw(st.sampled_from([create_sql(table), _with_an_id(table)])),
        {name: _KEYS[kind][:few] for name, kind in keys.items()}
        | {
            name: _VALUES[kind] + ([None] if name in nullable else [])
            for name, kind in values.items()
        },
    )


def keys_of(drawn: Drawn) -> list[Any]:
    """Return all keys that the drawn operations can have."""
    parts = list(product(*(drawn.values[name] for name in drawn.table.key)))
    return parts if len(drawn.table.key) > 1 else [key for (key,) in parts]


def _with_an_id(table: Table[Any]) -> str:
    """Return SQL that creates the table with another primary key and a UNIQUE constraint."""
    lines = ["id INTEGER PRIMARY KEY", "extra TEXT NOT NULL DEFAULT 'x'"]
    kinds = {int: "INTEGER", str: "TEXT", bytes: "BLOB", float: "REAL", None: ""}
    lines += [f'"{column.name}" {kinds[column.storage]}' for column in table.columns]
    if table.key:
        lines.append(f"UNIQUE ({', '.join(table.key)})")
    return f"CREATE TABLE t ({', '.join(lines)})"


@st.composite
def operations(draw: st.DrawFn, drawn: Drawn, at_most: int = 25) -> list[Operation]:
    """Draw a list of valid operations of all kinds."""
    count = draw(st.integers(0, at_most))
    return [draw(operation(drawn)) for _ in range(count)]


@st.composite
def operation(draw: st.DrawFn, drawn: Drawn) -> Operation:
    """Draw a valid operation of any kind."""
    table, values = drawn.table, drawn.values
    kinds: list[type[Operation]] = [Write, Write]
    if table.key:
        kinds += [Delete, Update, Update] if value_columns(table) else [Delete]
    if table.delete_by is not None:
        kinds.append(DeleteBy)
    kind = draw(st.sampled_from(kinds))
    if kind is Write:
        return draw(write(drawn))
    if kind is DeleteBy:
        choices = [value for value in values[str(table.delete_by)] if value is not None]
        return DeleteBy(draw(st.sampled_from(choices)))
    parts = tuple(draw(st.sampled_from(values[name])) for name in table.key)
    key = parts if len(parts) > 1 else parts[0]
    if kind is Delete:
        return Delete(key)
    names = draw(st.sets(st.sampled_from([c.name for c in value_columns(table)]), min_size=1))
    return Update(key, {name: draw(st.sampled_from(values[name])) for name in sorted(names)})


def write(drawn: Drawn) -> st.SearchStrategy[Write]:
    """Draw the write of a valid row."""
    columns = [st.sampled_from(drawn.values[column.name]) for column in drawn.table.columns]
    return st.tuples(*columns).map(Write)
