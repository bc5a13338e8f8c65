"""What a declared table is in ClickHouse: its engine, the types of its columns, its statements."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from forebay._batching.batch import DeleteByStep, DeleteStep, Step, UpdateStep
from forebay._errors import SchemaError
from forebay._table.codecs import built_in_codec
from forebay._table.columns import Column
from forebay._table.merge import Merge
from forebay._table.table import Table, value_columns
from forebay.stores.clickhouse._server_types import quote_name

VERSION: Final = "_version"
"""The column whose larger value wins, in a table whose rows replace each other."""
DELETED: Final = "_deleted"
"""The column that is 1 in the tombstone of a deleted row."""


class Kind(enum.Enum):
    """The kinds of tables, by the engine that gives them the contract of their declaration."""

    APPEND = "MergeTree"
    """A table without a key."""
    REPLACE = "ReplacingMergeTree"
    """A table with a key in which a later row replaces an earlier one as a whole."""
    AGGREGATE = "AggregatingMergeTree"
    """A table with a key and with other merge rules."""


def kind_of(table: Table[Any]) -> Kind:
    """Return the kind of a table."""
    if not table.key:
        return Kind.APPEND
    replaces = all(column.merge is Merge.REPLACE for column in value_columns(table))
    return Kind.REPLACE if replaces else Kind.AGGREGATE


AGGREGATES: Final = {
    Merge.SUM: ("sum",),
    Merge.MIN: ("min",),
    Merge.MAX: ("max",),
    Merge.KEEP: ("any_respect_nulls", "any"),
    Merge.REPLACE: ("anyLast_respect_nulls", "anyLast"),
}
"""The functions with the effect of a merge rule. A second one skips NULL, so it needs a column that
is not nullable."""


def aggregates_of(column: Column) -> tuple[str, ...]:
    """Return the functions that merge a column as declared, the preferred one last."""
    functions = AGGREGATES[column.merge]
    return functions[:1] if column.nullable else functions


def functions_with_null(table: Table[Any]) -> dict[str, Column]:
    """Return the functions that a table needs and older servers lack, each with a column."""
    if kind_of(table) is not Kind.AGGREGATE:
        return {}
    return {
        aggregates_of(column)[-1]: column
        for column in value_columns(table)
        if column.nullable and len(AGGREGATES[column.merge]) > 1
    }


def created_type(column: Column) -> str:
    """Return the type that `create` gives a column, without a merge function.

    A decimal becomes a text, since the declaration does not say how many digits it has.
    """
    name = _created_name(column)
    inner = f"Nullable({name})" if column.nullable else name
    return f"LowCardinality({inner})" if _is_enum(column) and name == "String" else inner


def _created_name(column: Column) -> str:
    codec = column.type.codec
    for value_type, name in _BY_CODEC.items():
        if codec is not None and codec is built_in_codec(value_type):
            return name
    if column.type.accepts == frozenset[type]({bool}):
        return "Bool"
    return "String" if column.storage is None else _BY_STORAGE[column.storage]


def _is_enum(column: Column) -> bool:
    return column.type.codec is not None and any(
        issubclass(accepted, enum.Enum) for accepted in column.type.accepts
    )


_BY_CODEC: Final = {datetime: "DateTime64(6, 'UTC')", date: "Date32", UUID: "UUID"}
_BY_STORAGE: Final = {str: "String", int: "Int64", float: "Float64", bytes: "String"}


WINDOW: Final = 10_000
WINDOW_SECONDS: Final = 7 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOptions:
    """How tables are created.

    Attributes:
        replicated: whether the tables are replicated.
        cluster: create the tables on all servers of this cluster; None for one server.
        window: the number of INSERTs whose tokens the server remembers.
        window_seconds: how long a replicated table remembers them, in seconds.
    """

    replicated: bool = False
    cluster: str | None = None
    window: int = WINDOW
    window_seconds: int = WINDOW_SECONDS

    def settings(self) -> dict[str, int]:
        """Return the settings of a table."""
        if self.replicated:
            return {
                "replicated_deduplication_window": self.window,
                "replicated_deduplication_window_seconds": self.window_seconds,
            }
        return {
            "non_replicated_deduplication_window": self.window,
            "fsync_after_insert": 1,
            "fsync_part_directory": 1,
        }


def full_name(database: str, name: str) -> str:
    """Return the quoted name of a table with its database."""
    return f"{quote_name(database)}.{quote_name(name)}"


def on_cluster(options: CreateOptions) -> str:
    """Return the clause that executes a statement on all servers of the cluster, or nothing."""
    return "" if options.cluster is None else f" ON CLUSTER {quote_name(options.cluster)}"


def create_database_sql(database: str, options: CreateOptions) -> str:
    """Return the statement that creates a database."""
    return f"CREATE DATABASE {quote_name(database)}{on_cluster(options)}"


def server_type(table: Table[Any], column: Column) -> str:
    """Return the type of a column in ClickHouse, with its merge function if it has one."""
    if kind_of(table) is Kind.AGGREGATE and column.name not in table.key:
        return f"SimpleAggregateFunction({aggregates_of(column)[-1]}, {created_type(column)})"
    return created_type(column)


def create_sql(
    database: str,
    table: Table[Any],
    options: CreateOptions,
    *,
    name: str | None = None,
    if_not_exists: bool = True,
) -> str:
    """Return the statement that creates a table that passes the checks of the store.

    Args:
        database: the database.
        table: the declaration.
        options: how tables are created.
        name: another name for the table, or None.
        if_not_exists: whether the statement leaves a table of that name as it is. Otherwise it
            fails if there is one.
    """
    create = "CREATE TABLE IF NOT EXISTS" if if_not_exists else "CREATE TABLE"
    kind = kind_of(table)
    columns = [f"{quote_name(c.name)} {server_type(table, c)}" for c in table.columns]
    engine = f"Replicated{kind.value}" if options.replicated else kind.value
    if kind is Kind.REPLACE:
        columns += [f"{quote_name(VERSION)} UInt64", f"{quote_name(DELETED)} UInt8"]
        engine += f"({quote_name(VERSION)}, {quote_name(DELETED)})"
    order = ", ".join(map(quote_name, table.key))
    settings = ", ".join(f"{name} = {value}" for name, value in options.settings().items())
    body = ",\n    ".join(columns)
    return (
        f"{create} {full_name(database, name or table.name)}{on_cluster(options)} (\n"
        f"    {body}\n) ENGINE = {engine}\nORDER BY ({order})\nSETTINGS {settings}"
    )


_NO_UPDATES: Final = (
    "ClickHouse has no update that keeps its order among INSERTs; write the whole row, or declare "
    "a merge rule for the column"
)
_NO_DELETE_BY: Final = (
    "ClickHouse has no delete by another column that keeps its order among INSERTs; delete the "
    "rows by their keys"
)
_NO_DELETES: Final = (
    "rows of an AggregatingMergeTree cannot be deleted in order; write a row that says that it is "
    "gone, or declare the table with the rule Replace for all columns"
)


def refused_steps(table: Table[Any]) -> dict[type[Step], str]:
    """Return the operations that a table does not allow in ClickHouse, each with the reason."""
    refused: dict[type[Step], str] = {UpdateStep: _NO_UPDATES, DeleteByStep: _NO_DELETE_BY}
    if kind_of(table) is Kind.AGGREGATE:
        refused[DeleteStep] = _NO_DELETES
    return refused


def unsupported_calls(table: Table[Any]) -> dict[str, str]:
    """Return the methods of `Buffer` that ClickHouse cannot serve for a table, with reasons."""
    reads = "blocks in the spool have no index of keys; read the table with FINAL"
    calls = {"get": reads, "get_many": reads}
    for step, reason in refused_steps(table).items():
        calls[f"enqueue_{step.operation}"] = reason
    if not table.key:
        calls.pop("enqueue_delete", None)
    return calls


_POSSIBLE: Final = (
    "str, int, float, bytes, bool, datetime, date, time, UUID, Decimal, an Enum, JSON or a type "
    "with a codec"
)


def declaration_errors(table: Table[Any]) -> Iterator[SchemaError]:
    """Yield an error for each promise of a declaration that ClickHouse cannot keep."""
    if table.delete_by is not None:
        yield SchemaError(
            f"table {table.name!r} has delete_by={table.delete_by!r}, but ClickHouse has no delete "
            f"by another column that keeps its order among INSERTs; declare it without delete_by",
            table=table.name,
        )
    for column in table.columns:
        if not column.has_one_type:
            yield SchemaError(
                f"table {table.name!r}, column {column.label}: it is declared as "
                f"{column.expected}, but a column in ClickHouse has values of one type; declare it "
                f"as one of {_POSSIBLE}, with or without None",
                table=table.name,
            )
    for index in table.indexes:
        if index.unique:
            yield SchemaError(
                f"table {table.name!r} has a unique index on ({', '.join(index.columns)}), but "
                f"ClickHouse has no unique indexes; declare it without this index",
                table=table.name,
            )
