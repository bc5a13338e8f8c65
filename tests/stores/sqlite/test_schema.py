"""Whether a table in the file is what its declaration says: what is refused, what mends it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import forebay
from forebay import Max, SchemaError, Sum, Table
from forebay.stores import WriteStep
from forebay.stores.sqlite._schema import check_table
from forebay.stores.sqlite._statements import statements


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a new file, in autocommit mode."""
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as connection:
        yield connection


def declared(**arguments: Any) -> Table[tuple[Any, ...]]:
    """A table of a text key, a number and a text."""
    columns = {"k": str, "n": int | None, "v": str | None}
    return Table.from_columns(columns, name="t", **{"key": "k", **arguments})


def write_a_row(raw: sqlite3.Connection, table: Table[Any], row: tuple[Any, ...]) -> None:
    """Write a row as a buffer would."""
    for statement in statements(table, WriteStep([row]), variables=999):
        raw.execute(statement.sql, statement.parameters)


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE t (k TEXT PRIMARY KEY, n INTEGER, v TEXT)",
        "CREATE TABLE T (K text primary key, N int, V varchar(10))",
        "CREATE TABLE t (v, k TEXT PRIMARY KEY NOT NULL, n) WITHOUT ROWID",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, k TEXT NOT NULL UNIQUE, n INT, v TEXT)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, k TEXT UNIQUE, n INT, v TEXT)",
        "CREATE TABLE t (id INT PRIMARY KEY, k TEXT UNIQUE, n INT, v TEXT)",
        "CREATE TABLE t (k TEXT, n, v); CREATE UNIQUE INDEX i ON t (k)",
        (
            "CREATE TABLE t (k TEXT COLLATE NOCASE, n, v);"
            "CREATE UNIQUE INDEX i ON t (k COLLATE BINARY)"
        ),
        "CREATE TABLE t (k TEXT UNIQUE, n, v, w NOT NULL DEFAULT 7)",
        "CREATE TABLE t (k TEXT UNIQUE, n, v, w NOT NULL GENERATED ALWAYS AS (k || v) STORED)",
        "CREATE TABLE t (k TEXT UNIQUE, n, v, w GENERATED ALWAYS AS (k || v))",
        "CREATE TABLE t (k TEXT UNIQUE, n INTEGER, v TEXT) STRICT",
        "CREATE TABLE t (k BLOB UNIQUE, n, v); CREATE UNIQUE INDEX i ON t (k) WHERE n > 1",
    ],
)
def test_a_table_that_keeps_the_rows_is_taken(raw: sqlite3.Connection, ddl: str) -> None:
    """Further columns, other types and other ways to be unique are the program's affair."""
    raw.executescript(ddl)

    check_table(raw, declared())

    write_a_row(raw, declared(), ("a", 1, "x"))
    write_a_row(raw, declared(), ("a", 2, "y"))
    assert [("a", 2, "y")] == raw.execute("SELECT k, n, v FROM t").fetchall()


@pytest.mark.parametrize(
    ("columns", "arguments", "ddl", "rows"),
    [
        ({"k": int, "v": int}, {"key": "k"}, "t (k INTEGER PRIMARY KEY, v)", [(5, 1), (5, 2)]),
        ({"k": int, "v": int}, {"key": "k"}, "t (k INTEGER PRIMARY KEY DESC, v)", [(5, 1), (5, 2)]),
        (
            {"k": int, "v": int},
            {"key": "k"},
            "t (k INTEGER PRIMARY KEY, v) WITHOUT ROWID",
            [(5, 1), (5, 2)],
        ),
        ({"k": float}, {"key": "k"}, "t (k INTEGER UNIQUE)", [(1.5,), (1.5,)]),
        ({"k": bytes}, {"key": "k"}, "t (k TEXT UNIQUE)", [(b"a",), (b"a",)]),
        (
            {"a": str, "b": int},
            {"key": ("b", "a")},
            "t (a TEXT, b INT, PRIMARY KEY (a, b))",
            [("a", 1), ("a", 1)],
        ),
        (
            {"a": str, "b": int},
            {"key": ("a", "b")},
            "t (a TEXT, b INT, UNIQUE (b, a)) ",
            [("a", 1), ("a", 1)],
        ),
    ],
)
def test_every_type_of_key_is_found_unique(
    raw: sqlite3.Connection,
    columns: dict[str, Any],
    arguments: dict[str, Any],
    ddl: str,
    rows: list[tuple[Any, ...]],
) -> None:
    """The rowid under a name, a primary key, a constraint: rows of one key become one."""
    table = Table.from_columns(columns, name="t", **arguments)
    raw.execute(f"CREATE TABLE {ddl}")

    check_table(raw, table)

    for row in rows:
        write_a_row(raw, table, row)
    assert [rows[-1]] == raw.execute("SELECT * FROM t").fetchall()


def test_an_append_only_table_needs_nothing_unique(raw: sqlite3.Connection) -> None:
    """Without a key, columns that are there are enough; a virtual table will do."""
    table = Table.from_columns({"k": str, "v": str}, name="t")
    raw.execute("CREATE VIRTUAL TABLE t USING fts5(k, v)")

    check_table(raw, table)

    write_a_row(raw, table, ("one two", "three"))
    assert [("three",)] == raw.execute("SELECT v FROM t WHERE t MATCH 'two'").fetchall()


MISSING = (
    "there is no table 't' in the database; create it, or pass create=[…] to open_sqlite\n"
    "This would mend it:\n"
    'CREATE TABLE IF NOT EXISTS "t" (\n    "k" TEXT NOT NULL,\n    "n" INTEGER,\n    "v" TEXT,\n'
    '    PRIMARY KEY ("k")\n);'
)
NOT_UNIQUE = (
    "table 't': nothing makes its key (k) unique; of rows that share a key, only one can stay\n"
    "This would mend it:\n"
    'CREATE UNIQUE INDEX "t_key" ON "t" ("k" COLLATE BINARY);'
)


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        ("", MISSING),
        ("CREATE TABLE tt (k)", MISSING),
        (
            "CREATE TABLE t (k TEXT PRIMARY KEY)",
            (
                "table 't' has no column 'n', 'v'\nThis would mend it:\n"
                'ALTER TABLE "t" ADD COLUMN "n" INTEGER;\nALTER TABLE "t" ADD COLUMN "v" TEXT;'
            ),
        ),
        (
            "CREATE TABLE t (k TEXT PRIMARY KEY, n INT) STRICT",
            (
                "table 't' has no column 'v'\nThis would mend it:\n"
                'ALTER TABLE "t" ADD COLUMN "v" TEXT;'
            ),
        ),
        ("CREATE TABLE t (k TEXT, n, v)", NOT_UNIQUE),
        ("CREATE TABLE t (k TEXT COLLATE NOCASE, n, v)", NOT_UNIQUE),
        ("CREATE TABLE t (k TEXT, n, v); CREATE INDEX i ON t (k)", NOT_UNIQUE),
        ("CREATE TABLE t (k TEXT, n, v, UNIQUE (k, n))", NOT_UNIQUE),
        ("CREATE TABLE t (k TEXT, n, v); CREATE UNIQUE INDEX i ON t (lower(k))", NOT_UNIQUE),
        (
            (
                "CREATE TABLE t (k TEXT, n, v); CREATE UNIQUE INDEX T_KEY ON t (k) WHERE n > 1;"
                "CREATE TABLE t_key1 (x)"
            ),
            NOT_UNIQUE.replace("t_key", "t_key2"),
        ),
    ],
)
def test_what_can_be_mended_comes_with_the_sql_that_mends_it(
    raw: sqlite3.Connection, ddl: str, message: str
) -> None:
    """The SQL of the error, executed as it is, makes the table one that is taken."""
    raw.executescript(ddl)

    with pytest.raises(SchemaError) as caught:
        check_table(raw, declared())

    assert message == str(caught.value)
    assert "t" == caught.value.table
    assert message.endswith(caught.value.sql or "nothing")
    raw.executescript(caught.value.sql or "")
    check_table(raw, declared())
    write_a_row(raw, declared(), ("a", 1, "x"))
    write_a_row(raw, declared(), ("a", 2, "y"))
    assert [("a", 2, "y")] == raw.execute("SELECT k, n, v FROM t").fetchall()


def test_names_in_the_sql_that_mends_are_quoted(raw: sqlite3.Connection) -> None:
    """Whatever the names, the SQL does what it says."""
    name = 'odd "name"; --'
    table = Table.from_columns({f"{name} 1": int, f"{name} 2": int}, name=name, key=f"{name} 1")
    raw.execute(f'CREATE TABLE "{name.replace(chr(34), chr(34) * 2)}" (x)')

    for _ in range(2):  # first the columns, then the key
        with pytest.raises(SchemaError) as caught:
            check_table(raw, table)
        raw.executescript(caught.value.sql or "")

    check_table(raw, table)


COLLATED = (
    "table 't': the key (k) is unique under another collation than BINARY, so that keys which "
    "differ in memory are one in the table; make it unique under BINARY instead"
)
OTHER = (
    "table 't': column 'w' is NOT NULL without a default, and the row type tuple has no such "
    "field; add the field, or give the column a default"
)


def changes(column: str, declared: str, kind: str) -> str:
    """What the error says of a column that changes values."""
    return (
        f"table 't': column '{column}' is declared '{declared}', which changes or refuses values "
        f"of type {kind}, so that rows which differ in memory could be one in the table; declare "
        f"the same type on both sides"
    )


@pytest.mark.parametrize(
    ("ddl", "arguments", "message"),
    [
        ("CREATE VIEW t AS SELECT 1 k, 2 n, 3 v", {}, "'t' is a view; a buffer writes to a table"),
        (
            "CREATE VIRTUAL TABLE t USING fts5(k, n, v)",
            {},
            "'t' is a virtual table, to which rows can only be appended; declare it without a key",
        ),
        ("CREATE TABLE t (k TEXT UNIQUE, n, v, w NOT NULL)", {}, OTHER),
        ("CREATE TABLE t (k TEXT UNIQUE, n, v, w NOT NULL DEFAULT NULL)", {}, OTHER),
        ("CREATE TABLE t (k TEXT UNIQUE, n, v, w INTEGER PRIMARY KEY) WITHOUT ROWID", {}, OTHER),
        ("CREATE TABLE t (k TEXT UNIQUE, n, v, w BIGINT NOT NULL PRIMARY KEY)", {}, OTHER),
        (
            "CREATE TABLE t (k TEXT UNIQUE, n, v, x, w INTEGER NOT NULL, PRIMARY KEY (w, x))",
            {},
            OTHER,
        ),
        (
            "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, n, v)",
            {},
            COLLATED,
        ),
        (
            "CREATE TABLE t (k TEXT, n, v); CREATE UNIQUE INDEX i ON t (k COLLATE RTRIM)",
            {},
            COLLATED,
        ),
        (
            "CREATE TABLE t (k TEXT UNIQUE, n, v GENERATED ALWAYS AS (k))",
            {},
            (
                "table 't': column 'v' is generated, so that no value can be written to it; leave "
                "it out of the row type"
            ),
        ),
        ("CREATE TABLE t (k INTEGER UNIQUE, n, v)", {}, changes("k", "INTEGER", "str")),
        ("CREATE TABLE t (k NUMERIC UNIQUE, n, v)", {}, changes("k", "NUMERIC", "str")),
        ("CREATE TABLE t (k REAL UNIQUE, n, v)", {}, changes("k", "REAL", "str")),
        (
            "CREATE TABLE t (k TEXT UNIQUE, n TEXT, v)",
            {"merge": {"n": Sum}},
            changes("n", "TEXT", "int or None"),
        ),
        (
            "CREATE TABLE t (k TEXT UNIQUE, n REAL, v)",
            {"merge": {"n": Max}},
            changes("n", "REAL", "int or None"),
        ),
        (
            "CREATE TABLE t (k TEXT UNIQUE, n INT, v NUMERIC)",
            {"delete_by": "v"},
            changes("v", "NUMERIC", "str or None"),
        ),
    ],
)
def test_what_would_not_keep_the_rows_is_refused(
    raw: sqlite3.Connection, ddl: str, arguments: dict[str, Any], message: str
) -> None:
    """The error names table and column, and what to do; there is no SQL that is safe to run."""
    raw.executescript(ddl)

    with pytest.raises(SchemaError) as caught:
        check_table(raw, declared(**arguments))

    assert (message, None) == (str(caught.value), caught.value.sql)


@pytest.mark.parametrize("kind", [float, bytes, str])
def test_the_rowid_takes_integers_only(raw: sqlite3.Connection, kind: type) -> None:
    """A key of another type would meet "datatype mismatch" at the first row."""
    raw.execute("CREATE TABLE t (k INTEGER PRIMARY KEY)")

    with pytest.raises(SchemaError, match=re.escape(changes("k", "INTEGER", kind.__name__))):
        check_table(raw, Table.from_columns({"k": kind}, name="t", key="k"))


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        (str, {"INTEGER", "NUMERIC", "REAL"}),
        (int, {"TEXT", "REAL"}),
        (float, {"TEXT"}),
        (bytes, set()),
    ],
)
@pytest.mark.parametrize("there", ["TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB"])
def test_a_key_of_a_type_that_the_column_keeps_is_taken(
    raw: sqlite3.Connection, kind: type, refused: set[str], there: str
) -> None:
    """What the check takes stays as it is in the file, value by value."""
    values: dict[type, list[Any]] = {
        str: ["1", "1.0", "01", "", "a"],
        int: [0, 1, 2**53 + 1, 2**63 - 1, -(2**63)],
        float: [0.5, 1.0, 2.0**53, 1e300, float("inf")],
        bytes: [b"", b"1", b"1.0", b"\0"],
    }
    table = Table.from_columns({"k": kind}, name="t", key="k")
    raw.execute(f"CREATE TABLE t (k {there} UNIQUE)")
    stored = []
    for value in values[kind]:
        raw.execute("INSERT OR REPLACE INTO t VALUES (?)", (value,))
        stored.append(raw.execute("SELECT k FROM t ORDER BY rowid DESC").fetchone()[0])

    if there in refused:
        assert values[kind] != stored
        with pytest.raises(SchemaError):
            check_table(raw, table)
    else:
        assert values[kind] == stored
        check_table(raw, table)


async def test_tables_are_checked_before_anything_is_accepted(tmp_path: Path) -> None:
    """`open_buffers` raises the error; once it is mended, rows are accepted."""
    table = declared()
    async with forebay.open_sqlite(tmp_path / "t.db") as store:
        with pytest.raises(SchemaError) as caught:
            async with forebay.open_buffers(store, table):
                pytest.fail("the block was entered")

        await store.run(mend, caught.value.sql)

        async with forebay.open_buffers(store, table) as buffers:
            await buffers[table].write(("a", 1, "x"))
        assert [("a", 1, "x")] == await store.fetch_all("SELECT k, n, v FROM t")


def mend(raw: sqlite3.Connection, sql: str | None) -> None:
    """Execute the SQL of an error."""
    raw.execute(sql or "")
