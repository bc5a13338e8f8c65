"""Check that a table in ClickHouse keeps the contract of its declaration.

What would lose or change rows in silence is refused, with the statement that corrects it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from forebay._errors import SchemaError
from forebay._table.table import Table
from forebay.stores.clickhouse._column_checks import column_problems
from forebay.stores.clickhouse._declared import (
    DELETED,
    VERSION,
    CreateOptions,
    Kind,
    create_database_sql,
    create_sql,
    full_name,
    functions_with_null,
    kind_of,
)
from forebay.stores.clickhouse._engine_checks import (
    engine_problems,
    set_window,
    sharding_problems,
    window_problems,
)
from forebay.stores.clickhouse._inspection import Found, Inspector
from forebay.stores.clickhouse._problem import Problem
from forebay.stores.clickhouse._server_types import (
    quote_name,
    split_arguments,
    unquote_name,
)


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
    problems = column_problems(table, target, found)
    for part in found.parts:
        problems += engine_problems(table, part)
        problems += window_problems(table, part, longest_outage, options)
    if found.sharding is not None:
        problems += sharding_problems(table, found.sharding)
    for view in found.view_targets:
        if view.window == 0:
            problems.append(
                Problem(
                    f"a materialized view writes to {view.full_name}, which remembers no tokens, "
                    f"so a block that is sent again would be there twice",
                    set_window(view, options),
                )
            )
    problems += [
        Problem(
            f"a materialized view reads or writes {name}, which does not exist or which the user "
            f"has no right to see, so it is unknown whether it remembers tokens",
            f"GRANT SHOW TABLES ON {name} TO {quote_name(found.user)}",
        )
        for name in found.hidden
    ]
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


async def check_functions(table: Table[Any], inspector: Inspector) -> None:
    """Check that the server has the functions that merge the columns of a table.

    Raises:
        SchemaError: it lacks one: a merge would drop NULL.
        ServerError, NoAnswerError: the server could not be asked.
    """
    for function, column in functions_with_null(table).items():
        if not await inspector.has_aggregate(function):
            rule = column.merge.name.title()
            raise SchemaError(
                f"table {table.name!r}, column {column.label}: the rule {rule} of a "
                f"column that allows None needs SimpleAggregateFunction({function}, …), which this "
                f"server does not have; declare the column without None, or install a newer "
                f"ClickHouse",
                table=table.name,
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


def describe_types(table: Table[Any], columns: Mapping[str, Any]) -> dict[str, str]:
    """Return the type of each declared column, by name."""
    return {column.name: columns[column.name].type for column in table.columns}
