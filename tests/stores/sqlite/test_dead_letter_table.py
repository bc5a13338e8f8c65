"""The table of dead letters: the row that `insert` writes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from forebay import Delete, Table, Write
from forebay._table.json_format import encode_declaration
from forebay.stores.sqlite._dead_letter_table import insert

TABLE = Table.from_columns({"k": str, "v": object}, name="things", key="k")


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as raw:
        yield raw


def test_a_letter_has_every_column(raw: sqlite3.Connection) -> None:
    """It has the buffer, the operation, the declaration, the error, the time, the attempts."""
    before = time.time()
    raw.execute("BEGIN IMMEDIATE")
    letter = insert(raw, TABLE, Write(("a", b"\1")), code="SQLITE_X", message="bad", attempts=3)
    raw.execute("COMMIT")
    [(*row, at)] = raw.execute(
        "SELECT id, buffer, operation, entry, declaration, error_code, error, attempts, history,"
        " failed_at FROM forebay_dead_letters"
    ).fetchall()
    assert [
        letter,
        "things",
        "write",
        '{"write": {"k": "a", "v": {"base64": "AQ=="}}}',
        encode_declaration(TABLE),
        "SQLITE_X",
        "bad",
        3,
        "[]",
    ] == row
    assert before <= at <= time.time()


def test_the_table_is_created_in_the_transaction(raw: sqlite3.Connection) -> None:
    """A rollback removes the letter, and the table if the transaction created it."""
    raw.execute("BEGIN IMMEDIATE")
    insert(raw, TABLE, Delete("a"), code="X", message="", attempts=1)
    raw.execute("ROLLBACK")
    assert [] == raw.execute("SELECT name FROM sqlite_schema").fetchall()


def test_an_id_is_never_used_again(raw: sqlite3.Connection) -> None:
    """Even the id of the last letter is not used again, so that it never means another letter."""
    raw.execute("BEGIN IMMEDIATE")
    first = insert(raw, TABLE, Delete("a"), code="X", message="", attempts=1)
    raw.execute("DELETE FROM forebay_dead_letters")
    assert first < insert(raw, TABLE, Delete("a"), code="X", message="", attempts=1)
    raw.execute("COMMIT")


def test_any_error_text_can_be_stored(raw: sqlite3.Connection) -> None:
    """Lone surrogates, which SQLite refuses, and NUL, at which its shell stops, are escaped."""
    raw.execute("BEGIN IMMEDIATE")
    insert(raw, TABLE, Delete("a"), code="X", message="caf\udce9\0 ä", attempts=1)
    raw.execute("COMMIT")
    found = raw.execute("SELECT error FROM forebay_dead_letters").fetchone()
    assert ("caf\\udce9\\x00 ä",) == found
