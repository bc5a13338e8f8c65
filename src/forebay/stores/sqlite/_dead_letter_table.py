"""The table `forebay_dead_letters`: the SQL that writes, selects, counts and removes dead letters.

A dead letter is written here, by `insert`: the commit of a batch (`_commit.py`) calls it for each
row that the table refuses. `forebay.dead_letters` reads, replays and purges what is in the table.

The functions that write run in the writer's thread, in an open transaction. So a refused row
becomes a dead letter in the transaction that commits the rest of its batch, and a replay deletes
the letter in the transaction that commits its operation.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from forebay._errors import StoreError
from forebay._table.json_format import encode_declaration, encode_operation, operation_name
from forebay._table.operations import Operation
from forebay._table.table import Table
from forebay.stores.sqlite._format_table import create_table
from forebay.stores.sqlite._statements import in_main

_NAME: Final = "forebay_dead_letters"

TABLE: Final = in_main(_NAME)

HISTORY: Final = ("error_code", "error", "failed_at")
"""The columns of each failure in the history of a letter."""

# AUTOINCREMENT: SQLite never gives the id of a removed letter to another one. So a script or a
# person who wrote an id down cannot purge the wrong letter.
CREATE: Final = f"""\
CREATE TABLE IF NOT EXISTS {TABLE} (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    buffer TEXT NOT NULL,               -- the name of the table that refused the entry
    operation TEXT NOT NULL,            -- write, update, delete or delete_by
    entry TEXT NOT NULL,                -- the entry itself, as JSON
    declaration TEXT NOT NULL,          -- the table as the program declared it, as JSON
    error_code TEXT NOT NULL,           -- SQLite's name of the error, or Python's
    error TEXT NOT NULL,
    failed_at REAL NOT NULL,            -- Unix seconds, UTC
    attempts INTEGER NOT NULL,
    history TEXT NOT NULL DEFAULT '[]'  -- its earlier failures, oldest first, as JSON
)"""

_INSERTED: Final = (
    "buffer",
    "operation",
    "entry",
    "declaration",
    "error_code",
    "error",
    "failed_at",
    "attempts",
)

EXISTS: Final = f"SELECT 1 FROM main.sqlite_schema WHERE name = '{_NAME}'"

DECLARATIONS: Final = f"SELECT DISTINCT CAST(declaration AS TEXT) FROM {TABLE}"

LAST_ID: Final = f"SELECT max(id) FROM {TABLE}"

# These queries return the bounds of the first, or the last, :size letters of a range. A query
# between the bounds visits at most :size letters, even if it returns fewer.
_WINDOW: Final = f"""\
SELECT min(id), max(id) FROM (
    SELECT id FROM {TABLE} WHERE id BETWEEN :first AND :last ORDER BY id {{}} LIMIT :size
)"""
FIRST_WINDOW: Final = _WINDOW.format("ASC")
LAST_WINDOW: Final = _WINDOW.format("DESC")

# A person may edit a letter, and the table is not STRICT, because SQLite supports that only since
# 3.37. So each value is cast to the declared type of its column.
SELECT: Final = f"""\
SELECT id, CAST(buffer AS TEXT), CAST(operation AS TEXT), CAST(entry AS TEXT),
    CAST(declaration AS TEXT), CAST(error_code AS TEXT), CAST(error AS TEXT),
    CAST(failed_at AS REAL), CAST(attempts AS INTEGER), CAST(history AS TEXT)
FROM {TABLE}"""

_COUNT: Final = f"""\
SELECT CAST(buffer AS TEXT), CAST(error_code AS TEXT), count(*),
    CAST(min(failed_at) AS REAL), CAST(max(failed_at) AS REAL)
FROM {TABLE}"""


class Where(NamedTuple):
    """A condition that selects letters: an SQL expression and its parameters."""

    sql: str = "TRUE"
    parameters: Mapping[str, Any] = {}

    def __and__(self, other: Where) -> Where:
        """Return the condition that both conditions hold."""
        return Where(f"{self.sql} AND {other.sql}", {**self.parameters, **other.parameters})


def fields_are(
    *, buffer: str | None = None, error_code: str | None = None, failed_before: float | None = None
) -> Where:
    """Return the condition that the fields of a letter match. None matches every value."""
    given = {
        "buffer = :buffer": buffer,
        "error_code = :error_code": error_code,
        "failed_at < :failed_before": failed_before,
    }
    given = {sql: value for sql, value in given.items() if value is not None}
    parameters = {sql.rpartition(":")[2]: value for sql, value in given.items()}
    return Where(" AND ".join(["TRUE", *given]), parameters)


def id_in(ids: Iterable[int]) -> Where:
    """Return the condition that a letter has one of these ids. It uses the primary key."""
    return Where("id IN (SELECT value FROM json_each(:ids))", {"ids": json.dumps(list(ids))})


def id_between(first: int, last: int) -> Where:
    """Return the condition that a letter's id is in a range, both ends included."""
    return Where("id BETWEEN :first AND :last", {"first": first, "last": last})


def select(where: Where, *, newest_first: bool, limit: int) -> tuple[str, dict[str, Any]]:
    """Return a query for all columns of letters, and its parameters.

    Args:
        where: the condition that selects the letters.
        newest_first: whether letters with a higher id come first.
        limit: the largest number of letters; -1 for all.
    """
    order = "DESC" if newest_first else "ASC"
    sql = f"{SELECT} WHERE {where.sql} ORDER BY id {order} LIMIT :limit"
    return sql, {**where.parameters, "limit": limit}


def select_ids(where: Where) -> tuple[str, Mapping[str, Any]]:
    """Return a query for the ids of letters, and its parameters."""
    return f"SELECT id FROM {TABLE} WHERE {where.sql}", where.parameters


def count(where: Where = Where()) -> tuple[str, Mapping[str, Any]]:  # noqa: B008  # immutable
    """Return a query that counts letters by buffer and error code, and its parameters."""
    return f"{_COUNT} WHERE {where.sql} GROUP BY 1, 2 ORDER BY 1, 2", where.parameters


def insert(
    raw: sqlite3.Connection,
    table: Table[Any],
    operation: Operation,
    *,
    code: str,
    message: str,
    attempts: int,
) -> int:
    """Insert a refused entry as a dead letter. Create the table of dead letters if necessary.

    Args:
        raw: a connection with an open transaction, which the letter and the table become part of.
        table: the table that refused the entry.
        operation: the operation of the entry.
        code: the name of the error, such as ``SQLITE_CONSTRAINT_NOTNULL``.
        message: the message of the error.
        attempts: the number of attempts to commit the entry.

    Returns:
        The id of the letter.

    Raises:
        sqlite3.Error: SQLite refused the letter.
    """
    create_table(raw, CREATE)
    row = (
        table.name,
        operation_name(operation),
        encode_operation(table, operation),
        encode_declaration(table),
        code,
        storable(message),
        time.time(),
        attempts,
    )
    return insert_rows(raw, [row])


def insert_rows(raw: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
    """Insert letters with one statement, and return the id of the last one.

    Args:
        raw: a connection with an open transaction. The table of dead letters must exist.
        rows: for each letter its buffer, operation, entry, declaration, error code, error, time of
            failure and number of attempts. The letters get consecutive ids.
    """
    row = f"({', '.join('?' * len(_INSERTED))})"
    cursor = raw.execute(
        f"INSERT INTO {TABLE} ({', '.join(_INSERTED)}) VALUES {', '.join([row] * len(rows))}"
        " RETURNING id",
        [value for row in rows for value in row],
    )
    return max(int(letter) for (letter,) in cursor.fetchall())


def storable(text: str) -> str:
    """Return a text with escapes for lone surrogates, which SQLite refuses, and for NUL.

    SQLite's shell shows a text only up to a NUL.
    """
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def record_replay(
    raw: sqlite3.Connection, letters: Collection[int], refused: Mapping[int, int]
) -> None:
    """Record the outcome of a replay in the transaction that replays the letters.

    A letter whose operation was committed is deleted. If an operation was refused again, the commit
    has written a new dead letter for it: the replayed letter takes over the failure of the new
    letter and adds its previous failure to its history, and the new letter is deleted.

    The work grows with the number of these letters, not with the size of the table.

    Args:
        raw: a connection with that transaction.
        letters: the ids of the letters that the transaction replays.
        refused: the id of the new letter, by the id of each letter that was refused again.

    Raises:
        StoreError: some of the letters no longer exist.
    """
    replayed = [letter for letter in letters if letter not in refused]
    gone = len(replayed) - delete(raw, id_in(replayed))
    gone += len(refused) - _add_failures(raw, refused)
    delete(raw, id_in(refused.values()))
    if gone:
        raise StoreError(
            f"{gone} of {len(letters)} dead letters are gone: another process replays or purges "
            f"them at the same time. This transaction was rolled back"
        )


# CROSS JOIN keeps the order of the tables, so that SQLite searches the letters by primary key.
_ADD_FAILURES: Final = f"""\
UPDATE {TABLE} AS old SET
    attempts = old.attempts + new.attempts,
    error_code = new.error_code,
    error = new.error,
    failed_at = new.failed_at,
    history = new.history
FROM (
    SELECT json_extract(change.value, '$[0]') AS letter,
        json_extract(change.value, '$[2]') AS history,
        added.attempts, added.error_code, added.error, added.failed_at
    FROM json_each(:changes) AS change
    CROSS JOIN {TABLE} AS added ON added.id = json_extract(change.value, '$[1]')
) AS new
WHERE old.id = new.letter"""


def _add_failures(raw: sqlite3.Connection, refused: Mapping[int, int]) -> int:
    """Copy the failures of new letters to the replayed letters; return how many of these exist."""
    where = id_in(refused)
    columns = ", ".join(HISTORY)
    changes = [
        (letter, refused[letter], _extended(history, failure))
        for letter, history, *failure in raw.execute(
            f"SELECT id, history, {columns} FROM {TABLE} WHERE {where.sql}", where.parameters
        )
    ]
    return raw.execute(_ADD_FAILURES, {"changes": json.dumps(changes)}).rowcount


def _extended(history: str, failure: Sequence[Any]) -> str:
    past = [*json.loads(history), dict(zip(HISTORY, failure, strict=True))]
    return json.dumps(past, ensure_ascii=False)


def delete(raw: sqlite3.Connection, where: Where) -> int:
    """Delete the selected letters, and return their number."""
    return raw.execute(f"DELETE FROM {TABLE} WHERE {where.sql}", where.parameters).rowcount
