"""The reference for correct results: each operation is executed alone, in order, in plain SQL.

It shares no SQL with the library. It looks up one row at a time, and then inserts or changes it.
"""

# ruff: noqa: S608  # all names are those of tables that tests declare

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from forebay import Delete, DeleteBy, Merge, Table, Update, Write
from forebay._table.operations import Operation
from forebay._table.table import key_getter

_CHANGED = {
    Merge.REPLACE: "{new}",
    Merge.KEEP: "CASE WHEN TRUE THEN {old} ELSE {new} END",
    Merge.SUM: "CASE WHEN {old} IS NULL THEN {new} WHEN {new} IS NULL THEN {old} "
    "ELSE {old} + {new} END",
    Merge.MIN: "CASE WHEN {old} IS NULL OR {new} < {old} THEN {new} ELSE {old} END",
    Merge.MAX: "CASE WHEN {old} IS NULL OR {new} > {old} THEN {new} ELSE {old} END",
}


def execute(raw: sqlite3.Connection, table: Table[Any], operations: Iterable[Operation]) -> None:
    """Execute operations on a table one after another."""
    for operation in operations:
        _execute(raw, table, operation)


def rows_of(raw: sqlite3.Connection, table: Table[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a table: sorted by key, or in the order of writes if it has no key."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    order = ", ".join(f'"{name}"' for name in table.key) or "rowid"
    return raw.execute(f'SELECT {columns} FROM "{table.name}" ORDER BY {order}').fetchall()


def rows_after(
    ddl: str, table: Table[Any], operations: Iterable[Operation]
) -> list[tuple[Any, ...]]:
    """Return the rows of a new table after each operation was executed alone."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as raw:
        raw.execute(ddl)
        execute(raw, table, operations)
        return rows_of(raw, table)


def _execute(raw: sqlite3.Connection, table: Table[Any], operation: Operation) -> None:
    name = f'"{table.name}"'
    match operation:
        case Write(row) if table.key and _find(raw, table, key_getter(table)(row)):
            where = " AND ".join(f'"{name}" = :key{i}' for i, name in enumerate(table.key))
            key = _where(table, key_getter(table)(row))[1]
            values = {f"key{i}": value for i, value in enumerate(key)}
            for column, value in zip(table.columns, row, strict=True):
                if column.name not in table.key:
                    old = f'"{column.name}"'
                    new = _CHANGED[column.merge].format(old=old, new=":new")
                    sql = f"UPDATE {name} SET {old} = {new} WHERE {where}"
                    raw.execute(sql, {**values, "new": value})
        case Write(row):
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            marks = ", ".join("?" * len(row))
            raw.execute(f"INSERT INTO {name} ({columns}) VALUES ({marks})", row)
        case Update(key, changed):
            changes = [f'"{column}" = ?' for column in changed]
            where, parts = _where(table, key)
            sql = f"UPDATE {name} SET {', '.join(changes)} WHERE {where}"
            raw.execute(sql, (*changed.values(), *parts))
        case Delete(key):
            where, parts = _where(table, key)
            raw.execute(f"DELETE FROM {name} WHERE {where}", parts)
        case DeleteBy(value):
            raw.execute(f'DELETE FROM {name} WHERE "{table.delete_by}" = ?', (value,))


def _where(table: Table[Any], key: Any) -> tuple[str, tuple[Any, ...]]:
    where = " AND ".join(f'"{name}" = ?' for name in table.key)
    return where, (key if len(table.key) > 1 else (key,))


def _find(raw: sqlite3.Connection, table: Table[Any], key: Any) -> bool:
    where, parts = _where(table, key)
    sql = f'SELECT count(*) FROM "{table.name}" WHERE {where}'
    return bool(raw.execute(sql, parts).fetchone()[0])
