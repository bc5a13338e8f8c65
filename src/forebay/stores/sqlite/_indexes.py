"""The indexes that a table has in the file, and which of the declared ones are missing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forebay._errors import SchemaError
from forebay._table.indexes import Index
from forebay._table.sqlite_rules import fold_case
from forebay._table.table import Table
from forebay.stores.sqlite._ddl import create_index_sql
from forebay.stores.sqlite._sql_text import tokens
from forebay.stores.sqlite._statements import quoted


@dataclass(frozen=True, slots=True)
class IndexPart:
    """A part of an index: a column, or an expression, whose name is None."""

    name: str | None
    collation: str
    descending: bool


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """An index of a table in the file.

    Attributes:
        unique: whether it is UNIQUE.
        partial: whether it contains only some rows.
        is_primary_key: whether it is the index of the primary key.
        parts: its parts, in order.
        sql: the statement that created it; empty for the index of a constraint.
    """

    unique: bool
    partial: bool
    is_primary_key: bool
    parts: tuple[IndexPart, ...]
    sql: str

    @property
    def columns(self) -> tuple[str | None, ...]:
        """The names of its columns as SQLite compares them; None for an expression."""
        return tuple(None if part.name is None else fold_case(part.name) for part in self.parts)

    def covers(self, key: set[str]) -> bool:
        """Return whether the index makes these columns unique, under any collation."""
        return self.unique and not self.partial and set(self.columns) == key

    def is_as_declared(self, index: Index) -> bool:
        """Return whether this is the declared index, whatever its name and collations are."""
        if (
            self.columns != tuple(map(fold_case, index.columns))
            or self.unique != index.unique
            or self.partial != (index.where is not None)
            or any(part.descending for part in self.parts)
        ):
            return False
        if index.where is None:
            return True
        # The condition is the end of the statement, and contains no other WHERE.
        end = ["WHERE", *tokens(index.where)]
        return list(tokens(self.sql))[-len(end) :] == end


def read_indexes(raw: sqlite3.Connection, table: str) -> list[StoredIndex]:
    """Return the indexes of a table.

    Args:
        raw: a connection to the file.
        table: the table's name.
    """
    rows = raw.execute(f"PRAGMA main.index_list({quoted(table)})").fetchall()
    return [
        StoredIndex(
            bool(unique), bool(partial), origin == "pk", _read_parts(raw, name), _sql(raw, name)
        )
        for _, name, unique, origin, partial in rows
    ]


def _read_parts(raw: sqlite3.Connection, index: str) -> tuple[IndexPart, ...]:
    rows = raw.execute(f"PRAGMA main.index_xinfo({quoted(index)})").fetchall()
    return tuple(
        IndexPart(name, collation, bool(descending))
        for _, _, name, descending, collation, is_key in rows
        if is_key
    )


def _sql(raw: sqlite3.Connection, index: str) -> str:
    query = "SELECT sql FROM main.sqlite_schema WHERE type = 'index' AND name = ?"
    found = raw.execute(query, (index,)).fetchone()  # None for the key of a WITHOUT ROWID table
    return "" if found is None or found[0] is None else str(found[0])


def missing_indexes(
    raw: sqlite3.Connection, table: Table[Any], stored: Sequence[StoredIndex]
) -> list[Index]:
    """Return the declared indexes that a table does not have.

    An index with another name is the declared one if it is equal in all else.

    Args:
        raw: a connection to the file.
        table: the declaration.
        stored: the indexes of the table in the file.

    Raises:
        SchemaError: the name of a missing index is that of something else in the file.
    """
    missing = [
        index
        for index in table.indexes
        if not any(existing.is_as_declared(index) for existing in stored)
    ]
    for index in missing:
        _check_name(raw, table, index)
    return missing


def _check_name(raw: sqlite3.Connection, table: Table[Any], index: Index) -> None:
    query = "SELECT type, tbl_name, sql FROM main.sqlite_schema WHERE name = ? COLLATE NOCASE"
    found = raw.execute(query, (index.name,)).fetchone()
    if found is None:
        return
    kind, owner, sql = found
    if kind != "index" or fold_case(owner) != fold_case(table.name):
        of = f" of table {owner!r}" if kind == "index" else ""
        raise SchemaError(
            f"table {table.name!r}: its index {index.name!r} cannot be created, since there is "
            f"{'an' if kind == 'index' else 'a'} {kind} of that name{of}; declare the index with "
            f"another name: forebay.Index(…, name=…)",
            table=table.name,
        )
    raise SchemaError(
        f"table {table.name!r}: index {index.name!r} differs from its declaration {index!r}: it "
        f"was created by {sql!r}",
        table=table.name,
        sql=f"DROP INDEX {quoted(index.name)};\n{create_index_sql(table, index)};",
    )
