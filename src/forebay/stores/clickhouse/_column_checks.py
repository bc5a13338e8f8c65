"""Check that the columns of a table in ClickHouse hold what the declaration says."""

from __future__ import annotations

from typing import Any

from forebay._table.columns import Column
from forebay._table.table import Table
from forebay.stores.clickhouse._declared import (
    DELETED,
    VERSION,
    Kind,
    aggregates_of,
    kind_of,
    server_type,
)
from forebay.stores.clickhouse._inspection import Found
from forebay.stores.clickhouse._problem import Problem
from forebay.stores.clickhouse._server_types import (
    parse_type,
    quote_name,
    quote_text,
)
from forebay.stores.clickhouse._values import find_encoding


def column_problems(table: Table[Any], target: str, found: Found) -> list[Problem]:
    """Return what is wrong with the columns of a table.

    Args:
        table: the declaration.
        target: the quoted name of the table.
        found: what the server says about it.
    """
    problems: list[Problem] = []
    for column in table.columns:
        wanted = server_type(table, column)
        name = quote_name(column.name)
        there = found.columns.get(column.name)
        if there is None:
            add = f"ALTER TABLE {target} ADD COLUMN {name} {wanted}"
            in_key = column.name in table.key
            problems.append(Problem(f"it has no column {column.name!r}", None if in_key else add))
            continue
        text = _type_problem(table, column, there.type)
        if there.kind in ("MATERIALIZED", "ALIAS"):
            problems.append(
                Problem(
                    f"column {column.name!r} is {there.kind}, so no value can be inserted",
                    f"ALTER TABLE {target} MODIFY COLUMN {name} REMOVE {there.kind}",
                )
            )
        elif text is not None:
            change = f"ALTER TABLE {target} MODIFY COLUMN {name} {wanted}"
            can_change = column.name not in table.key and kind_of(table) is not Kind.AGGREGATE
            problems.append(
                Problem(f"column {column.name!r} {text}", change if can_change else None)
            )
    problems += _other_columns(table, target, found)
    return problems


def _type_problem(table: Table[Any], column: Column, text: str) -> str | None:
    """Return why the type of a column does not fit, in words that follow its name; or None."""
    there = parse_type(text)
    if there.nullable and column.name in table.key:
        return f"is {text}, but a key is never NULL"
    if column.nullable and not there.nullable:
        return f"is {text}, which stores NULL as another value; the declaration allows None"
    if find_encoding(column.type, there) is None:
        return f"is {text}, to which values of type {column.expected} cannot be sent"
    if kind_of(table) is Kind.AGGREGATE and column.name not in table.key:
        functions = aggregates_of(column) if not there.nullable else aggregates_of(column)[:1]
        if there.aggregate not in functions:
            return (
                f"is {text}, but the rule {column.merge.name.title()} needs "
                f"SimpleAggregateFunction({functions[-1]}, …)"
            )
    return None


def _other_columns(table: Table[Any], target: str, found: Found) -> list[Problem]:
    kind = kind_of(table)
    declared = {column.name for column in table.columns}
    problems: list[Problem] = []
    if kind is Kind.REPLACE:
        for name, wanted in ((VERSION, "UInt64"), (DELETED, "UInt8")):
            declared.add(name)
            there = found.columns.get(name)
            if there is None or there.type != wanted:
                problems.append(Problem(f"it has no column {name!r} of type {wanted}"))
    problems += [
        Problem(
            f"column {name!r} is not declared, and each write of a row would reset it; declare it, "
            f"or give it a default",
            f"ALTER TABLE {target} MODIFY COLUMN {quote_name(name)} {there.type} "
            f"DEFAULT defaultValueOfTypeName({quote_text(there.type)})",
        )
        for name, there in found.columns.items()
        if table.key and name not in declared and not there.kind
    ]
    return problems
