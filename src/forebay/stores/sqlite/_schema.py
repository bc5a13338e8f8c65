"""Check that a table in the file matches its declaration, and suggest SQL that corrects it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from forebay._errors import SchemaError
from forebay._table.columns import Column, Storage
from forebay._table.sqlite_rules import affinity, fold_case
from forebay._table.table import Table
from forebay.stores.sqlite._coalescing import check_coalescing
from forebay.stores.sqlite._ddl import add_column_sql, can_be_added, create_index_sql, create_sql
from forebay.stores.sqlite._indexes import StoredIndex, missing_indexes, read_indexes
from forebay.stores.sqlite._statements import quoted

ALTER_ADVICE: Final = "to add what is missing, pass create=[…] and alter=True to open_sqlite"


@dataclass(frozen=True, slots=True)
class _StoredColumn:
    """A column of the table in the file."""

    declared: str
    not_null: bool
    default: str | None
    key_part: bool
    hidden: bool
    """Whether it is a generated column or a hidden one of a virtual table; it takes no values."""


def check_table(raw: sqlite3.Connection, table: Table[Any]) -> None:
    """Check that a table in the file matches its declaration.

    Args:
        raw: a connection to the file.
        table: the declaration.

    Raises:
        SchemaError: the table or a column is missing, the key is not unique, the table would
            change or refuse rows that the declaration allows, or coalescing could change what
            becomes of rows.
    """
    check_kind(raw, table)
    stored = _read_columns(raw, table.name)
    strict = is_strict(raw, table.name)
    indexes = read_indexes(raw, table.name)
    rowid = _rowid_column(stored, indexes)
    _check_columns(table, stored, rowid, strict=strict)
    _check_undeclared_columns(table, stored, rowid)
    if table.key and {fold_case(name) for name in table.key} != {rowid}:
        _check_key(raw, table, indexes)
    check_coalescing(raw, table)
    if missing := missing_indexes(raw, table, indexes):
        raise SchemaError(
            f"table {table.name!r} has no index {', '.join(repr(i.name) for i in missing)}; "
            f"{ALTER_ADVICE}",
            table=table.name,
            sql="\n".join(f"{create_index_sql(table, index)};" for index in missing),
        )


def check_kind(raw: sqlite3.Connection, table: Table[Any]) -> None:
    """Check that there is a table of this name, to which a buffer can write.

    Raises:
        SchemaError: there is none.
    """
    kind = raw.execute(
        "SELECT type, sql LIKE 'CREATE VIRTUAL %' FROM main.sqlite_schema "
        "WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')",
        (table.name,),
    ).fetchone()
    if kind is None:
        raise SchemaError(
            f"there is no table {table.name!r} in the database; create it, or pass "
            f"create=[…] to open_sqlite",
            table=table.name,
            sql="\n".join(
                f"{sql};"
                for sql in (
                    create_sql(table),
                    *(create_index_sql(table, index) for index in table.indexes),
                )
            ),
        )
    if kind[0] != "table":
        raise SchemaError(
            f"{table.name!r} is a {kind[0]}, but a buffer can only write to a table",
            table=table.name,
        )
    if table.key and kind[1]:
        raise SchemaError(
            f"{table.name!r} is a virtual table, to which a buffer can only append rows; declare "
            f"it without a key",
            table=table.name,
        )


def is_strict(raw: sqlite3.Connection, name: str) -> bool:
    """Return whether a table is a STRICT table, whose columns take only values of their type."""
    if sqlite3.sqlite_version_info < (3, 37):  # pragma: no cover  # older SQLite
        return False
    rows = raw.execute(f"PRAGMA main.table_list({quoted(name)})").fetchall()
    return any(strict for *_, strict in rows)


def missing_columns(raw: sqlite3.Connection, table: Table[Any]) -> list[Column]:
    """Return the declared columns that a table in the file does not have."""
    stored = _read_columns(raw, table.name)
    return [column for column in table.columns if fold_case(column.name) not in stored]


def _read_columns(raw: sqlite3.Connection, name: str) -> dict[str, _StoredColumn]:
    rows = raw.execute(f"PRAGMA main.table_xinfo({quoted(name)})").fetchall()
    return {
        fold_case(column): _StoredColumn(
            declared, bool(not_null), default, bool(key_part), bool(hidden)
        )
        for _, column, declared, not_null, default, key_part, hidden in rows
    }


def _rowid_column(stored: dict[str, _StoredColumn], indexes: list[StoredIndex]) -> str | None:
    """Return the name of the column that is the rowid, or None.

    It is the only column of a primary key that has no index.
    """
    parts = [name for name, column in stored.items() if column.key_part]
    indexed = any(index.is_primary_key for index in indexes)
    return parts[0] if len(parts) == 1 and not indexed else None


def _check_columns(
    table: Table[Any], stored: dict[str, _StoredColumn], rowid: str | None, *, strict: bool
) -> None:
    missing = [column for column in table.columns if fold_case(column.name) not in stored]
    if missing:
        addable = all(can_be_added(column) and column.name not in table.key for column in missing)
        raise SchemaError(
            f"table {table.name!r} has no column {', '.join(c.label for c in missing)}"
            f"{f'; {ALTER_ADVICE}' if addable else ''}",
            table=table.name,
            sql="\n".join(f"{add_column_sql(table, c, strict=strict)};" for c in missing),
        )
    for column in table.columns:
        found = stored[fold_case(column.name)]
        if found.hidden:
            raise SchemaError(
                f"table {table.name!r}: column {column.label} is generated, so no value can be "
                f"written to it; remove it from the row type",
                table=table.name,
            )
        is_rowid = fold_case(column.name) == rowid
        if not _is_lossless(column, found.declared, is_rowid=is_rowid, strict=strict):
            raise SchemaError(
                f"table {table.name!r}: column {column.label} has the declared type "
                f"{found.declared!r}, which converts or refuses values of type {column.expected}, "
                f"so what is read would differ from what was written; use the same type in the "
                f"table and in the row type",
                table=table.name,
            )


_LOSSLESS_AFFINITIES: Final[dict[Storage, set[str]]] = {
    str: {"TEXT", "BLOB"},
    int: {"INTEGER", "NUMERIC", "BLOB"},
    float: {"REAL", "INTEGER", "NUMERIC", "BLOB"},
    bytes: {"TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB"},
}
"""The affinities under which different values of a type stay different."""

_LOSSLESS_STRICT_TYPES: Final[dict[Storage, set[str]]] = {
    str: {"TEXT", "ANY"},
    int: {"INT", "INTEGER", "ANY"},
    float: {"REAL", "ANY"},
    bytes: {"BLOB", "ANY"},
}
"""The types of a STRICT table that store every value of a type unchanged.

See https://sqlite.org/stricttables.html.
"""


def _is_lossless(column: Column, declared: str, *, is_rowid: bool, strict: bool) -> bool:
    if column.storage is None:
        return True
    if is_rowid:
        return column.storage is int
    if strict:
        return declared.upper() in _LOSSLESS_STRICT_TYPES[column.storage]
    if column.type.codec is not None and column.type.codec.never_numeric:
        return True  # SQLite converts no text that does not look like a number
    return affinity(declared) in _LOSSLESS_AFFINITIES[column.storage]


def _check_undeclared_columns(
    table: Table[Any], stored: dict[str, _StoredColumn], rowid: str | None
) -> None:
    """Check that every column outside the row type may be NULL or has a default."""
    declared = {fold_case(column.name) for column in table.columns}
    for name, column in stored.items():
        refuses_null = column.not_null and (column.default or "NULL").upper() == "NULL"
        if refuses_null and name not in declared and name != rowid and not column.hidden:
            raise SchemaError(
                f"table {table.name!r}: column {name!r} is NOT NULL without a default, and the "
                f"row type {table.row_type.__name__} has no such field; add the field, or set a "
                f"default for the column",
                table=table.name,
            )


def _check_key(raw: sqlite3.Connection, table: Table[Any], indexes: list[StoredIndex]) -> None:
    key = {fold_case(name) for name in table.key}
    covering = [index for index in indexes if index.covers(key)]
    if any(all(part.collation == "BINARY" for part in index.parts) for index in covering):
        return
    if covering:
        raise SchemaError(
            f"table {table.name!r}: its key ({', '.join(table.key)}) is unique only under a "
            f"collation other than BINARY, so different keys in memory could become one key in "
            f"the table; make it unique under BINARY",
            table=table.name,
        )
    names = {fold_case(name) for (name,) in raw.execute("SELECT name FROM main.sqlite_schema")}
    candidates = (f"{table.name}_key{n or ''}" for n in count())
    index = next(name for name in candidates if fold_case(name) not in names)
    columns = ", ".join(f"{quoted(name)} COLLATE BINARY" for name in table.key)
    raise SchemaError(
        f"table {table.name!r}: no primary key and no unique index covers exactly its key "
        f"({', '.join(table.key)}); before you create the index, delete rows with duplicate keys",
        table=table.name,
        sql=f"CREATE UNIQUE INDEX {quoted(index)} ON {quoted(table.name)} ({columns});",
    )


def conversions(raw: sqlite3.Connection, table: Table[Any]) -> list[str]:
    """Return the columns of several types that do not store every value as it is.

    A row read from such a table can differ from the row that was written. A column of one type
    cannot convert a value: `check_table` refuses such a table.

    Args:
        raw: a connection to the file.
        table: the declaration, which matches the table in the file.
    """
    stored = _read_columns(raw, table.name)
    strict = is_strict(raw, table.name)
    rowid = _rowid_column(stored, read_indexes(raw, table.name))
    found: list[str] = []
    for column in table.columns:
        declared = stored[fold_case(column.name)].declared
        is_rowid = fold_case(column.name) == rowid
        if column.has_one_type:
            continue
        if strict:
            exact = declared.upper() == "ANY"
        else:
            exact = not is_rowid and affinity(declared) == "BLOB"
        if not exact:
            found.append(f"column {column.name!r}, declared as {declared!r}")
    return found
