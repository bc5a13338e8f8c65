"""Whether a table in the file is what its declaration says, and the SQL that would mend it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from forebay._errors import SchemaError
from forebay._table.columns import Column, Storage
from forebay._table.sqlite_rules import affinity, fold_case
from forebay._table.table import Table
from forebay._table.validation import strict_columns
from forebay.stores.sqlite._statements import column_type, create, quoted


@dataclass(frozen=True, slots=True)
class _Found:
    """A column as the file has it."""

    declared: str
    not_null: bool
    default: str | None
    key_part: bool
    hidden: bool
    """Whether it is generated, or a virtual table's own: such columns take no values."""


@dataclass(frozen=True, slots=True)
class _Index:
    """An index as the file has it: its parts are names (None: an expression) and collations."""

    name: str
    unique: bool
    is_primary_key: bool
    parts: tuple[tuple[str | None, str], ...]

    def covers(self, key: set[str]) -> bool:
        """Whether it makes these columns unique, under whatever collation."""
        return self.unique and {None if n is None else fold_case(n) for n, _ in self.parts} == key


def check_table(raw: sqlite3.Connection, table: Table[Any]) -> None:
    """Compare a table with its declaration.

    Args:
        raw: a connection to the file.
        table: the declaration.

    Raises:
        SchemaError: the table or one of its columns is missing, nothing makes its key unique, or
            it would not keep rows as the buffer expects.
    """
    kind = raw.execute(
        "SELECT type, sql LIKE 'CREATE VIRTUAL %' FROM sqlite_schema "
        "WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')",
        (table.name,),
    ).fetchone()
    if kind is None:
        raise SchemaError(
            f"there is no table {table.name!r} in the database; create it, or pass "
            f"create=[…] to open_sqlite",
            table=table.name,
            sql=create(table) + ";",
        )
    if kind[0] != "table":
        raise SchemaError(
            f"{table.name!r} is a {kind[0]}; a buffer writes to a table", table=table.name
        )
    if table.key and kind[1]:
        raise SchemaError(
            f"{table.name!r} is a virtual table, to which rows can only be appended; declare it "
            f"without a key",
            table=table.name,
        )
    found = _columns(raw, table.name)
    indexes = _indexes(raw, table.name)
    rowid = _rowid(found, indexes)
    _check_columns(table, found, rowid)
    _check_others(table, found, rowid)
    if table.key and {fold_case(name) for name in table.key} != {rowid}:
        _check_key(raw, table, indexes)


def _columns(raw: sqlite3.Connection, name: str) -> dict[str, _Found]:
    rows = raw.execute(f"PRAGMA table_xinfo({quoted(name)})").fetchall()
    return {
        fold_case(column): _Found(declared, bool(not_null), default, bool(key_part), bool(hidden))
        for _, column, declared, not_null, default, key_part, hidden in rows
    }


def _indexes(raw: sqlite3.Connection, name: str) -> list[_Index]:
    listed = raw.execute(f"PRAGMA index_list({quoted(name)})").fetchall()
    return [
        _Index(index, bool(unique and not partial), origin == "pk", _parts(raw, index))
        for _, index, unique, origin, partial in listed
    ]


def _parts(raw: sqlite3.Connection, index: str) -> tuple[tuple[str | None, str], ...]:
    rows = raw.execute(f"PRAGMA index_xinfo({quoted(index)})").fetchall()
    return tuple((name, collation) for _, _, name, _, collation, is_key in rows if is_key)


def _rowid(found: dict[str, _Found], indexes: list[_Index]) -> str | None:
    """Name the column that is the rowid: the one primary key that needs no index."""
    parts = [name for name, column in found.items() if column.key_part]
    indexed = any(index.is_primary_key for index in indexes)
    return parts[0] if len(parts) == 1 and not indexed else None


def _check_columns(table: Table[Any], found: dict[str, _Found], rowid: str | None) -> None:
    missing = [column for column in table.columns if fold_case(column.name) not in found]
    if missing:
        statements = "\n".join(
            f"ALTER TABLE {quoted(table.name)} ADD COLUMN {column_type(column)};"
            for column in missing
        )
        raise SchemaError(
            f"table {table.name!r} has no column {', '.join(repr(c.name) for c in missing)}",
            table=table.name,
            sql=statements,
        )
    strict = strict_columns(table)
    for column in table.columns:
        there = found[fold_case(column.name)]
        if there.hidden:
            raise SchemaError(
                f"table {table.name!r}: column {column.name!r} is generated, so that no value "
                f"can be written to it; leave it out of the row type",
                table=table.name,
            )
        if column.name in strict and not _keeps(
            column, "ROWID" if fold_case(column.name) == rowid else affinity(there.declared)
        ):
            raise SchemaError(
                f"table {table.name!r}: column {column.name!r} is declared {there.declared!r}, "
                f"which changes or refuses values of type {column.expected}, so that rows which "
                f"differ in memory could be one in the table; declare the same type on both sides",
                table=table.name,
            )


_KEPT: Final[dict[Storage, set[str]]] = {
    str: {"TEXT", "BLOB"},
    int: {"ROWID", "INTEGER", "NUMERIC", "BLOB"},
    float: {"REAL", "INTEGER", "NUMERIC", "BLOB"},
    bytes: {"TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB"},
}
"""The affinities under which different values of a type stay different. The rowid takes no
others than integers."""


def _keeps(column: Column, affinity: str) -> bool:
    return column.storage is None or affinity in _KEPT[column.storage]


def _check_others(table: Table[Any], found: dict[str, _Found], rowid: str | None) -> None:
    """Refuse columns that every insert would leave empty though they must not be."""
    known = {fold_case(column.name) for column in table.columns}
    for name, column in found.items():
        empty = column.not_null and (column.default or "NULL").upper() == "NULL"
        if empty and name not in known and name != rowid and not column.hidden:
            raise SchemaError(
                f"table {table.name!r}: column {name!r} is NOT NULL without a default, and the "
                f"row type {table.row_type.__name__} has no such field; add the field, or give "
                f"the column a default",
                table=table.name,
            )


def _check_key(raw: sqlite3.Connection, table: Table[Any], indexes: list[_Index]) -> None:
    key = {fold_case(name) for name in table.key}
    covering = [index for index in indexes if index.covers(key)]
    if any(all(collation == "BINARY" for _, collation in index.parts) for index in covering):
        return
    if covering:
        raise SchemaError(
            f"table {table.name!r}: the key ({', '.join(table.key)}) is unique under another "
            f"collation than BINARY, so that keys which differ in memory are one in the table; "
            f"make it unique under BINARY instead",
            table=table.name,
        )
    names = {fold_case(name) for (name,) in raw.execute("SELECT name FROM sqlite_schema")}
    tried = (f"{table.name}_key{n or ''}" for n in count())
    index = next(name for name in tried if fold_case(name) not in names)
    columns = ", ".join(f"{quoted(name)} COLLATE BINARY" for name in table.key)
    raise SchemaError(
        f"table {table.name!r}: nothing makes its key ({', '.join(table.key)}) unique; of rows "
        f"that share a key, only one can stay",
        table=table.name,
        sql=f"CREATE UNIQUE INDEX {quoted(index)} ON {quoted(table.name)} ({columns});",
    )
