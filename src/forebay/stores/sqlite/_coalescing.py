"""Check that a table in the file has nothing that makes coalescing wrong.

A batch of a coalesced table executes its entries in another order than that of acceptance, and
only the last of several versions of a row. That must not change the result. A constraint that
refuses an entry is no obstacle, since the batch is then divided. An effect without an error is one:

- A foreign key action changes rows of the table itself, perhaps over other tables: a child that
  was moved to another parent is deleted with the old parent if the delete is executed first.
- In a UTF-16 database, SQLite compares texts in another order than Python.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from forebay._errors import SchemaError
from forebay._table.merge import Merge
from forebay._table.sqlite_rules import fold_case
from forebay._table.table import Table, is_coalesced

_WITHOUT_EFFECT: Final = frozenset({"NO ACTION", "RESTRICT"})

# A row for each column of a foreign key. Without named columns, it refers to the primary key.
_FOREIGN_KEYS: Final = """\
SELECT child.name, key."table", key.on_delete, key.on_update, coalesce(
    key."to", (SELECT name FROM pragma_table_info(key."table", 'main') WHERE pk = key.seq + 1)
)
FROM main.sqlite_schema AS child, pragma_foreign_key_list(child.name, 'main') AS key
WHERE child.type = 'table'"""


def check_coalescing(raw: sqlite3.Connection, table: Table[Any]) -> None:
    """Check that coalescing cannot change the contents of a table.

    Args:
        raw: a connection to the file, with the setting of `foreign_keys` that the writer has.
        table: the declaration.

    Raises:
        SchemaError: coalescing could change the contents.
    """
    if not is_coalesced(table):
        return
    _check_encoding(raw, table)
    [(enforced,)] = raw.execute("PRAGMA foreign_keys")
    if enforced:
        _check_actions(raw, table)


def _check_encoding(raw: sqlite3.Connection, table: Table[Any]) -> None:
    [(encoding,)] = raw.execute("PRAGMA main.encoding")
    if encoding == "UTF-8":
        return
    for column in table.columns:
        if column.merge in {Merge.MIN, Merge.MAX} and column.storage is str:
            raise SchemaError(
                f"table {table.name!r}: column {column.label} is merged with "
                f"{column.merge.value.capitalize()}, but the database has the encoding "
                f"{encoding}, in which SQLite compares texts in another order than Python does; "
                f"declare the table with coalesce=False, so that only SQLite compares them, or "
                f"copy the data to a database with the encoding UTF-8",
                table=table.name,
            )


@dataclass(frozen=True, slots=True)
class _Action:
    """A foreign key that changes rows of a child table when rows of its parent change."""

    child: str
    parent: str
    clause: str

    def __str__(self) -> str:
        return f"the foreign key from {self.child!r} to {self.parent!r} with {self.clause}"


def _check_actions(raw: sqlite3.Connection, table: Table[Any]) -> None:
    actions = list(_read_actions(raw, table))
    start = fold_case(table.name)
    paths: dict[str, tuple[_Action, ...]] = {start: ()}
    reached = [start]
    for parent in reached:  # it grows
        for action in actions:
            if fold_case(action.parent) != parent:
                continue
            path = (*paths[parent], action)
            child = fold_case(action.child)
            if child == start:
                raise SchemaError(
                    f"table {table.name!r}: a change of one of its rows can change others of its "
                    f"rows without an error, by {', and '.join(map(str, path))}; the result then "
                    f"depends on the order of the entries, which coalescing changes; declare the "
                    f"table with coalesce=False, or remove the actions",
                    table=table.name,
                )
            if child not in paths:
                paths[child] = path
                reached.append(child)


def _read_actions(raw: sqlite3.Connection, table: Table[Any]) -> Iterator[_Action]:
    """Yield the foreign key actions that entries of a table can start, at once or over others."""
    never_changed = {(fold_case(table.name), fold_case(name)) for name in table.key}
    for child, parent, on_delete, on_update, column in raw.execute(_FOREIGN_KEYS).fetchall():
        if on_delete not in _WITHOUT_EFFECT:
            yield _Action(child, parent, f"ON DELETE {on_delete}")
        referenced = (fold_case(parent), fold_case(column or ""))
        if on_update not in _WITHOUT_EFFECT and referenced not in never_changed:
            yield _Action(child, parent, f"ON UPDATE {on_update}")
