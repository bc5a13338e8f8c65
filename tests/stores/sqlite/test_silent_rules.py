"""The rules of a table by which SQLite drops rows without an error are found and logged."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from forebay import Table, open_buffers, open_sqlite
from forebay.stores.sqlite._silent_rules import silent_rules
from tests.log_records import own_records

IGNORE = "table 't' has a constraint with ON CONFLICT IGNORE"
REPLACE = "table 't' has a constraint with ON CONFLICT REPLACE"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("CREATE TABLE t (a INTEGER PRIMARY KEY, b UNIQUE, CHECK (b > 0))", []),
        ("CREATE TABLE t (a NOT NULL ON CONFLICT IGNORE)", [IGNORE]),
        ("CREATE TABLE t (a, UNIQUE (a) on\n  /* 'so' */ conflict -- it is\n  Replace)", [REPLACE]),
        (
            "CREATE TABLE t (a UNIQUE ON CONFLICT REPLACE, b NOT NULL ON CONFLICT IGNORE)",
            [IGNORE, REPLACE],
        ),
        ("CREATE TABLE t (a UNIQUE ON CONFLICT ABORT, b UNIQUE ON CONFLICT ROLLBACK)", []),
        ("CREATE TABLE t (a DEFAULT 'ON CONFLICT IGNORE')", []),
        ("CREATE TABLE t (a /* ON CONFLICT IGNORE */, b -- ON CONFLICT IGNORE\n)", []),
        ('CREATE TABLE t ("on" CONFLICT, ignore)', []),
        ('CREATE TABLE t ("ON CONFLICT IGNORE", [ON CONFLICT REPLACE], `RAISE IGNORE`)', []),
        (
            (
                "CREATE TABLE t (a); CREATE TRIGGER drops BEFORE INSERT ON t "
                "WHEN new.a < 0 BEGIN SELECT raise (ignore); END"
            ),
            ["table 't' has a trigger 'drops' with RAISE(IGNORE)"],
        ),
        (
            (
                "CREATE TABLE t (a); CREATE TRIGGER fails BEFORE INSERT ON t "
                "WHEN new.a < 0 BEGIN SELECT raise(ABORT, 'RAISE(IGNORE)'); END"
            ),
            [],
        ),
        ("CREATE TABLE t (a); CREATE TABLE other (a UNIQUE ON CONFLICT IGNORE)", []),
    ],
)
def test_the_rules_are_found_in_the_schema(script: str, expected: Sequence[str]) -> None:
    """The rules of one table are found; words in strings, names and comments are ignored."""
    with closing(sqlite3.connect(":memory:")) as raw:
        raw.executescript(script)
        assert list(expected) == list(silent_rules(raw, "T"))


async def test_a_table_that_drops_rows_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning is logged when the buffer is opened, and names the table."""
    table = Table.from_columns({"a": int | None}, name="t")
    async with open_sqlite(tmp_path / "a.db") as store:
        await store.run(
            lambda raw: raw.execute("CREATE TABLE t (a NOT NULL ON CONFLICT IGNORE)").close()
        )
        with caplog.at_level(logging.WARNING, "forebay"):
            async with open_buffers(store, table) as buffers:
                await buffers[table].write((None,))
        assert [] == await store.fetch_all("SELECT * FROM t")
        [record] = own_records(caplog)
        assert ("forebay.stores.sqlite._store", "WARNING") == (record.name, record.levelname)
        assert record.getMessage().startswith(
            f"{IGNORE}: SQLite drops rows because of it without an error"
        )
        caplog.clear()
        await store.run(lambda raw: raw.execute("DROP TABLE t").close())
        await store.run(lambda raw: raw.execute("CREATE TABLE t (a)").close())
        async with open_buffers(store, table):
            pass
        assert [] == own_records(caplog)
