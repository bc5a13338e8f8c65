"""The triggers that write the table whose rows run them are found and logged."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from forebay import Keep, Table, open_buffers, open_sqlite
from forebay.stores.sqlite._own_triggers import own_triggers
from tests.log_records import own_records

COLUMNS: dict[str, Any] = {"k": int, "parent": int | None, "n": int}
TREE = Table.from_columns(COLUMNS, name="t", key="k", delete_by="parent")
DDL = "CREATE TABLE t (k INTEGER PRIMARY KEY, parent INT, n INT); CREATE TABLE log (k)"
CASCADE = "CREATE TRIGGER cascade AFTER DELETE ON t BEGIN DELETE FROM t WHERE parent = old.k; END"

UNKNOWN = "CREATE TRIGGER u AFTER INSERT ON t BEGIN INSERT INTO log VALUES (later(new.k)); END"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", []),
        (CASCADE, ["cascade"]),
        (
            """CREATE TRIGGER "new one" BEFORE INSERT ON t
                BEGIN UPDATE "T" SET n = 0 WHERE k <> new.k; END""",
            ["new one"],
        ),
        (
            """CREATE TEMP TRIGGER touched AFTER UPDATE ON main.t
                BEGIN INSERT OR REPLACE INTO t VALUES (0, 0, 0); END""",
            ["touched"],
        ),
        (
            """CREATE TRIGGER first AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.k); END;
                CREATE TRIGGER second AFTER INSERT ON log
                BEGIN DELETE FROM t WHERE k < new.k - 100; END""",
            ["second"],
        ),
        (
            """CREATE TRIGGER reads AFTER INSERT ON t
                BEGIN INSERT INTO log SELECT count(*) FROM t; END""",
            [],
        ),
        ("CREATE TRIGGER of_another AFTER INSERT ON log BEGIN DELETE FROM t; END", []),
        (
            f"{CASCADE}; {UNKNOWN}",
            ["cascade"],
        ),
        (
            """DROP TABLE t;
                CREATE TABLE t (k INTEGER PRIMARY KEY, parent INT, n INT) WITHOUT ROWID;
                CREATE INDEX i ON t (parent);"""
            + CASCADE,
            ["cascade"],
        ),
    ],
)
def test_triggers_that_write_the_table_are_found(script: str, expected: Sequence[str]) -> None:
    """So are those of other tables that its rows run; an unknown SQL function is no obstacle."""
    with closing(sqlite3.connect(":memory:")) as raw:
        raw.executescript(f"{DDL}; {script}")
        assert list(expected) == own_triggers(raw, TREE)
        for table in (
            Table.from_columns(COLUMNS, name="t", key="k", coalesce=False),
            Table.from_columns(COLUMNS, name="t"),
        ):
            assert [] == own_triggers(raw, table)


def test_a_table_of_keys_alone_is_examined() -> None:
    """It has no UPDATE."""
    with closing(sqlite3.connect(":memory:")) as raw:
        raw.executescript(f"{DDL}; {CASCADE}")
        keys = Table.from_columns({"k": int}, name="t", key="k", merge=Keep)
        assert ["cascade"] == own_triggers(raw, keys)


async def test_a_trigger_that_writes_its_table_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, and names the table, the trigger and the declaration that works."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(f"{DDL}; {CASCADE}")
    async with open_sqlite(path) as store:
        with caplog.at_level(logging.WARNING, "forebay"):
            for _ in range(2):
                async with open_buffers(store, TREE):
                    pass
    [record] = own_records(caplog)
    assert ("forebay.stores.sqlite._store", "WARNING") == (record.name, record.levelname)
    message = record.getMessage()
    assert message.startswith("table 't': the trigger 'cascade' writes the table itself")
    assert "coalesce=False" in message
