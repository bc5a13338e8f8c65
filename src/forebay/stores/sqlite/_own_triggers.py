"""Find the triggers by which entries of a table change other rows of the same table.

With coalescing they run for merged rows only, and in another order than that of acceptance. Whether
this changes the result depends on what they do: a trigger may set the time of the row that it is
about, or delete the children of a row. SQLite reports neither, so the store warns about them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from forebay._table.table import Table, is_coalesced, value_columns
from forebay.stores.sqlite._explain import explain
from forebay.stores.sqlite._statements import delete_sql, update_sql, write_sql

_TRIGGER: Final = "-- TRIGGER "
"""How the first instruction of a trigger's program begins its comment."""


def own_triggers(raw: sqlite3.Connection, table: Table[Any]) -> list[str]:
    """Return the names of the triggers that write a coalesced table when its rows are written.

    Triggers of other tables are among them, if writing the table runs them.
    """
    if not is_coalesced(table):
        return []
    pages = {
        page
        for (page,) in raw.execute(
            "SELECT rootpage FROM main.sqlite_schema WHERE tbl_name = ? COLLATE NOCASE",
            (table.name,),
        )
    }
    found: dict[str, None] = {}
    for sql, parameters in _statements(table):
        # A trigger may call an SQL function that the program has not registered yet.
        with suppress(sqlite3.Error):
            name = None
            for _, opcode, _, page, database, comment, *_ in explain(raw, sql, [None] * parameters):
                if opcode == "Init":
                    name = _trigger_name(comment)
                elif opcode == "OpenWrite" and database == 0 and page in pages and name is not None:
                    found[name] = None
    return list(found)


def _trigger_name(comment: str | None) -> str | None:
    """Return the name of the trigger whose program begins with this comment, or None."""
    if comment is None or not comment.startswith(_TRIGGER):
        return None
    return comment.removeprefix(_TRIGGER)


def _statements(table: Table[Any]) -> Iterator[tuple[str, int]]:
    """Yield the SQL of each kind of entry for one row, with the number of its parameters."""
    yield write_sql(table, 1), len(table.columns)
    yield delete_sql(table, table.key, 1), len(table.key)
    if values := tuple(column.name for column in value_columns(table)):
        yield update_sql(table, values, 1), len(table.columns)
    if table.delete_by is not None:
        yield delete_sql(table, (table.delete_by,), 1), 1
