"""The table of dead letters: operations that SQLite refused, beside the tables that refused them.

What is here runs in the writer's thread, in a transaction that is open: so a bad row leaves its
table's batch and reaches the dead letters in one commit, and on its replay goes back in one.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from forebay._errors import SpillError, StoreError, format_count
from forebay._spill import Spill
from forebay._table.json_format import encode_declaration, encode_operation, operation_name
from forebay._table.operations import Operation
from forebay._table.table import Table

TABLE: Final = "forebay_dead_letters"

SPILLED: Final = "SPILLED"
"""The error code of an entry that a drain had no time for."""

HISTORY: Final = ("error_code", "error", "failed_at")
"""What a letter's history keeps of each failure."""

# AUTOINCREMENT: the id of a letter that is gone never becomes another's, so a script or a person
# who noted it cannot purge the wrong one.
CREATE: Final = f"""\
CREATE TABLE IF NOT EXISTS {TABLE} (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    buffer TEXT NOT NULL,               -- the name of the table that refused it
    operation TEXT NOT NULL,            -- write, update, delete or delete_by
    entry TEXT NOT NULL,                -- the operation itself, as JSON
    declaration TEXT NOT NULL,          -- the table as the program declared it, as JSON
    error_code TEXT NOT NULL,           -- SQLite's name of the error, or Python's
    error TEXT NOT NULL,
    failed_at REAL NOT NULL,            -- Unix seconds, UTC
    attempts INTEGER NOT NULL,
    history TEXT NOT NULL DEFAULT '[]'  -- its earlier failures, oldest first, as JSON
)"""


_CREATE_SPILLS: Final = """\
CREATE TABLE IF NOT EXISTS forebay_spills (
    id TEXT PRIMARY KEY,            -- the spill's own
    first_letter INTEGER NOT NULL,  -- its entries became these dead letters
    last_letter INTEGER NOT NULL
)"""

_SELECTED: Final = """\
(:buffer IS NULL OR buffer = :buffer)
AND (:error_code IS NULL OR error_code = :error_code)
AND (:failed_before IS NULL OR failed_at < :failed_before)
AND (:ids IS NULL OR id IN (SELECT value FROM json_each(:ids)))"""

EXISTS: Final = f"SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '{TABLE}'"

SPILLS_EXIST: Final = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'forebay_spills'"

# A person may correct a letter by hand, and the table is not STRICT, which older SQLite's do not
# know: so what is read is cast to what it is declared as.
COUNT: Final = f"""\
SELECT CAST(buffer AS TEXT), CAST(error_code AS TEXT), count(*),
    CAST(min(failed_at) AS REAL), CAST(max(failed_at) AS REAL)
FROM {TABLE} WHERE {_SELECTED} GROUP BY 1, 2 ORDER BY 1, 2"""

DECLARATIONS: Final = f"SELECT DISTINCT CAST(declaration AS TEXT) FROM {TABLE}"

_SELECT: Final = f"""\
SELECT id, CAST(buffer AS TEXT), CAST(operation AS TEXT), CAST(entry AS TEXT),
    CAST(declaration AS TEXT), CAST(error_code AS TEXT), CAST(error AS TEXT),
    CAST(failed_at AS REAL), CAST(attempts AS INTEGER), CAST(history AS TEXT)
FROM {TABLE} WHERE {_SELECTED}"""

OLDEST: Final = f"{_SELECT} AND id > :after ORDER BY id LIMIT :limit"
NEWEST: Final = f"{_SELECT} ORDER BY id DESC LIMIT :limit"


def selection(
    *,
    buffer: str | None = None,
    error_code: str | None = None,
    failed_before: float | None = None,
    ids: Iterable[int] | None = None,
) -> dict[str, Any]:
    """Give the parameters of the queries above that say which letters are meant."""
    return {
        "buffer": buffer,
        "error_code": error_code,
        "failed_before": failed_before,
        "ids": None if ids is None else json.dumps(list(ids)),
    }


def insert(
    raw: sqlite3.Connection,
    table: Table[Any],
    operation: Operation,
    *,
    code: str,
    message: str,
    attempts: int,
    failed_at: float | None = None,
) -> int:
    """Put an operation into the dead letters.

    Args:
        raw: a connection in an open transaction; the letter, and the table of dead letters
            where there was none, are part of it.
        table: the table that refused the operation.
        operation: what was refused.
        code: the name of the error, such as ``SQLITE_CONSTRAINT_NOTNULL``.
        message: the error's text.
        attempts: how often the operation was tried.
        failed_at: when, in seconds since 1970, UTC; None for now.

    Returns:
        The id of the letter.

    Raises:
        sqlite3.Error: what SQLite answered.
    """
    raw.execute(CREATE)
    cursor = raw.execute(
        f"INSERT INTO {TABLE}"
        " (buffer, operation, entry, declaration, error_code, error, failed_at, attempts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            table.name,
            operation_name(operation),
            encode_operation(table, operation),
            encode_declaration(table),
            code,
            storable(message),
            time.time() if failed_at is None else failed_at,
            attempts,
        ),
    )
    [(letter,)] = cursor.fetchall()
    return int(letter)


def storable(text: str) -> str:
    """Give a text that SQLite takes and its shell shows whole: no lone surrogates, no NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def record_replay(
    raw: sqlite3.Connection, letters: Collection[int], refused: Mapping[int, int]
) -> None:
    """Note in the transaction that replays letters what became of them.

    Args:
        raw: a connection in that transaction.
        letters: the ids of the letters that it replays. Those that were not refused are removed.
        refused: for each letter that was refused again, the id of the dead letter that its
            operation has become. The old letter takes the new failure over, and keeps its own in
            its history; the new one is removed.

    Raises:
        StoreError: one of the letters is not there any more.
    """
    done = [letter for letter in letters if letter not in refused]
    gone = len(done) - _delete(raw, done)
    for letter, new in refused.items():
        gone += not _fail_again(raw, letter, new)
    if gone:
        raise StoreError(
            f"{gone} of {len(letters)} dead letters are not there any more: another process "
            f"replays or purges them at the same time; nothing of this transaction was done"
        )


def _fail_again(raw: sqlite3.Connection, letter: int, new: int) -> bool:
    old = raw.execute(
        f"SELECT error_code, error, failed_at, history FROM {TABLE} WHERE id = ?", (letter,)
    ).fetchone()
    if old is None:
        return False
    *failure, history = old
    past = [*json.loads(history), dict(zip(HISTORY, failure, strict=True))]
    raw.execute(
        f"UPDATE {TABLE} SET attempts = {TABLE}.attempts + new.attempts,"
        " error_code = new.error_code, error = new.error, failed_at = new.failed_at, history = ?"
        f" FROM {TABLE} AS new WHERE {TABLE}.id = ? AND new.id = ?",
        (json.dumps(past, ensure_ascii=False), letter, new),
    )
    _delete(raw, (new,))
    return True


def _delete(raw: sqlite3.Connection, ids: Iterable[int]) -> int:
    return purge(raw, selection(ids=ids))


def purge(raw: sqlite3.Connection, parameters: Mapping[str, Any]) -> int:
    """Remove letters, and tell how many there were of those that are meant."""
    raw.execute(CREATE)
    return raw.execute(f"DELETE FROM {TABLE} WHERE {_SELECTED}", parameters).rowcount


def import_spill(raw: sqlite3.Connection, spill: Spill) -> range:
    """Make dead letters of a spill's entries, in the open transaction; once only.

    Returns:
        The ids of the letters: the same again where the spill was taken in before, though some
        of them may have been replayed or purged since.

    Raises:
        SpillError: some of its entries were taken in before, from a file that was cut off.
    """
    raw.execute(CREATE)
    raw.execute(_CREATE_SPILLS)
    known = raw.execute(
        "SELECT first_letter, last_letter FROM forebay_spills WHERE id = ?", (spill.id,)
    ).fetchone()
    if known is not None:
        ids = range(known[0], known[1] + 1)
        if len(ids) < spill.entries:
            raise SpillError(
                f"the spill {spill.id} was taken in before, when it was not whole: only the first "
                f"{len(ids):,} of {format_count(spill.entries, 'entry')}. Those that follow are "
                f"in this file alone; taking in all would do the first ones twice. "
                f"See docs/operations.md"
            )
        return ids
    letters = [
        insert(
            raw,
            table,
            operation,
            code=SPILLED,
            message=spill.reason,
            attempts=0,
            failed_at=spill.written_at,
        )
        for table, operations in spill.unsettled.items()
        for operation in operations
    ]
    ids = range(letters[0], letters[-1] + 1) if letters else range(0)
    raw.execute("INSERT INTO forebay_spills VALUES (?, ?, ?)", (spill.id, ids.start, ids.stop - 1))
    return ids
