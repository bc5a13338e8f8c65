"""Without coalescing, each entry has the effect and the error that it has alone, in order.

So it is for tables with `coalesce=False` and for append-only tables, whatever their constraints,
foreign keys and triggers are. The reference executes each entry in a transaction of its own.

With coalescing, the table ends the same if it accepts all entries, whatever its foreign keys are,
unless the check of the schema refuses them.
"""

# ruff: noqa: S608  # all names are those of tables that the tests create

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay import Delete, DeleteBy, FlushReason, SchemaError, Table, Update, Write
from forebay._batching.coalesce import Coalescer
from forebay._table.operations import Operation
from forebay.stores.sqlite._commit import BatchCommitter
from forebay.stores.sqlite._schema import check_table
from tests.random_schemas import Schema, operations, schemas

Refused: TypeAlias = list[tuple[int, str]]
"""The numbers of the refused entries, from 0, and their codes."""

TABLES = ("t", "p", "c", "log")


def connect(ddl: str) -> sqlite3.Connection:
    raw = sqlite3.connect(":memory:", isolation_level=None)
    raw.executescript(f"{ddl}; PRAGMA foreign_keys = 1")
    return raw


def contents(raw: sqlite3.Connection) -> list[list[Any]]:
    """Return the rows of all tables that exist."""
    names = [name for (name,) in raw.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return [
        raw.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall()
        for name in TABLES
        if name in names
    ]


def execute_alone(raw: sqlite3.Connection, table: Table[Any], operation: Operation) -> None:
    """Execute the SQL that a program would execute for one entry."""
    match operation:
        case Write(row):
            upsert = "ON CONFLICT (k) DO UPDATE SET u = excluded.u, r = excluded.r"
            sql = f"INSERT INTO t (k, u, r) VALUES (?, ?, ?) {upsert if table.key else ''}"
            raw.execute(sql, row)
        case Update(key, columns):
            changes = ", ".join(f"{name} = ?" for name in columns)
            raw.execute(f"UPDATE t SET {changes} WHERE k = ?", (*columns.values(), key))
        case Delete(key):
            raw.execute("DELETE FROM t WHERE k = ?", (key,))
        case DeleteBy(value):
            raw.execute(f"DELETE FROM t WHERE {table.delete_by} = ?", (value,))


def alone(schema: Schema, accepted: Iterable[Operation]) -> tuple[list[list[Any]], Refused]:
    """Return the contents of the tables and the refused entries, each entry in a transaction."""
    refused: Refused = []
    with closing(connect(schema.ddl)) as raw:
        for number, operation in enumerate(accepted):
            raw.execute("BEGIN IMMEDIATE")
            try:
                execute_alone(raw, schema.table, operation)
                raw.execute("COMMIT")
            except sqlite3.IntegrityError as error:
                refused.append((number, error.sqlite_errorname))
                if raw.in_transaction:
                    raw.execute("ROLLBACK")
        return contents(raw), refused


def together(
    schema: Schema, batches: Iterable[Sequence[Operation]], variables: int
) -> tuple[list[list[Any]], Refused]:
    """Return the contents of the tables and the refused entries after these batches."""
    refused: Refused = []
    coalescer = Coalescer(schema.table, stream="s")
    with closing(connect(schema.ddl)) as raw:
        for accepted in batches:
            entries = [each.row if isinstance(each, Write) else each for each in accepted]
            coalescer.add(entries, only_rows=all(isinstance(entry, tuple) for entry in entries))
            committer = BatchCommitter(coalescer.take(FlushReason.FULL), variables=variables)
            rejections = committer.commit_remaining(raw, math.inf).rejections
            refused += [(each.number - 1, each.code) for each in rejections]
        return contents(raw), refused


@settings(max_examples=max(300, settings().max_examples))
@given(st.data())
def test_entries_of_a_batch_have_the_effect_that_each_has_alone(data: st.DataObject) -> None:
    """The rows of all tables, the refused entries and their codes are the same."""
    schema = data.draw(schemas(coalesce=False))
    accepted = data.draw(operations(schema.table))
    middle = data.draw(st.sampled_from([0, len(accepted) // 2]))
    variables = data.draw(st.sampled_from([999, 7]))

    batches = [batch for batch in (accepted[:middle], accepted[middle:]) if batch]
    assert alone(schema, accepted) == together(schema, batches, variables)


def rows_by_key(seen: tuple[list[list[Any]], Refused]) -> list[tuple[Any, ...]]:
    """Return the declared columns of the rows of `t`, by key, after no entry was refused."""
    tables, refused = seen
    assert [] == refused
    return sorted((row[0], *row[-2:]) for row in tables[0])


@given(st.data())
def test_coalesced_entries_have_the_effect_that_each_has_alone(data: st.DataObject) -> None:
    """So it is for each table that the check of the schema accepts."""
    schema = data.draw(schemas(coalesce=True))
    with closing(connect(schema.ddl)) as raw:
        try:
            check_table(raw, schema.table)
        except SchemaError:
            return
    accepted = data.draw(operations(schema.table))
    while refused := dict(alone(schema, accepted)[1]):
        accepted = [each for number, each in enumerate(accepted) if number not in refused]

    expected = rows_by_key(alone(schema, accepted))

    assert expected == rows_by_key(together(schema, [accepted] if accepted else [], 999))


def declared(*, key: str | None = "k", delete_by: str | None = None) -> Table[tuple[Any, ...]]:
    columns: dict[str, Any] = {"k": int, "u": int | None, "r": int | None}
    return Table.from_columns(columns, name="t", key=key, delete_by=delete_by, coalesce=False)


KEYED = declared()
APPENDED = declared(key=None)
FOREIGN_KEY, UNIQUE = "SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_UNIQUE"
FIVE = "INSERT INTO t (k, u) VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)"
COUNT_DELETES = """CREATE TRIGGER c AFTER DELETE ON t
    BEGIN INSERT INTO log SELECT old.k, count(*), min(k) FROM t; END"""
COUNT_INSERTS = """CREATE TRIGGER c AFTER INSERT ON t
    BEGIN INSERT INTO log SELECT new.k, seq, 0 FROM sqlite_sequence; END"""

LOG_INSERTS = "CREATE TRIGGER i AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.k, 0, 0); END"


def rows(*changed: tuple[int, int | None, int | None]) -> list[Operation]:
    """Return writes of these rows, and of more rows, so that all share a statement."""
    return [Write(row) for row in (*changed, *((k, k, None) for k in range(20, 25)))]


@pytest.mark.parametrize("prefix", ["", "DEFERRABLE INITIALLY DEFERRED"])
@pytest.mark.parametrize(
    ("table", "ddl", "accepted", "refused"),
    [
        pytest.param(
            APPENDED,
            "CREATE TABLE t (k INT UNIQUE, u INT, r INT REFERENCES t (k) {})",
            rows((1, 1, 2), (2, 2, None), (3, 3, 2)),
            [(0, FOREIGN_KEY)],
            id="a child before its parent",
        ),
        pytest.param(
            KEYED,
            "CREATE TABLE t (k INTEGER PRIMARY KEY, u INT, r INT REFERENCES t {})",
            rows((1, 1, 2), (2, 2, None), (3, 3, 2)),
            [(0, FOREIGN_KEY)],
            id="a child before its parent, by key",
        ),
        pytest.param(
            KEYED,
            "CREATE TABLE t (k INTEGER PRIMARY KEY, u INT, r INT REFERENCES p {})",
            rows((1, 1, 9), (2, 2, 1), (1, 1, 1)),
            [(0, FOREIGN_KEY)],
            id="a row whose next version has a parent",
        ),
        pytest.param(
            APPENDED,
            "CREATE TABLE t (k INT UNIQUE, u INT, r INT REFERENCES p {});"
            "DROP TABLE c; CREATE TABLE c (tk INT REFERENCES t (k) {}); INSERT INTO c VALUES (2)",
            rows((1, 1, 9), (2, 2, 1)),
            [(0, FOREIGN_KEY)],
            id="the parent of an orphan after a row without a parent",
        ),
        pytest.param(
            KEYED,
            "CREATE TABLE t (k INTEGER PRIMARY KEY, u INT, r INT REFERENCES t {});"
            f"{FIVE}; UPDATE t SET r = 1 WHERE k = 2",
            [Delete(k) for k in (1, 2, 3, 4, 5)],
            [(0, FOREIGN_KEY)],
            id="a parent and its child deleted",
        ),
        pytest.param(
            KEYED,
            "CREATE TABLE t (k INTEGER PRIMARY KEY, u INT UNIQUE, r INT REFERENCES t (u) {});"
            f"{FIVE}; UPDATE t SET r = 1 WHERE k = 2",
            [Update(k, {"u": u}) for k, u in ((1, 9), (3, 1), (2, 12), (4, 14), (5, 15))],
            [(0, FOREIGN_KEY), (1, UNIQUE)],
            id="a parent's value given to another row",
        ),
        pytest.param(
            declared(delete_by="u"),
            "CREATE TABLE t (k INTEGER PRIMARY KEY, u INT, r INT REFERENCES t {});"
            f"{FIVE}; UPDATE t SET r = 1 WHERE k = 2",
            [DeleteBy(u) for u in (1, 1, 2, 3, 1)],
            [(0, FOREIGN_KEY), (1, FOREIGN_KEY)],
            id="a delete by value repeated",
        ),
        pytest.param(
            KEYED,
            f"CREATE TABLE t (k INTEGER PRIMARY KEY, u INT UNIQUE, r INT); {FIVE}",
            [Update(k, {"u": u}) for k, u in ((3, 1), (1, 9), (2, 7), (4, 8), (5, 6))],
            [(0, UNIQUE)],
            id="a unique value that is freed later",
        ),
        pytest.param(
            KEYED,
            f"CREATE TABLE t (k INTEGER PRIMARY KEY, u INT, r INT); {COUNT_DELETES}; {FIVE}",
            [Delete(k) for k in (5, 3, 4, 1, 2)],
            [],
            id="a trigger that counts rows",
        ),
        pytest.param(
            APPENDED,
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, k INT, u INT, r INT);"
            f"{COUNT_INSERTS}",
            rows(),
            [],
            id="a trigger that reads the sequence",
        ),
    ],
)
def test_an_entry_has_the_effect_that_it_has_alone(
    table: Table[Any], ddl: str, prefix: str, accepted: list[Operation], refused: Refused
) -> None:
    """So it is although five entries of a kind could share a statement."""
    others = """CREATE TABLE p (id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1);
        CREATE TABLE c (tk); CREATE TABLE log (a, b, c)"""
    schema = Schema(f"{others}; {ddl.replace('{}', prefix)}", table)

    seen = together(schema, [accepted], 999)

    assert refused == seen[1]
    assert alone(schema, accepted) == seen


@pytest.mark.parametrize("table", [KEYED, APPENDED])
@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE t (k INTEGER PRIMARY KEY, u INT, r INT)",
        "CREATE TABLE t (k INTEGER PRIMARY KEY, u INT UNIQUE CHECK (u > 0), r INT NOT NULL)",
        "CREATE TABLE t (k INT UNIQUE, u INT, r INT, id INTEGER PRIMARY KEY AUTOINCREMENT)",
        f"CREATE TABLE t (k INTEGER PRIMARY KEY, u INT, r INT); {LOG_INSERTS}",
        "CREATE TABLE t (k INTEGER PRIMARY KEY REFERENCES p, u INT, r INT)",
        "CREATE TABLE t (k INTEGER PRIMARY KEY, u INT, r INT); CREATE TABLE c (tk REFERENCES t)",
    ],
)
def test_rows_share_statements_where_that_changes_nothing(table: Table[Any], ddl: str) -> None:
    """Ordinary tables of events stay fast."""
    sql: list[str] = []
    coalescer = Coalescer(table)
    coalescer.add([(k, k + 1, k) for k in range(2000)], only_rows=True)
    others = """CREATE TABLE log (a, b, c); CREATE TABLE p (id INTEGER PRIMARY KEY);
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
            INSERT INTO p SELECT i FROM n"""
    with closing(connect(f"{others}; {ddl}")) as raw:
        raw.set_trace_callback(sql.append)
        committer = BatchCommitter(coalescer.take(FlushReason.FULL), variables=32_766)
        assert () == committer.commit_remaining(raw, 0).rejections
    # SQLite calls the trace callback once more for each run of a trigger.
    assert 2 == len(
        {statement for statement in sql if statement.startswith('INSERT INTO main."t"')}
    )
