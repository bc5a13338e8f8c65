"""The statements of each step: the SQL, the quoting, the number of rows per statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from forebay import Keep, Max, Min, Sum, Table
from forebay.stores import DeleteByStep, DeleteStep, Step, UpdateStep, WriteStep
from forebay.stores.sqlite._ddl import create_sql
from forebay.stores.sqlite._statements import STATEMENT_SIZES, quoted, statements

VARIABLES = 32766

PLAIN = Table.from_columns({"k": str, "v": str}, name="plain", key="k")
RULES = Table.from_columns(
    {"k": int, "r": Any, "keep": Any, "sum": int, "min": str, "max": float},
    name="rules",
    key="k",
    merge={"keep": Keep, "sum": Sum, "min": Min, "max": Max},
)
PAIRS = Table.from_columns({"a": str, "n": int, "b": int}, name="pairs", key=("b", "a"))
KEPT = Table.from_columns({"k": int, "v": int}, name="kept", key="k", merge=Keep)
KEY_ONLY = Table.from_columns({"k": bytes}, name="key_only", key="k")
APPENDED = Table.from_columns({"v": str, "n": float}, name="appended", delete_by="v")


@pytest.fixture
def raw() -> Iterator[sqlite3.Connection]:
    """Open an empty database in memory, in autocommit mode."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


def run(
    raw: sqlite3.Connection, table: Table[Any], *steps: Step, variables: int = VARIABLES
) -> None:
    """Execute the statements of steps."""
    for step in steps:
        for statement in statements(table, step, variables=variables):
            raw.execute(statement.sql, statement.parameters)


def rows_of(raw: sqlite3.Connection, table: Table[Any]) -> list[tuple[Any, ...]]:
    """Return all rows of a table, sorted."""
    return sorted(raw.execute(f"SELECT * FROM {quoted(table.name)}"))  # noqa: S608  # quoted


@pytest.mark.parametrize(
    ("table", "step", "sql"),
    [
        (
            PLAIN,
            WriteStep([("a", "1")]),
            (
                'INSERT INTO main."plain" AS old ("k", "v") VALUES (?,?) '
                'ON CONFLICT ("k" COLLATE BINARY) DO UPDATE SET "v" = excluded."v"'
            ),
        ),
        (
            RULES,
            WriteStep([(1, 2, 3, 4, "5", 6.0)]),
            (
                'INSERT INTO main."rules" AS old ("k", "r", "keep", "sum", "min", "max") '
                'VALUES (?,?,?,?,?,?) ON CONFLICT ("k") DO UPDATE SET "r" = excluded."r", '
                '"sum" = COALESCE(old."sum" + excluded."sum", old."sum", excluded."sum"), '
                '"min" = COALESCE(min(old."min" COLLATE BINARY, excluded."min"), old."min", '
                'excluded."min"), '
                '"max" = COALESCE(max(old."max", excluded."max"), old."max", excluded."max")'
            ),
        ),
        (
            KEPT,
            WriteStep([(1, 2)]),
            'INSERT INTO main."kept" AS old ("k", "v") VALUES (?,?) ON CONFLICT ("k") DO NOTHING',
        ),
        (
            KEY_ONLY,
            WriteStep([(b"1",)]),
            'INSERT INTO main."key_only" AS old ("k") VALUES (?) ON CONFLICT ("k") DO NOTHING',
        ),
        (
            APPENDED,
            WriteStep([("a", 1.0)]),
            'INSERT INTO main."appended" AS old ("v", "n") VALUES (?,?)',
        ),
        (
            PLAIN,
            UpdateStep(("v",), [("a", ("1",))]),
            (
                'UPDATE main."plain" AS old SET "v" = new.column2 FROM (VALUES (?,?)) AS new '
                'WHERE old."k" COLLATE BINARY = new.column1'
            ),
        ),
        (
            PAIRS,
            UpdateStep(("n",), [((1, "a"), (2,))]),
            (
                'UPDATE main."pairs" AS old SET "n" = new.column3 FROM (VALUES (?,?,?)) AS new '
                'WHERE old."b" = new.column1 AND old."a" COLLATE BINARY = new.column2'
            ),
        ),
        (
            PLAIN,
            DeleteStep(["a"]),
            'DELETE FROM main."plain" AS old WHERE old."k" COLLATE BINARY IN (?)',
        ),
        (
            PAIRS,
            DeleteStep([(1, "a")]),
            'DELETE FROM main."pairs" AS old WHERE (old."b" = ? AND old."a" COLLATE BINARY = ?)',
        ),
        (
            APPENDED,
            DeleteByStep(["a"]),
            'DELETE FROM main."appended" AS old WHERE old."v" COLLATE BINARY IN (?)',
        ),
    ],
)
def test_each_step_has_its_statement(table: Table[Any], step: Step, sql: str) -> None:
    """Identifiers are quoted, values are bound, and the SQL has the table's merge rules."""
    assert [sql] == [s.sql for s in statements(table, step, variables=VARIABLES)]


@pytest.mark.parametrize(
    ("table", "sql"),
    [
        (
            PLAIN,
            (
                'CREATE TABLE IF NOT EXISTS "plain" (\n    "k" TEXT NOT NULL,\n'
                '    "v" TEXT NOT NULL,\n    PRIMARY KEY ("k")\n)'
            ),
        ),
        (
            Table.from_columns(
                {"i": int, "f": float | None, "b": bytes, "o": bool, "x": Any, "y": str | int},
                name="t",
            ),
            (
                'CREATE TABLE IF NOT EXISTS "t" (\n    "i" INTEGER NOT NULL,\n    "f" REAL,\n'
                '    "b" BLOB NOT NULL,\n    "o" INTEGER NOT NULL,\n    "x",\n    "y" NOT NULL\n)'
            ),
        ),
        (
            PAIRS,
            (
                'CREATE TABLE IF NOT EXISTS "pairs" (\n    "a" TEXT NOT NULL,\n'
                '    "n" INTEGER NOT NULL,\n    "b" INTEGER NOT NULL,\n'
                '    PRIMARY KEY ("b", "a")\n)'
            ),
        ),
    ],
)
def test_a_table_is_created_as_declared(table: Table[Any], sql: str) -> None:
    """Types and NOT NULL follow the annotations; the key is the primary key."""
    assert sql == create_sql(table)


HOSTILE = [
    'quote"d',
    "quote'd",
    '"',
    "a; DROP TABLE t; --",
    "with space",
    "naïve 表",
    "select",
    "new",
    "old",
    "excluded",
    "column1",
    "rowid",
    "?1",
    ":name",
    "@x",
    "$x",
    "[b]",
    "`c`",
    "line\nbreak",
    "\\",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_table_and_its_columns_may_have_any_name(raw: sqlite3.Connection, name: str) -> None:
    """Every statement works if the table and each of its columns has a hostile name."""
    table = Table.from_columns(
        {name: str, f"{name} 2": int, f"{name} 3": str | None},
        name=name,
        key=name,
        merge={f"{name} 2": Sum, f"{name} 3": Min},
        delete_by=f"{name} 2",
    )
    raw.execute(create_sql(table))

    run(raw, table, WriteStep([("a", 1, "x"), ("b", 1, None), ("c", 1, "x"), ("d", 7, "x")]))
    run(raw, table, WriteStep([("a", 10, "w"), ("b", 10, "x"), ("c", 10, None)]))
    run(raw, table, UpdateStep((f"{name} 3",), [("b", ("y",)), ("z", ("y",))]))
    run(raw, table, DeleteStep(["c", "y"]), DeleteByStep([7, 8]))

    assert [("a", 11, "w"), ("b", 11, "y")] == rows_of(raw, table)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_columns_of_a_composite_key_may_have_any_name(
    raw: sqlite3.Connection, name: str
) -> None:
    """Every statement works if the columns of a composite key have hostile names."""
    table = Table.from_columns(
        {name: str, f"{name} 2": int, f"{name} 3": int}, name=name, key=(f"{name} 2", name)
    )
    raw.execute(create_sql(table))

    run(raw, table, WriteStep([("a", 1, 1), ("a", 2, 2), ("b", 1, 3), ("b", 2, 4)]))
    run(raw, table, UpdateStep((f"{name} 3",), [((2, "a"), (5,)), ((1, "b"), (6,))]))
    run(raw, table, DeleteStep([(2, "b"), (1, "c")]))

    assert [("a", 1, 1), ("a", 2, 5), ("b", 1, 6)] == rows_of(raw, table)


@pytest.mark.parametrize(
    "step",
    [
        WriteStep([("k", "v")]),
        UpdateStep(("v",), [("k", ("v",))]),
        DeleteStep(["k"]),
        DeleteByStep(["v"]),
    ],
)
def test_a_missing_column_is_an_error(raw: sqlite3.Connection, step: Step) -> None:
    """SQLite must not take the quoted name for a string, which would be equal in every row."""
    table = Table.from_columns({"k": str, "v": str}, name="t", key="k", delete_by="v")
    raw.execute('CREATE TABLE t ("other" TEXT)')
    raw.execute("INSERT INTO t VALUES ('kept')")

    with pytest.raises(sqlite3.OperationalError, match=r"no such column|has no column"):
        run(raw, table, step)
    assert [("kept",)] == rows_of(raw, table)


def test_text_is_compared_as_in_python(raw: sqlite3.Connection) -> None:
    """A collation of a column changes neither which keys are equal nor which value is larger."""
    table = Table.from_columns(
        {"k": str, "v": str, "d": str},
        name="t",
        key="k",
        merge={"v": Max},
        delete_by="d",
    )
    raw.execute(
        "CREATE TABLE t (k TEXT COLLATE NOCASE, v TEXT COLLATE NOCASE, d TEXT COLLATE NOCASE)"
    )
    raw.execute("CREATE UNIQUE INDEX t_key ON t (k COLLATE BINARY)")

    run(raw, table, WriteStep([("a", "X", "d"), ("A", "X", "D")]))
    run(raw, table, WriteStep([("a", "a", "d"), ("b", "b", "d"), ("B", "B", "d")]))
    assert [("A", "X", "D"), ("B", "B", "d"), ("a", "a", "d"), ("b", "b", "d")] == rows_of(
        raw, table
    )

    run(raw, table, UpdateStep(("v",), [("a", ("u",))]), DeleteStep(["b"]), DeleteByStep(["D"]))
    assert [("B", "B", "d"), ("a", "u", "d")] == rows_of(raw, table)


def writes(count: int) -> Step:
    """Return a step that writes this number of rows."""
    return WriteStep([(str(i), "v") for i in range(count)])


def updates(count: int) -> Step:
    """Return a step that updates this number of rows."""
    return UpdateStep(("v",), [(str(i), ("u",)) for i in range(count)])


def deletes(count: int) -> Step:
    """Return a step that deletes this number of rows."""
    return DeleteStep([str(i) for i in range(count)])


def deletes_by(count: int) -> Step:
    """Return a step that deletes by this number of values of another column."""
    return DeleteByStep([str(i) for i in range(count)])


@pytest.mark.parametrize("kind", [writes, updates, deletes, deletes_by])
@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (0, []),
        (1, [1]),
        (4, [1, 1, 1, 1]),
        (5, [5]),
        (6, [5, 1]),
        (19, [5, 5, 5, 1, 1, 1, 1]),
        (20, [20]),
        (21, [20, 1]),
        (100, [100]),
        (101, [100, 1]),
        (500, [500]),
        (501, [500, 1]),
        (999, [500, 100, 100, 100, 100, 20, 20, 20, 20, 5, 5, 5, 1, 1, 1, 1]),
        (2627, [1000, 1000, 500, 100, 20, 5, 1, 1]),
    ],
)
def test_rows_are_split_into_statements_of_few_sizes(
    kind: Callable[[int], Step], count: int, sizes: list[int]
) -> None:
    """The largest size that fits is used first, so that few statements are prepared."""
    table = Table.from_columns({"k": str, "v": str}, name="t", key="k", delete_by="v")
    width = 2 if kind in {writes, updates} else 1

    split = list(statements(table, kind(count), variables=VARIABLES))

    assert sizes == [len(statement.parameters) // width for statement in split]
    assert [len(s.parameters) for s in split] == [s.sql.count("?") for s in split]


@pytest.mark.parametrize("variables", [VARIABLES, 999, 250, 200, 199, 40, 10, 9, 3])
@pytest.mark.parametrize("count", [1, 20, 101, 2000, 2001])
@pytest.mark.parametrize("composite", [False, True])
def test_no_statement_has_more_variables_than_sqlite_allows(
    raw: sqlite3.Connection, variables: int, count: int, composite: bool
) -> None:
    """All rows are written, updated and deleted under any limit of the connection."""
    key = ("k", "v") if composite else "k"
    table = Table.from_columns({"k": int, "v": int, "n": int}, name="t", key=key, delete_by="n")
    raw.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, variables)
    raw.execute(create_sql(table))
    keys = [(i, i % 7) if composite else i for i in range(count)]

    run(raw, table, WriteStep([(i, i % 7, 0) for i in range(count)]), variables=variables)
    assert [(i, i % 7, 0) for i in range(count)] == rows_of(raw, table)

    run(raw, table, UpdateStep(("n",), [(k, (1,)) for k in keys]), variables=variables)
    assert [(i, i % 7, 1) for i in range(count)] == rows_of(raw, table)

    run(raw, table, DeleteStep(keys[3:]), variables=variables)
    assert [(i, i % 7, 1) for i in range(min(3, count))] == rows_of(raw, table)

    run(raw, table, DeleteByStep(list(range(count))), variables=variables)
    assert ([(0, 0, 1)] if count == 1 else []) == rows_of(raw, table)


@pytest.mark.parametrize("count", STATEMENT_SIZES)
@pytest.mark.parametrize("ddl", ["", " WITHOUT ROWID"])
@pytest.mark.parametrize("table", [PLAIN, PAIRS])
def test_rows_are_found_by_the_index_of_their_key(
    raw: sqlite3.Connection, table: Table[Any], ddl: str, count: int
) -> None:
    """No update and no delete scans the table, for any number of rows per statement."""
    raw.execute(create_sql(table) + ddl)
    keys: list[Any] = [(i, str(i)) if table is PAIRS else str(i) for i in range(count)]
    column = "n" if table is PAIRS else "v"
    for step in (UpdateStep((column,), [(k, (1,)) for k in keys]), DeleteStep(keys)):
        for statement in statements(table, step, variables=VARIABLES):
            plan = raw.execute(f"EXPLAIN QUERY PLAN {statement.sql}", statement.parameters)
            details = {detail for _, _, _, detail in plan}
            assert not any(detail.startswith("SCAN old") for detail in details)
            assert any(detail.startswith("SEARCH old USING") for detail in details)


def test_a_statement_of_a_wide_table_has_fewer_rows() -> None:
    """SQLite needs memory for each parameter of a statement that it keeps."""
    wide = Table.from_columns({f"c{i}": int for i in range(40)}, name="wide")
    rows = [(i,) * 40 for i in range(1_000)]
    lengths = [len(s.parameters) for s in statements(wide, WriteStep(rows), variables=32_766)]
    assert 1_000 * 40 == sum(lengths)
    assert 4_000 == max(lengths)


def test_rows_are_written_in_the_order_of_their_keys() -> None:
    """Rows are sorted by their keys; without a key, they keep their order."""
    keyed = statements(PAIRS, WriteStep([("a", 1, 9), ("b", 2, 3), ("a", 3, 3)]), variables=9)
    appended = statements(APPENDED, WriteStep([("b", 1.0), ("a", 2.0)]), variables=9)

    assert ["a", 3, 3, "b", 2, 3, "a", 1, 9] == [v for s in keyed for v in s.parameters]
    assert ["b", 1.0, "a", 2.0] == [v for s in appended for v in s.parameters]


def test_rows_that_are_not_coalesced_keep_their_order() -> None:
    """The table may compare rows of different keys, so the rows are not sorted."""
    table = Table.from_columns({"k": str}, name="t", key="k", coalesce=False)
    written = statements(table, WriteStep([("b",), ("a",), ("b",)]), variables=9)

    assert ["b", "a", "b"] == [v for s in written for v in s.parameters]
