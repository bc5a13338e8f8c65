"""Import spill files: their entries become dead letters. Each file is imported only once.

The table `forebay_spills` has the ids of the imported files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from forebay._errors import SpillError, format_count
from forebay._spill.model import Spill
from forebay._table.json_format import encode_declaration, encode_operation, operation_name
from forebay.stores.sqlite import _dead_letter_table as dead_letters
from forebay.stores.sqlite._format_table import create_table

SPILLED: Final = "SPILLED"
"""The error code of an entry that comes from a spill file: no table refused it."""

_CREATE_SPILLS: Final = """\
CREATE TABLE IF NOT EXISTS main.forebay_spills (
    id TEXT PRIMARY KEY,            -- the id in the spill file
    first_letter INTEGER NOT NULL,  -- the entries became these dead letters
    last_letter INTEGER NOT NULL
)"""

_EXISTS: Final = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = 'forebay_spills'"

_ROWS_PER_INSERT: Final = 100
"""The rows of one INSERT: their values stay below 999, the limit of SQLite before 3.32."""


def letters_of(spill: Spill) -> list[tuple[Any, ...]]:
    """Return the entries of a spill as rows of the table of dead letters.

    It takes longer than to insert them, so call it before the transaction begins.
    """
    return list(_rows_of(spill))


def import_letters(
    raw: sqlite3.Connection, spill: Spill, letters: Sequence[tuple[Any, ...]]
) -> range:
    """Insert the entries of a spill file as dead letters, unless the file was imported before.

    Args:
        raw: a connection with an open transaction.
        spill: the content of the file.
        letters: the result of `letters_of`.

    Returns:
        The ids of the letters. A repeated import returns the same ids, even if letters have been
        replayed or purged in the meantime.

    Raises:
        SpillError: the file was incomplete when it was imported before, so that only its first
            entries became dead letters.
    """
    create_table(raw, dead_letters.CREATE)
    create_table(raw, _CREATE_SPILLS)
    known = raw.execute(
        "SELECT first_letter, last_letter FROM main.forebay_spills WHERE id = ?", (spill.id,)
    ).fetchone()
    if known is not None:
        ids = range(known[0], known[1] + 1)
        if len(ids) < spill.entries:
            raise SpillError(
                f"an earlier import of the spill {spill.id}, from an incomplete file, had "
                f"only the first {len(ids):,} of {format_count(spill.entries, 'entry')}. To import "
                f"the whole file would repeat these; see docs/spill-files.md for "
                f"how to import the other entries alone"
            )
        return ids
    ids = range(0)
    rows = iter(letters)
    while chunk := list(islice(rows, _ROWS_PER_INSERT)):
        last = dead_letters.insert_rows(raw, chunk)
        first = ids.start if ids else last - len(chunk) + 1
        ids = range(first, last + 1)
    raw.execute(
        "INSERT INTO main.forebay_spills VALUES (?, ?, ?)", (spill.id, ids.start, ids.stop - 1)
    )
    return ids


def _rows_of(spill: Spill) -> Iterator[tuple[Any, ...]]:
    reason = dead_letters.storable(spill.reason)
    for table, operations in spill.unsettled.items():
        declaration = encode_declaration(table)
        for operation in operations:
            yield (
                table.name,
                operation_name(operation),
                encode_operation(table, operation),
                declaration,
                SPILLED,
                reason,
                spill.written_at,
                0,
            )


def imported_entries(raw: sqlite3.Connection) -> dict[str, int]:
    """Return the number of imported entries of each spill, by the id of the spill."""
    if raw.execute(_EXISTS).fetchone() is None:
        return {}
    return dict(raw.execute("SELECT id, last_letter - first_letter + 1 FROM main.forebay_spills"))
