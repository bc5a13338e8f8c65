"""The check of what would make coalescing wrong, and what is declared instead."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from forebay import (
    BufferOptions,
    Delete,
    Keep,
    Max,
    Min,
    SchemaError,
    Table,
    Write,
    dead_letters,
    open_buffers,
    open_sqlite,
)
from forebay._table.operations import Operation
from forebay.stores.sqlite._schema import check_table


def declared(**arguments: Any) -> Table[tuple[Any, ...]]:
    columns: dict[str, Any] = {"k": int, "u": int | None, "parent": int | None}
    return Table.from_columns(columns, name="t", key="k", **arguments)


def connect(ddl: str) -> sqlite3.Connection:
    raw = sqlite3.connect(":memory:", isolation_level=None)
    raw.executescript(f"PRAGMA foreign_keys = 1; {ddl}")
    return raw


def t(reference: str) -> str:
    """Return SQL that creates a table whose rows refer to a parent."""
    return f"CREATE TABLE t (k INTEGER PRIMARY KEY, u INT UNIQUE, parent INT {reference})"


ACTING = [
    t("REFERENCES t ON DELETE CASCADE"),
    t("REFERENCES T (K) ON DELETE SET NULL"),
    t("DEFAULT 1 REFERENCES t (k) ON DELETE SET DEFAULT"),
    t("REFERENCES t (k) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED"),
    t("REFERENCES t (u) ON UPDATE CASCADE"),
    t("REFERENCES t (u) ON UPDATE SET NULL"),
    t("DEFAULT 1 REFERENCES t (u) ON DELETE RESTRICT ON UPDATE SET DEFAULT"),
    t("REFERENCES c ON DELETE SET NULL")
    + "; CREATE TABLE c (id INTEGER PRIMARY KEY, tk REFERENCES t ON DELETE CASCADE)",
    t("REFERENCES d ON DELETE CASCADE")
    + "; CREATE TABLE c (id INTEGER PRIMARY KEY, tk REFERENCES t ON DELETE CASCADE)"
    + '; CREATE TABLE d (id INTEGER PRIMARY KEY, ck REFERENCES "c" ON DELETE CASCADE)',
    t(", UNIQUE (k, u), FOREIGN KEY (parent, u) REFERENCES t (k, u) ON UPDATE CASCADE"),
]


@pytest.mark.parametrize("ddl", ACTING)
def test_actions_that_lead_back_to_a_coalesced_table_are_refused(ddl: str) -> None:
    """The error names the declaration that works."""
    with closing(connect(ddl)) as raw:
        with pytest.raises(SchemaError, match="coalesce=False") as caught:
            check_table(raw, declared())
        assert "t" == caught.value.table

        check_table(raw, declared(coalesce=False))
        raw.execute("PRAGMA foreign_keys = 0")
        check_table(raw, declared())


@pytest.mark.parametrize(
    "ddl",
    [
        t("REFERENCES t"),
        t("REFERENCES t (u) ON DELETE RESTRICT ON UPDATE NO ACTION DEFERRABLE INITIALLY DEFERRED"),
        # No entry changes a key.
        t("REFERENCES t ON UPDATE CASCADE"),
        t("REFERENCES t (k) ON UPDATE SET NULL"),
        # Neither is a change of t that starts at an entry of t.
        t("REFERENCES p ON DELETE CASCADE") + "; CREATE TABLE p (id INTEGER PRIMARY KEY)",
        t("") + "; CREATE TABLE c (id INTEGER PRIMARY KEY, tk REFERENCES t ON DELETE CASCADE)",
        t("") + "; CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES c ON DELETE CASCADE)",
        t("REFERENCES missing ON DELETE CASCADE ON UPDATE CASCADE"),
    ],
)
def test_other_foreign_keys_are_accepted(ddl: str) -> None:
    """A foreign key that only refuses entries divides a batch, and then the result is right."""
    with closing(connect(ddl)) as raw:
        check_table(raw, declared())


async def written(
    path: Path, ddl: str, table: Table[Any], accepted: Sequence[Operation], *, batch_size: int
) -> tuple[list[tuple[Any, ...]], list[tuple[Operation, str]]]:
    """Return the rows of the table after these entries, and the dead letters with their codes."""
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(ddl)
    options = BufferOptions(batch_size=batch_size)
    async with open_sqlite(path, pragmas={"foreign_keys": 1}) as store:
        async with open_buffers(store, table, options=options) as buffers:
            for operation in accepted:
                if isinstance(operation, Write):
                    await buffers[table].enqueue(operation.row)
                elif isinstance(operation, Delete):
                    await buffers[table].enqueue_delete(operation.key)
        letters = await dead_letters.fetch(store)
        return (
            await store.fetch_all("SELECT * FROM t ORDER BY 1"),
            [(letter.decode()[1], letter.failure.error_code) for letter in letters],
        )


@pytest.mark.parametrize("batch_size", [1, 100])
async def test_a_cascade_has_the_effect_that_it_has_alone(tmp_path: Path, batch_size: int) -> None:
    """A child that was written before its parent was deleted is deleted with it."""
    accepted: list[Operation] = [Write((2, 2, 1)), Delete(1), Write((1, 7, None))]
    ddl = "; ".join([t("REFERENCES t ON DELETE CASCADE"), "INSERT INTO t VALUES (1, 1, NULL)"])

    table = declared(coalesce=False)
    seen = await written(tmp_path / "a.db", ddl, table, accepted, batch_size=batch_size)

    assert ([(1, 7, None)], []) == seen


async def test_buffers_are_not_opened_on_a_table_with_a_cascade_to_itself(tmp_path: Path) -> None:
    """The check sees the setting of `foreign_keys` that the buffers write with."""
    ddl = t("REFERENCES t ON DELETE CASCADE")
    with pytest.raises(SchemaError, match="'t' to 't' with ON DELETE CASCADE"):
        await written(tmp_path / "a.db", ddl, declared(), [], batch_size=1)


TEXTS = {"k": str, "n": int}
BINARY, NOCASE = (
    f"CREATE UNIQUE INDEX {name} ON t (k COLLATE {name})" for name in ("BINARY", "NOCASE")
)


@pytest.mark.parametrize("batch_size", [1, 100])
@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize(
    "ddl",
    [
        f"CREATE TABLE t (k TEXT, n INT); {BINARY}; {NOCASE}",
        f"CREATE TABLE t (k TEXT, n INT); {NOCASE}; {BINARY}",
        f"CREATE TABLE t (k TEXT PRIMARY KEY, n INT) WITHOUT ROWID; {NOCASE}",
        f"CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, n INT); {BINARY}",
        "CREATE TABLE t (k TEXT PRIMARY KEY, n INT); CREATE UNIQUE INDEX i ON t (lower(k))",
        f"CREATE TABLE t (k TEXT PRIMARY KEY, n INT); {NOCASE} WHERE n < 9",
    ],
)
async def test_a_key_that_is_unique_under_another_collation_too_is_refused(
    tmp_path: Path, ddl: str, coalesce: bool, batch_size: int
) -> None:
    """Rows whose keys differ only in case never become one row."""
    table = Table.from_columns(TEXTS, name="t", key="k", coalesce=coalesce)
    accepted = [Write(row) for row in (("a", 1), ("A", 2), ("b", 3), ("a", 4), ("B", 5))]

    rows, letters = await written(tmp_path / "a.db", ddl, table, accepted, batch_size=batch_size)

    assert [("a", 4), ("b", 3)] == rows
    primary = "NOCASE PRIMARY KEY" in ddl
    code = "SQLITE_CONSTRAINT_PRIMARYKEY" if primary else "SQLITE_CONSTRAINT_UNIQUE"
    assert [(Write(("A", 2)), code), (Write(("B", 5)), code)] == letters


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("rule", [Min, Max])
async def test_texts_are_not_compared_in_memory_if_the_database_compares_them_otherwise(
    tmp_path: Path, encoding: str, rule: Any
) -> None:
    """Without coalescing, one batch has the result of several."""
    ddl = f"PRAGMA encoding = '{encoding}'; CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT, n INT)"
    columns: dict[str, Any] = {"k": str, "v": str | None, "n": int}
    texts = ["\u0102", "\u0201", "\uff5e", "\U0001f600"]
    accepted = [Write(("a", text, 1)) for text in (*texts, *reversed(texts))]
    merged = Table.from_columns(columns, name="t", key="k", merge={"v": rule})
    with pytest.raises(SchemaError, match="coalesce=False"):
        await written(tmp_path / "refused.db", ddl, merged, accepted, batch_size=100)

    in_order = Table.from_columns(columns, name="t", key="k", merge={"v": rule}, coalesce=False)
    together = await written(tmp_path / "a.db", ddl, in_order, accepted, batch_size=100)
    alone = await written(tmp_path / "b.db", ddl, in_order, accepted, batch_size=1)
    assert alone == together
    with closing(sqlite3.connect(":memory:")) as raw:
        raw.executescript(ddl)
        raw.executemany("INSERT INTO t VALUES (?, ?, 1)", enumerate(texts))
        query = f"SELECT {rule.value}(v) FROM t"  # noqa: S608  # min or max
        assert raw.execute(query).fetchall() == [(together[0][0][1],)]

    others = Table.from_columns(columns, name="t", key="k", merge={"v": Keep, "n": rule})
    assert ([("a", texts[0], 1)], []) == await written(
        tmp_path / "c.db", ddl, others, accepted, batch_size=100
    )
