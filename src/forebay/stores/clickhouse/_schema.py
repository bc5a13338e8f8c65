"""Check that a table in ClickHouse keeps the contract of its declaration.

What would lose or change rows in silence is refused, with the statement that corrects it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from forebay._errors import SchemaError
from forebay._table.columns import Column
from forebay._table.table import Table
from forebay.stores.clickhouse._declared import (
    DELETED,
    VERSION,
    CreateOptions,
    Kind,
    aggregates_of,
    create_database_sql,
    create_sql,
    full_name,
    kind_of,
    server_type,
)
from forebay.stores.clickhouse._inspection import Found, FoundTable
from forebay.stores.clickhouse._server_types import (
    call_arguments,
    parse_type,
    quote_name,
    quote_text,
    split_arguments,
    unquote_name,
)
from forebay.stores.clickhouse._values import find_encoding


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a table cannot be used.

    Attributes:
        text: what is wrong, in words that follow the name of the table.
        sql: a statement that corrects it; None if the table must be made anew.
    """

    text: str
    sql: str | None = None


def check_table(
    database: str,
    table: Table[Any],
    found: Found,
    options: CreateOptions,
    *,
    longest_outage: float,
) -> None:
    """Check a table.

    Args:
        database: the database of the table.
        table: the declaration.
        found: what the server says about the table.
        options: how a table would be created.
        longest_outage: after how many seconds a batch must still be recognised.

    Raises:
        SchemaError: the table does not keep the contract. The error has the statements that
            correct it.
    """
    target = full_name(database, table.name)
    if not found.has_database:
        create = create_sql(database, table, options)
        raise missing_database(database, table, options, create)
    if not found.columns:
        raise SchemaError(
            f"the table {target} does not exist; create it, or pass it to "
            f"open_clickhouse(..., create=[…])",
            table=table.name,
            sql=create_sql(database, table, options),
        )
    problems = _column_problems(table, target, found)
    for part in found.parts:
        problems += _engine_problems(table, part)
        problems += _window_problems(table, part, longest_outage, options)
    if found.sharding is not None:
        problems += _sharding_problems(table, found.sharding)
    for view in found.view_targets:
        if view.window == 0:
            problems.append(
                Problem(
                    f"a materialized view writes to {view.full_name}, which remembers no tokens, "
                    f"so a block that is sent again would be there twice",
                    _set_window(view, options),
                )
            )
    if problems:
        lines = [f"- {problem.text}" for problem in problems]
        statements = [problem.sql for problem in problems if problem.sql is not None]
        if len(statements) < len(problems):
            lines.append(
                f"Stop all programs that write to the table before you execute these statements. "
                f"Compare the rows of both tables, and then drop "
                f"{full_name(database, f'{table.name}_new')}, which has the old ones."
            )
            statements = _copy_statements(database, table, found, options)
        raise SchemaError(
            f"the table {target} does not keep the contract of its declaration:\n"
            + "\n".join(lines),
            table=table.name,
            sql=";\n".join(dict.fromkeys(statements)) + ";",
        )


def missing_database(
    database: str, table: Table[Any], options: CreateOptions, *statements: str
) -> SchemaError:
    """Return the error for a table whose database does not exist.

    Args:
        database: the database.
        table: the declaration.
        options: how tables are created.
        statements: what to execute after the database was created.
    """
    return SchemaError(
        f"the database {quote_name(database)} of table {table.name!r} does not exist, or the user "
        f"has no right to it",
        table=table.name,
        sql=";\n".join((create_database_sql(database, options), *statements)) + ";",
    )


_MERGING: Final = re.compile("Replacing|Aggregating|Summing|Collapsing|Coalescing")
"""The engines that merge the rows of one sorting key."""


def _copy_statements(
    database: str, table: Table[Any], found: Found, options: CreateOptions
) -> list[str]:
    """Return the statements that make the table anew, with the rows that it has.

    A merging engine keeps several rows of a key until it merges them, so they are read with FINAL.
    But if it is ordered by more than the key, FINAL would not choose among all rows of the key:
    then all of them are copied, with the versions by which the new table chooses.
    """
    columns = [quote_name(column.name) for column in table.columns]
    final = ""
    if any(_MERGING.search(part.engine) for part in found.parts):
        order = {
            unquote_name(name) for part in found.parts for name in split_arguments(part.sorting_key)
        }
        versioned = {VERSION, DELETED} <= found.columns.keys()
        if versioned and kind_of(table) is Kind.REPLACE and not order <= set(table.key):
            columns += [quote_name(VERSION), quote_name(DELETED)]
        else:
            final = " FINAL"
    target = full_name(database, table.name)
    new = full_name(database, f"{table.name}_new")
    listed = ", ".join(columns)
    return [
        # A table that an earlier fix left has other rows.
        create_sql(database, table, options, name=f"{table.name}_new", if_not_exists=False),
        f"INSERT INTO {new} ({listed}) SELECT {listed} FROM {target}{final}",
        f"EXCHANGE TABLES {target} AND {new}",
    ]


def _column_problems(table: Table[Any], target: str, found: Found) -> list[Problem]:
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


_FAMILY: Final = re.compile(r"(?:Replicated|Shared)?(\w*MergeTree)")


def _engine_problems(table: Table[Any], part: FoundTable) -> list[Problem]:
    kind = kind_of(table)
    match = _FAMILY.fullmatch(part.engine)
    family = part.engine if match is None else match[1]
    if family != kind.value:
        return [Problem(f"its engine is {part.engine}, but the declaration needs {kind.value}")]
    problems: list[Problem] = []
    if kind is Kind.REPLACE:
        arguments = [unquote_name(text) for text in call_arguments(part.engine_full)]
        if arguments[-2:] != [VERSION, DELETED]:
            problems.append(Problem(f"its engine is not {kind.value}({VERSION}, {DELETED})"))
    if table.key:
        text = part.sorting_key
        if list(split_arguments(text)) == [text] and text.startswith("("):
            text = text[1:-1]  # the server keeps the parentheses around one column
        order = [unquote_name(name) for name in split_arguments(text)]
        if sorted(order) != sorted(table.key):
            problems.append(
                Problem(
                    f"it is ordered by ({part.sorting_key}), but rows of one key "
                    f"({', '.join(table.key)}) only meet if it is ordered by exactly the key"
                )
            )
        outside = [name for name in part.partition_columns if name not in table.key]
        if outside:
            problems.append(
                Problem(
                    f"it is partitioned by {part.partition_key}, but rows of one key only meet if "
                    f"the partition depends on nothing but the key"
                )
            )
    return problems


def _window_problems(
    table: Table[Any], part: FoundTable, longest_outage: float, options: CreateOptions
) -> list[Problem]:
    if part.window is None:
        return []
    if part.window == 0:
        text = (
            "it remembers no tokens of INSERTs, so a block that is sent again would be twice there"
        )
        return [Problem(text, _set_window(part, options))]
    if kind_of(table) is Kind.REPLACE:
        return []  # to write a row again changes nothing
    short = part.window < longest_outage
    if part.window_seconds is not None:
        short = short or part.window_seconds < longest_outage
    if not short:
        return []
    seconds = "" if part.window_seconds is None else f" for {part.window_seconds} s"
    text = (
        f"it remembers the tokens of {part.window} INSERTs{seconds}, which is less than an outage "
        f"of {longest_outage:g} s (longest_outage) with one INSERT of another program per second"
    )
    return [Problem(text, _set_window(part, options))]


def _set_window(part: FoundTable, options: CreateOptions) -> str:
    if part.window_seconds is None:
        setting = f"non_replicated_deduplication_window = {options.window}"
    else:
        setting = (
            f"replicated_deduplication_window = {options.window}, "
            f"replicated_deduplication_window_seconds = {options.window_seconds}"
        )
    return f"ALTER TABLE {part.full_name} MODIFY SETTING {setting}"


_NAMES: Final = re.compile(r"`((?:[^`\\]|\\.)+)`|\b([A-Za-z_]\w*)\b(?!\s*\()")
_RANDOM: Final = re.compile(r"\b(?:rand\w*|now\w*|generate\w+|today|yesterday)\s*\(", re.IGNORECASE)


def _sharding_problems(table: Table[Any], sharding: str) -> list[Problem]:
    if _RANDOM.search(sharding):
        return [
            Problem(
                f"its sharding expression {sharding} is random, so a block that is sent again "
                f"would be split in another way, and the shards would drop rows of it"
            )
        ]
    names = {quoted or plain for quoted, plain in _NAMES.findall(sharding)}
    if table.key and (not names or not names <= set(table.key)):
        return [
            Problem(
                f"its sharding expression is {sharding or 'missing'}, but rows of one key only "
                f"meet if it depends on the key and on nothing else"
            )
        ]
    return []


def describe_types(table: Table[Any], columns: Mapping[str, Any]) -> dict[str, str]:
    """Return the type of each declared column, by name."""
    return {column.name: columns[column.name].type for column in table.columns}
