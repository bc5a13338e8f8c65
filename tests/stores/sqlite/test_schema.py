"""The check of a table in the file: which tables are refused, and which SQL corrects them."""

from __future__ import annotations

import contextlib
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
    """Open a connection to a new file, in autocommit mode."""
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as connection:
        yield connection


needs_strict_tables = pytest.mark.skipif(
    sqlite3.sqlite_version_info < (3, 37), reason="SQLite has STRICT tables since 3.37"
)


def declared(**arguments: Any) -> Table[tuple[Any, ...]]:
    """Return a table with a text key, a number and a text."""
    columns = {"k": str, "n": int | None, "v": str | None}
    return Table.from_columns(columns, name="t", **{"key": "k", **arguments})


def write_a_row(raw: sqlite3.Connection, table: Table[Any], row: tuple[Any, ...]) -> None:
    """Write a row as a buffer does."""
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
def test_a_table_that_stores_the_rows_is_accepted(raw: sqlite3.Connection, ddl: str) -> None:
    """The table may have more columns, other types, and its key may be unique in other ways."""
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
def test_a_unique_key_of_any_type_is_accepted(
    raw: sqlite3.Connection,
    columns: dict[str, Any],
    arguments: dict[str, Any],
    ddl: str,
    rows: list[tuple[Any, ...]],
) -> None:
    """The rowid, a primary key or a constraint makes it unique, and rows of one key merge."""
    table = Table.from_columns(columns, name="t", **arguments)
    raw.execute(f"CREATE TABLE {ddl}")

    check_table(raw, table)

    for row in rows:
        write_a_row(raw, table, row)
    assert [rows[-1]] == raw.execute("SELECT * FROM t").fetchall()


def test_an_append_only_table_needs_nothing_unique(raw: sqlite3.Connection) -> None:
    """A table without a key may be a virtual table, and needs no unique index."""
    table = Table.from_columns({"k": str, "v": str}, name="t")
    raw.execute("CREATE VIRTUAL TABLE t USING fts5(k, v)")

    check_table(raw, table)

    write_a_row(raw, table, ("one two", "three"))
    assert [("three",)] == raw.execute("SELECT v FROM t WHERE t MATCH 'two'").fetchall()


MISSING = "there is no table 't' in the database; create it, or pass create=[…] to open_sqlite"
ALTER = "; to add what is missing, pass create=[…] and alter=True to open_sqlite"
CREATE = (
    'CREATE TABLE IF NOT EXISTS "t" (\n    "k" TEXT NOT NULL,\n    "n" INTEGER,\n    "v" TEXT,\n'
    '    PRIMARY KEY ("k")\n);'
)
NOT_UNIQUE = (
    "table 't': no primary key and no unique index covers exactly its key (k); before you create "
    "the index, delete rows with duplicate keys"
)
CREATE_INDEX = 'CREATE UNIQUE INDEX "t_key" ON "t" ("k" COLLATE BINARY);'


@pytest.mark.parametrize(
    ("ddl", "message", "sql"),
    [
        ("", MISSING, CREATE),
        ("CREATE TABLE tt (k)", MISSING, CREATE),
        (
            "CREATE TABLE t (k TEXT PRIMARY KEY)",
            f"table 't' has no column 'n', 'v'{ALTER}",
            'ALTER TABLE "t" ADD COLUMN "n" INTEGER;\nALTER TABLE "t" ADD COLUMN "v" TEXT;',
        ),
        (
            "CREATE TABLE t (k TEXT PRIMARY KEY, n INT) STRICT",
            f"table 't' has no column 'v'{ALTER}",
            'ALTER TABLE "t" ADD COLUMN "v" TEXT;',
        ),
        ("CREATE TABLE t (k TEXT, n, v)", NOT_UNIQUE, CREATE_INDEX),
        ("CREATE TABLE t (k TEXT COLLATE NOCASE, n, v)", NOT_UNIQUE, CREATE_INDEX),
        ("CREATE TABLE t (k TEXT, n, v); CREATE INDEX i ON t (k)", NOT_UNIQUE, CREATE_INDEX),
        ("CREATE TABLE t (k TEXT, n, v, UNIQUE (k, n))", NOT_UNIQUE, CREATE_INDEX),
        (
            "CREATE TABLE t (k TEXT, n, v); CREATE UNIQUE INDEX i ON t (lower(k))",
            NOT_UNIQUE,
            CREATE_INDEX,
        ),
        (
            (
                "CREATE TABLE t (k TEXT, n, v); CREATE UNIQUE INDEX T_KEY ON t (k) WHERE n > 1;"
                "CREATE TABLE t_key1 (x)"
            ),
            NOT_UNIQUE,
            CREATE_INDEX.replace("t_key", "t_key2"),
        ),
    ],
)
def test_the_error_has_sql_that_corrects_the_table(
    raw: sqlite3.Connection, ddl: str, message: str, sql: str
) -> None:
    """The message ends with the SQL. After it is executed, the table is accepted."""
    raw.executescript(ddl)

    with pytest.raises(SchemaError) as caught:
        check_table(raw, declared())

    assert ("t", sql) == (caught.value.table, caught.value.sql)
    assert message == str(caught.value).splitlines()[0]
    assert str(caught.value).endswith(f"\n{sql}")
    raw.executescript(sql)
    check_table(raw, declared())
    write_a_row(raw, declared(), ("a", 1, "x"))
    write_a_row(raw, declared(), ("a", 2, "y"))
    assert [("a", 2, "y")] == raw.execute("SELECT k, n, v FROM t").fetchall()


def test_names_in_the_sql_of_an_error_are_quoted(raw: sqlite3.Connection) -> None:
    """The SQL corrects a table whose names have quotes, spaces and comment signs."""
    name = 'odd "name"; --'
    table = Table.from_columns({f"{name} 1": int, f"{name} 2": int}, name=name, key=f"{name} 1")
    raw.execute(f'CREATE TABLE "{name.replace(chr(34), chr(34) * 2)}" (x)')

    for _ in range(2):  # first the columns, then the key
        with pytest.raises(SchemaError) as caught:
            check_table(raw, table)
        raw.executescript(caught.value.sql or "")

    check_table(raw, table)


COLLATED = (
    "table 't': its key (k) is unique only under a collation other than BINARY, so different keys "
    "in memory could become one key in the table; make it unique under BINARY"
)
OTHER = (
    "table 't': column 'w' is NOT NULL without a default, and the row type tuple has no such "
    "field; add the field, or set a default for the column"
)


def converts(column: str, declared: str, kind: str) -> str:
    """Return the message about a column that converts or refuses values."""
    return (
        f"table 't': column '{column}' has the declared type '{declared}', which converts or "
        f"refuses values of type {kind}, so what is read would differ from what was written; use "
        f"the same type in the table and in the row type"
    )


@pytest.mark.parametrize(
    ("ddl", "arguments", "message"),
    [
        (
            "CREATE VIEW t AS SELECT 1 k, 2 n, 3 v",
            {},
            "'t' is a view, but a buffer can only write to a table",
        ),
        (
            "CREATE VIRTUAL TABLE t USING fts5(k, n, v)",
            {},
            (
                "'t' is a virtual table, to which a buffer can only append rows; declare it "
                "without a key"
            ),
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
                "table 't': column 'v' is generated, so no value can be written to it; remove it "
                "from the row type"
            ),
        ),
        ("CREATE TABLE t (k INTEGER UNIQUE, n, v)", {}, converts("k", "INTEGER", "str")),
        ("CREATE TABLE t (k NUMERIC UNIQUE, n, v)", {}, converts("k", "NUMERIC", "str")),
        ("CREATE TABLE t (k REAL UNIQUE, n, v)", {}, converts("k", "REAL", "str")),
        (
            "CREATE TABLE t (k TEXT UNIQUE, n TEXT, v)",
            {"merge": {"n": Sum}},
            converts("n", "TEXT", "int or None"),
        ),
        (
            "CREATE TABLE t (k TEXT UNIQUE, n REAL, v)",
            {"merge": {"n": Max}},
            converts("n", "REAL", "int or None"),
        ),
        (
            "CREATE TABLE t (k TEXT UNIQUE, n INT, v NUMERIC)",
            {"delete_by": "v"},
            converts("v", "NUMERIC", "str or None"),
        ),
    ],
)
def test_a_table_that_would_change_rows_is_refused(
    raw: sqlite3.Connection, ddl: str, arguments: dict[str, Any], message: str
) -> None:
    """The error names the table, the column and a remedy; it has no SQL, as none is safe."""
    raw.executescript(ddl)

    with pytest.raises(SchemaError) as caught:
        check_table(raw, declared(**arguments))

    assert (message, None) == (str(caught.value), caught.value.sql)


@pytest.mark.parametrize("kind", [float, bytes, str])
def test_the_rowid_takes_integers_only(raw: sqlite3.Connection, kind: type) -> None:
    """A key of another type would fail with "datatype mismatch" at the first row."""
    raw.execute("CREATE TABLE t (k INTEGER PRIMARY KEY)")

    with pytest.raises(SchemaError, match=re.escape(converts("k", "INTEGER", kind.__name__))):
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
@pytest.mark.parametrize("stored_type", ["TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB"])
def test_a_key_is_accepted_if_its_column_keeps_all_values(
    raw: sqlite3.Connection, kind: type, refused: set[str], stored_type: str
) -> None:
    """The check accepts a type if, and only if, the column stores its values unchanged."""
    values: dict[type, list[Any]] = {
        str: ["1", "1.0", "01", "", "a"],
        int: [0, 1, 2**53 + 1, 2**63 - 1, -(2**63)],
        float: [0.5, 1.0, 2.0**53, 1e300, float("inf")],
        bytes: [b"", b"1", b"1.0", b"\0"],
    }
    table = Table.from_columns({"k": kind}, name="t", key="k")
    raw.execute(f"CREATE TABLE t (k {stored_type} UNIQUE)")
    stored = []
    for value in values[kind]:
        raw.execute("INSERT OR REPLACE INTO t VALUES (?)", (value,))
        stored.append(raw.execute("SELECT k FROM t ORDER BY rowid DESC").fetchone()[0])

    if stored_type in refused:
        assert values[kind] != stored
        with pytest.raises(SchemaError):
            check_table(raw, table)
    else:
        assert values[kind] == stored
        check_table(raw, table)


@pytest.mark.parametrize(
    ("kind", "accepted"),
    [
        (str, {"TEXT", "ANY"}),
        (int, {"INT", "INTEGER", "ANY"}),
        (float, {"REAL", "ANY"}),
        (bytes, {"BLOB", "ANY"}),
    ],
)
@pytest.mark.parametrize("stored_type", ["TEXT", "INT", "integer", "REAL", "BLOB", "Any"])
@pytest.mark.parametrize("strict", ["", "STRICT"])
@needs_strict_tables
def test_a_key_in_a_strict_table_is_accepted_if_its_column_keeps_all_values(
    raw: sqlite3.Connection, kind: type, accepted: set[str], stored_type: str, strict: str
) -> None:
    """ANY keeps every value in a STRICT table, and only there; the other types take one type."""
    values: dict[type, list[Any]] = {
        str: ["007", "7", "1.0", "1e3", "", " 1"],
        int: [0, 7, 2**53 + 1, 2**63 - 1, -(2**63)],
        float: [0.5, 1.0, 2.0**53, 1e300, float("inf")],
        bytes: [b"", b"7", b"\0"],
    }
    table = Table.from_columns({"k": kind}, name="t", key="k")
    raw.execute(f"CREATE TABLE t (k {stored_type} UNIQUE) {strict}")
    stored = []
    for value in values[kind]:
        with contextlib.suppress(sqlite3.IntegrityError):
            raw.execute("INSERT OR REPLACE INTO t VALUES (?)", (value,))
            stored += raw.execute("SELECT k FROM t ORDER BY rowid DESC LIMIT 1").fetchone()
    if strict:
        assert (stored_type.upper() in accepted) is (repr(values[kind]) == repr(stored))
    if stored == values[kind]:
        check_table(raw, table)
    else:
        with pytest.raises(SchemaError):
            check_table(raw, table)


async def test_tables_are_checked_before_anything_is_accepted(tmp_path: Path) -> None:
    """`open_buffers` raises the error; after its SQL is executed, rows are accepted."""
    table = declared()
    async with forebay.open_sqlite(tmp_path / "t.db") as store:
        with pytest.raises(SchemaError) as caught:
            async with forebay.open_buffers(store, table):
                pytest.fail("the block was entered")

        await store.run(execute, caught.value.sql)

        async with forebay.open_buffers(store, table) as buffers:
            await buffers[table].write(("a", 1, "x"))
        assert [("a", 1, "x")] == await store.fetch_all("SELECT k, n, v FROM t")


def execute(raw: sqlite3.Connection, sql: str | None) -> None:
    """Execute the SQL of an error."""
    raw.execute(sql or "")


@pytest.mark.parametrize(
    ("kind", "declared"),
    [(str, "NUMERIC"), (str, "STRING"), (str, "INTEGER"), (int, "TEXT"), (int, "REAL")],
)
def test_a_column_that_converts_values_is_refused(
    raw: sqlite3.Connection, kind: type, declared: str
) -> None:
    """In any column: SQLite would store "00700" as 700, without an error."""
    raw.execute(f"CREATE TABLE t (k TEXT PRIMARY KEY, v {declared})")
    with pytest.raises(SchemaError) as caught:
        check_table(raw, Table.from_columns({"k": str, "v": kind}, name="t", key="k"))
    assert "'v'" in str(caught.value)


async def test_all_tables_that_are_wrong_are_in_one_error(
    raw: sqlite3.Connection, tmp_path: Path
) -> None:
    """The SQL of the error creates and corrects all of them."""
    raw.execute("CREATE TABLE t (k TEXT PRIMARY KEY, n INTEGER)")
    tables = [declared(), Table.from_columns({"k": str}, name="u", key="k")]

    async def start() -> None:
        async with (
            forebay.open_sqlite(tmp_path / "t.db") as store,
            forebay.open_buffers(store, *tables),
        ):
            pass

    with pytest.raises(SchemaError) as caught:
        await start()
    assert ("t", True) == (caught.value.table, "'u'" in str(caught.value))
    assert caught.value.sql is not None
    raw.executescript(caught.value.sql)
    await start()
