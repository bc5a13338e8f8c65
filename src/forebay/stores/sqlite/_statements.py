"""SQL text: what each step of a batch says to SQLite. Pure.

Many rows a statement: between two statements the thread gives the GIL away and must win it back
from a busy event loop, so a statement a row makes a flush of thousands take seconds. The number
of rows comes from a short ladder, so that few texts serve all batches and SQLite's prepared
statements are used again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Final, TypeAlias

from forebay._batching.batch import DeleteByStep, DeleteStep, Step, UpdateStep, WriteStep
from forebay._table.columns import Column
from forebay._table.merge import Merge
from forebay._table.operations import Row
from forebay._table.table import Table, key_getter, select_columns, value_columns

LADDER: Final = (500, 100, 20, 5, 1)
"""How many rows a statement has: the largest that fits, again and again.

To prepare a statement takes about as long as to write twice its rows, once a table; and past 500
rows a statement writes no faster (`nox -s bench -- tables` measures both).
"""

_OR_LIMIT: Final = 100
"""Most terms in a chain of OR, which SQLite plans one by one (it allows a depth of 1,000)."""

_SQL_TYPES: Final = {str: "TEXT", int: "INTEGER", float: "REAL", bytes: "BLOB", None: ""}


def quoted(name: str) -> str:
    """Quote an identifier, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str]) -> str:
    """Quote identifiers and join them by commas."""
    return ", ".join(map(quoted, names))


def _values(rows: int, columns: int) -> str:
    row = f"({','.join('?' * columns)})"
    return ",".join([row] * rows)


def _compared(column: Column) -> str:
    """Name a column of the row that is there, to be compared as Python compares."""
    name = f"old.{quoted(column.name)}"
    return f"{name} COLLATE BINARY" if column.storage is str else name


def _merged(column: Column) -> str:
    """Say what a column becomes on conflict: the SQL twin of `Merge.combine`."""
    old, new = f"old.{quoted(column.name)}", f"excluded.{quoted(column.name)}"
    if column.merge is Merge.REPLACE:
        value = new
    elif column.merge is Merge.SUM:
        value = f"COALESCE({old} + {new}, {old}, {new})"
    else:
        value = f"COALESCE({column.merge.value}({_compared(column)}, {new}), {old}, {new})"
    return f"{quoted(column.name)} = {value}"


# The table goes by the name `old` everywhere. It may itself be called `new` or `excluded`; and a
# quoted name that is no column, because the table was changed, is an error after a dot but a
# string without one: `WHERE "id" IN ('id')` would be true of every row.


@lru_cache(maxsize=4096)
def write(table: Table[Any], rows: int) -> str:
    """Insert rows, merging each into the row with its key."""
    names = [column.name for column in table.columns]
    insert = (
        f"INSERT INTO {quoted(table.name)} AS old ({listed(names)}) "
        f"VALUES {_values(rows, len(names))}"
    )
    if not table.key:
        return insert
    changes = [_merged(column) for column in value_columns(table) if column.merge is not Merge.KEEP]
    action = f"DO UPDATE SET {', '.join(changes)}" if changes else "DO NOTHING"
    return f"{insert} ON CONFLICT ({listed(table.key)}) {action}"


@lru_cache(maxsize=4096)
def update(table: Table[Any], columns: tuple[str, ...], rows: int) -> str:
    """Set columns of the rows with these keys; the parameters of a row are key, then values."""
    # SQLite names the columns of VALUES column1, column2, …
    keyed = enumerate(select_columns(table, table.key), start=1)
    match = " AND ".join(f"{_compared(column)} = new.column{i}" for i, column in keyed)
    first = len(table.key) + 1
    changes = ", ".join(
        f"{quoted(name)} = new.column{i}" for i, name in enumerate(columns, start=first)
    )
    return (
        f"UPDATE {quoted(table.name)} AS old SET {changes} "
        f"FROM (VALUES {_values(rows, len(table.key) + len(columns))}) AS new WHERE {match}"
    )


@lru_cache(maxsize=4096)
def delete(table: Table[Any], columns: tuple[str, ...], rows: int) -> str:
    """Delete the rows that have one of these values, or tuples of values, in these columns."""
    start = f"DELETE FROM {quoted(table.name)} AS old WHERE "
    terms = [_compared(column) for column in select_columns(table, columns)]
    if len(terms) == 1:
        return f"{start}{terms[0]} IN ({','.join('?' * rows)})"
    # Not (a, b) IN (VALUES …): SQLite 3.40 scans the table for that.
    row = "(" + " AND ".join(f"{term} = ?" for term in terms) + ")"
    return start + " OR ".join([row] * rows)


def column_type(column: Column) -> str:
    """Declare a column: its name and type."""
    return f"{quoted(column.name)} {_SQL_TYPES[column.storage]}".rstrip()


def create(table: Table[Any]) -> str:
    """Create the table as it is declared, where there is none of its name."""
    lines = [
        column_type(column) + ("" if column.nullable else " NOT NULL") for column in table.columns
    ]
    if table.key:
        lines.append(f"PRIMARY KEY ({listed(table.key)})")
    body = ",\n    ".join(lines)
    return f"CREATE TABLE IF NOT EXISTS {quoted(table.name)} (\n    {body}\n)"


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL text with its parameters, for some rows of a step."""

    sql: str
    parameters: Sequence[Any]


_Text: TypeAlias = Callable[[int], str]


def statements(table: Table[Any], step: Step, *, variables: int) -> Iterator[Statement]:
    """Give the statements of a step.

    Args:
        table: the table.
        step: what to do.
        variables: the most parameters a statement may have.
    """
    match step:
        case WriteStep(rows):
            # In the order of the key, neighbours fall on the same page of the B-tree.
            sorts = table.key and table.coalesce
            ordered = sorted(rows, key=key_getter(table)) if sorts else rows
            width = len(table.columns)
            yield from _split(lambda n: write(table, n), ordered, width, variables)
        case UpdateStep(columns, updates):
            keyed = len(table.key) > 1
            width = len(table.key) + len(columns)
            flat = [(*(key if keyed else (key,)), *values) for key, values in updates]
            yield from _split(lambda n: update(table, columns, n), flat, width, variables)
        case DeleteStep(keys):
            width = len(table.key)
            flat = list(keys) if width > 1 else [(key,) for key in keys]
            most = variables if width == 1 else _OR_LIMIT * width
            yield from _split(
                lambda n: delete(table, table.key, n), flat, width, min(variables, most)
            )
        case DeleteByStep(values):
            columns = (str(table.delete_by),)
            flat = [(value,) for value in values]
            yield from _split(lambda n: delete(table, columns, n), flat, 1, variables)


def _split(text: _Text, rows: Sequence[Row], width: int, variables: int) -> Iterator[Statement]:
    start = 0
    for size in LADDER:
        if size * width > variables and size > 1:
            continue
        sql = text(size) if len(rows) - start >= size else ""
        while len(rows) - start >= size:
            part = rows[start : start + size]
            yield Statement(sql, list(chain.from_iterable(part)))
            start += size
