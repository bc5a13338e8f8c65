"""Whether a table in the file is what its declaration says, and the SQL that would mend it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from forebay._columns import Column
from forebay._errors import SchemaError
from forebay._merge import Merge
from forebay._table import Table
from forebay.stores._statements import create, listed, quoted


@dataclass(frozen=True, slots=True)
class _Found:
    """A column as the file has it."""

    declared: str
    not_null: bool
    default: str | None
    key_part: bool


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
        "SELECT type FROM sqlite_schema WHERE name = ? COLLATE NOCASE "
        "AND type IN ('table', 'view')",
        (table.name,),
    ).fetchone()
    if kind is None:
        raise SchemaError(
            f"there is no table {table.name!r} in the database; create it, or pass "
            f"create=[…] to open_sqlite",
            table=table.name,
            sql=create(table) + ";",
        )
    if kind != ("table",):
        raise SchemaError(
            f"{table.name!r} is a {kind[0]}; a buffer writes to a table", table=table.name
        )
    found = _columns(raw, table.name)
    _check_columns(table, found)
    _check_others(table, found)
    if table.key:
        _check_key(raw, table, found)


def _columns(raw: sqlite3.Connection, name: str) -> dict[str, _Found]:
    rows = raw.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
    return {
        column.casefold(): _Found(declared, bool(not_null), default, bool(key_part))
        for _, column, declared, not_null, default, key_part in rows
    }


def _check_columns(table: Table[Any], found: dict[str, _Found]) -> None:
    missing = [column for column in table.columns if column.name.casefold() not in found]
    if missing:
        statements = "\n".join(
            f"ALTER TABLE {quoted(table.name)} ADD COLUMN {quoted(column.name)};"
            for column in missing
        )
        raise SchemaError(
            f"table {table.name!r} has no column {', '.join(repr(c.name) for c in missing)}",
            table=table.name,
            sql=statements,
        )
    compared = {Merge.SUM, Merge.MIN, Merge.MAX}
    for column in table.columns:
        strict = (
            column.name in table.key or column.name == table.delete_by or column.merge in compared
        )
        declared = found[column.name.casefold()].declared
        if strict and not _keeps(column, affinity(declared)):
            raise SchemaError(
                f"table {table.name!r}: column {column.name!r} is declared {declared!r}, which "
                f"changes values of type {column.expected}, so that rows which differ in memory "
                f"could be one in the table; declare the same type on both sides",
                table=table.name,
            )


def affinity(declared: str) -> str:
    """Give the affinity of a declared type: https://sqlite.org/datatype3.html, section 3.1."""
    upper = declared.upper()
    if "INT" in upper:
        return "INTEGER"
    if any(part in upper for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not upper or "BLOB" in upper:
        return "BLOB"
    if any(part in upper for part in ("REAL", "FLOA", "DOUB")):
        return "REAL"
    return "NUMERIC"


def _keeps(column: Column, affinity: str) -> bool:
    """Whether different values of the column stay different under an affinity."""
    kept: dict[Any, set[str]] = {
        str: {"TEXT", "BLOB"},
        int: {"INTEGER", "NUMERIC", "BLOB"},
        float: {"REAL", "INTEGER", "NUMERIC", "BLOB"},
        bytes: {"TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB"},
    }
    return column.storage is None or affinity in kept[column.storage]


def _check_others(table: Table[Any], found: dict[str, _Found]) -> None:
    """Refuse columns that every insert would leave empty though they must not be."""
    known = {column.name.casefold() for column in table.columns}
    for name, column in found.items():
        rowid = column.key_part and affinity(column.declared) == "INTEGER"
        if name not in known and column.not_null and column.default is None and not rowid:
            raise SchemaError(
                f"table {table.name!r}: column {name!r} is NOT NULL without a default, and the "
                f"row type {table.row_type.__name__} has no such field; add the field, or give "
                f"the column a default",
                table=table.name,
            )


def _check_key(raw: sqlite3.Connection, table: Table[Any], found: dict[str, _Found]) -> None:
    key = {name.casefold() for name in table.key}
    if key == {name for name, column in found.items() if column.key_part} and _is_rowid(
        table, found
    ):
        return
    seen = []
    for _, index, unique, _, partial in raw.execute(f"PRAGMA index_list({quoted(table.name)})"):
        if unique and not partial:
            parts = [
                (name, collation)
                for _, _, name, _, collation, is_key in raw.execute(
                    f"PRAGMA index_xinfo({quoted(index)})"
                )
                if is_key
            ]
            if {None if name is None else name.casefold() for name, _ in parts} == key:
                if all(collation == "BINARY" for _, collation in parts):
                    return
                seen.append(index)
    if seen:
        raise SchemaError(
            f"table {table.name!r}: the key ({', '.join(table.key)}) is unique under another "
            f"collation than BINARY, so that keys which differ in memory are one in the table; "
            f"make it unique under BINARY, or write keys in one case",
            table=table.name,
        )
    raise SchemaError(
        f"table {table.name!r}: nothing makes its key ({', '.join(table.key)}) unique",
        table=table.name,
        sql=f"CREATE UNIQUE INDEX {quoted(f'{table.name}_key')} "
        f"ON {quoted(table.name)} ({listed(table.key)});",
    )


def _is_rowid(table: Table[Any], found: dict[str, _Found]) -> bool:
    """Whether the key is the rowid under a name, which no index lists."""
    return len(table.key) == 1 and found[table.key[0].casefold()].declared.upper() == "INTEGER"
