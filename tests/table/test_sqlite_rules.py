"""SQLite's rules for names and declared types: SQLite itself is the oracle."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay._table.sqlite_rules import INT64, affinity, fold_case


@pytest.fixture
def raw() -> Iterator[sqlite3.Connection]:
    """Yield a connection to an empty database in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize(
    "declared",
    [
        *("INT", "INTEGER", "bigint", "TINYINT(1)", "charint", "floating point"),
        *("TEXT", "VARCHAR(10)", "clob", "NCHAR", "textblob"),
        *("BLOB", "", "blobreal"),
        *("REAL", "double precision", "FLOAT"),
        *("NUMERIC", "DECIMAL(10, 2)", "boolean", "date", "datetime", "string", "any"),
    ],
)
def test_affinity_of_a_declared_type(raw: sqlite3.Connection, declared: str) -> None:
    """What SQLite stores for a text and for numbers shows the affinity of the column."""
    raw.execute(f"CREATE TABLE t (c {declared})")
    for value in ("1", 1, "1.5"):
        raw.execute("INSERT INTO t VALUES (?)", (value,))
    stored_types = tuple(kind for (kind,) in raw.execute("SELECT typeof(c) FROM t"))

    assert {
        "INTEGER": ("integer", "integer", "real"),
        "NUMERIC": ("integer", "integer", "real"),
        "TEXT": ("text", "text", "text"),
        "REAL": ("real", "real", "real"),
        "BLOB": ("text", "integer", "text"),
    }[affinity(declared)] == stored_types


def test_integer_and_numeric_affinity_differ() -> None:
    """SQLite stores the same values under both, so that only the names tell them apart."""
    assert ["INTEGER", "NUMERIC", "NUMERIC"] == list(map(affinity, ["INT", "DECIMAL", "date"]))


@given(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
def test_names_fold_as_in_sqlite(letter: str) -> None:
    """Two column names are the same to SQLite exactly if they are the same when folded."""
    other = letter.swapcase()
    quoted = [name.replace('"', '""') for name in (letter, other)]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as raw:
        sql = 'CREATE TABLE t ("{}", "{}")'.format(*quoted)
        if fold_case(letter) == fold_case(other):
            with pytest.raises(sqlite3.OperationalError, match="duplicate column name"):
                raw.execute(sql)
        else:
            raw.execute(sql)


def test_the_range_of_integers(raw: sqlite3.Connection) -> None:
    """SQLite stores both ends of the range, and no integer beyond them."""
    for value in (INT64[0], INT64[-1]):
        assert (value,) == raw.execute("SELECT ?", (value,)).fetchone()
    for value in (INT64[0] - 1, INT64[-1] + 1):
        with pytest.raises(OverflowError):
            raw.execute("SELECT ?", (value,))
