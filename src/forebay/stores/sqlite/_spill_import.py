"""The import of spill files: their entries become dead letters, each file once.

The table `forebay_spills` keeps the ids of the files that were imported.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from forebay._errors import SpillError, format_count
from forebay._spill import Spill
from forebay._table.json_format import encode_declaration, encode_operation, operation_name
from forebay.stores.sqlite import _dead_letter_table as dead_letters

SPILLED: Final = "SPILLED"
"""The error code of an entry that comes from a spill file: no table refused it."""

_CREATE_SPILLS: Final = """\
CREATE TABLE IF NOT EXISTS forebay_spills (
    id TEXT PRIMARY KEY,            -- the id in the spill file
    first_letter INTEGER NOT NULL,  -- its entries became these dead letters
    last_letter INTEGER NOT NULL
)"""

_EXISTS: Final = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'forebay_spills'"

_ROWS_PER_INSERT: Final = 100
"""Rows of one INSERT of an import: below 999 values, the limit of SQLite before 3.32."""


def import_spill(raw: sqlite3.Connection, spill: Spill) -> range:
    """Make dead letters of the entries of a spill file, unless an earlier import did.

    Args:
        raw: a connection in an open transaction.
        spill: the content of the file.

    Returns:
        The ids of the letters. An import that is repeated returns the same ids, though some of the
        letters may have been replayed or purged meanwhile.

    Raises:
        SpillError: an earlier import had only the first entries, from a file that was cut off.
    """
    raw.execute(dead_letters.CREATE)
    raw.execute(_CREATE_SPILLS)
    known = raw.execute(
        "SELECT first_letter, last_letter FROM forebay_spills WHERE id = ?", (spill.id,)
    ).fetchone()
    if known is not None:
        ids = range(known[0], known[1] + 1)
        if len(ids) < spill.entries:
            raise SpillError(
                f"an earlier import of the spill {spill.id}, from a file that was cut off, had "
                f"only the first {len(ids):,} of {format_count(spill.entries, 'entry')}. To import "
                f"the whole file would repeat these; see docs/operations.md, on spill files, for "
                f"how to import the other entries alone"
            )
        return ids
    ids = range(0)
    rows = _rows_of(spill)
    while chunk := list(islice(rows, _ROWS_PER_INSERT)):
        last = dead_letters.insert_rows(raw, chunk)
        first = ids.start if ids else last - len(chunk) + 1
        ids = range(first, last + 1)
    raw.execute("INSERT INTO forebay_spills VALUES (?, ?, ?)", (spill.id, ids.start, ids.stop - 1))
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
    """Return how many entries of each spill were imported, by the ids of the spills."""
    if raw.execute(_EXISTS).fetchone() is None:
        return {}
    return dict(raw.execute("SELECT id, last_letter - first_letter + 1 FROM forebay_spills"))
