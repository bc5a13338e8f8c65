"""What a load would do: the SQL of the table, and the first rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forebay._table.sqlite_rules import fold_case
from forebay.cli._load.database import DatabaseState
from forebay.cli._load.options import TableOptions
from forebay.cli._load.plan import Plan
from forebay.stores.sqlite._ddl import add_column_sql, create_index_sql, create_sql

_SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Preview:
    """What a load would do.

    Attributes:
        sql: the statements that create the table or add columns; empty if none is needed.
        columns: the names of the columns of the rows.
        rows: the first rows.
    """

    sql: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def preview(
    plan: Plan, options: TableOptions, before: DatabaseState, rows: Sequence[Any]
) -> Preview:
    """Return what a load would do.

    Args:
        plan: the table for the rows.
        options: what the table is like.
        before: the database before the load.
        rows: rows of the table.
    """
    table = plan.table
    known = set(map(fold_case, before.columns))
    sql = [
        add_column_sql(table, column, strict=options.strict)
        for column in table.columns
        if known and fold_case(column.name) not in known
    ]
    if not known:
        sql.append(create_sql(table, strict=options.strict))
    sql += [
        create_index_sql(table, index)
        for index in table.indexes
        if index.name not in before.indexes
    ]
    names = [column.name for column in table.columns]
    return Preview([f"{statement};" for statement in sql], names, rows[:_SHOWN_ROWS])
