"""Create tables with indexes, and add columns and indexes to tables that exist."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

import forebay
from forebay import Index, SchemaError, Table, open_buffers, open_sqlite
from forebay.stores.sqlite._alteration import create_tables
from forebay.stores.sqlite._ddl import literal
from forebay.stores.sqlite._schema import check_table
from forebay.stores.sqlite._sql_text import tokens, words

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.fixture
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection to a file, in autocommit mode."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def jobs(columns: dict[str, Any] | None = None, **arguments: Any) -> Table[tuple[Any, ...]]:
    """Declare a table with a key, a text and further columns."""
    declared: dict[str, Any] = {"name": "jobs", "key": "id", **arguments}
    return Table.from_columns({"id": str, "state": str, **(columns or {})}, **declared)


def schema(raw: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return the names and the SQL of all that is in a file, without forebay's own tables."""
    return raw.execute(
        "SELECT name, sql FROM sqlite_schema WHERE sql NOTNULL AND name NOT LIKE 'forebay%'"
    ).fetchall()


async def open_altered(path: Path, *tables: Table[Any]) -> None:
    """Open a file and close it, with `alter`."""
    async with open_sqlite(path, create=tables, alter=True):
        pass


async def refused(path: Path, *tables: Table[Any]) -> SchemaError:
    """Return the error with which `alter` refuses tables, and check that the file is unchanged."""
    with closing(sqlite3.connect(path)) as raw:
        before = [*raw.iterdump()]
        with pytest.raises(SchemaError) as caught:
            await open_altered(path, *tables)
        assert before == [*raw.iterdump()]
    return caught.value


INDEXES = [
    "state",
    ("state", "id"),
    Index("state", unique=True, where="state <> 'it''s -- done'", name="open jobs"),
]
CREATED = {
    "idx_jobs_state": 'CREATE INDEX "idx_jobs_state" ON "jobs" ("state")',
    "idx_jobs_state_id": 'CREATE INDEX "idx_jobs_state_id" ON "jobs" ("state", "id")',
    "open jobs": (
        'CREATE UNIQUE INDEX "open jobs" ON "jobs" ("state") WHERE state <> \'it\'\'s -- done\''
    ),
}


async def test_a_table_is_created_with_its_indexes(path: Path, raw: sqlite3.Connection) -> None:
    """Each is there once, however often the file is opened, and buffers accept the table."""
    table = jobs(indexes=INDEXES)
    for alter in (False, False, True):
        async with (
            open_sqlite(path, create=[table], alter=alter) as store,
            open_buffers(store, table) as buffers,
        ):
            await buffers[table].write(("a", "new"))
        assert CREATED == dict(schema(raw)[1:])


async def test_an_existing_table_is_changed_only_on_request(
    path: Path, raw: sqlite3.Connection
) -> None:
    """Without `alter`, the error of `open_buffers` has the SQL, and the table is as it was."""
    async with open_sqlite(path, create=[jobs()]):
        pass
    before = schema(raw)
    table = jobs({"n": int | None}, indexes=INDEXES)
    for expected in ("has no column 'n'", "has no index 'idx_jobs_state', 'idx_jobs_state_id', 'o"):
        async with open_sqlite(path, create=[table]) as store:
            with pytest.raises(SchemaError, match=f"{expected}.*; to add.* alter=True") as caught:
                async with open_buffers(store, table):
                    raise AssertionError
        assert before == schema(raw)
        raw.executescript(str(caught.value.sql))
        before = schema(raw)
    check_table(raw, table)


COLUMNS: dict[str, Any] = {
    "text": str,
    "number": int,
    "real": float | None,
    "data": bytes,
    "flag": bool,
    "any": int | str,
    "when": datetime,
    "seconds": Annotated[datetime, forebay.UnixMicroseconds],
    "id16": Annotated[UUID, forebay.UuidBytes],
    "price": Decimal,
    "json": Annotated[dict[str, Any], forebay.Json],
    "none": str | None,
}
DEFAULTS: dict[str, Any] = {
    "text": 'it\'s "x"',
    "number": -(2**63),
    "real": -math.inf,
    "data": b"\0'",
    "flag": True,
    "any": "1",
    "when": NOW,
    "seconds": NOW,
    "id16": UUID(int=3),
    "price": Decimal("1.50"),
    "json": {"a": ["'", 1]},
}
STORED = {
    "text": 'it\'s "x"',
    "number": -(2**63),
    "real": -math.inf,
    "data": b"\0'",
    "flag": 1,
    "any": "1",
    "when": "2026-01-02 03:04:05.000006+00:00",
    "seconds": 1767323045000006,
    "id16": UUID(int=3).bytes,
    "price": "1.50",
    "json": '{"a":["\'",1]}',
    "none": None,
}


@pytest.mark.parametrize("strict", [False, True])
async def test_missing_columns_are_added(path: Path, raw: sqlite3.Connection, strict: bool) -> None:
    """Rows that exist have the defaults, as encoded; and a new table gets the same columns."""
    async with open_sqlite(path, create=[jobs()], strict_tables=strict) as store:
        await store.run(lambda raw: raw.execute("INSERT INTO jobs VALUES ('a', 'new')").close())
    table = jobs(COLUMNS, defaults=DEFAULTS, indexes=["when"])
    for _ in range(2):
        await open_altered(path, table)
        check_table(raw, table)
        cursor = raw.execute("SELECT * FROM jobs")
        names = [name for name, *_ in cursor.description]
        [row] = cursor.fetchall()
        assert {"id": "a", "state": "new", **STORED} == dict(zip(names, row, strict=True))
    created = jobs(COLUMNS, defaults=DEFAULTS, name="created")
    async with open_sqlite(path, create=[created], strict_tables=strict) as store:
        await store.run(
            lambda raw: raw.execute("INSERT INTO created (id, state) VALUES ('a', 'new')").close()
        )
    assert [row] == raw.execute("SELECT * FROM created").fetchall()
    columns = 'SELECT name, type, "notnull", dflt_value FROM pragma_table_info(?) WHERE cid > 0'
    assert (
        raw.execute(columns, ("created",)).fetchall() == raw.execute(columns, ("jobs",)).fetchall()
    )


@given(
    st.one_of(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.binary(),
    )
)
@example(2.846e-306)
def test_any_default_is_what_a_buffer_would_store(value: str | float | bytes) -> None:
    """It is the same in a new table and in a new column: SQLite is the oracle."""
    table = Table.from_columns({"a": int | None, "v": type(value)}, name="t", defaults={"v": value})
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as raw:
        if isinstance(value, float) and raw.execute(f"SELECT {literal(value)}").fetchone() != (
            value,
        ):
            with pytest.raises(SchemaError):  # SQLite reads this number as another one
                create_tables(raw, [table], strict=False, alter=False)
            return
        create_tables(raw, [table], strict=False, alter=False)
        raw.execute("INSERT INTO t (a) VALUES (1)")
        raw.execute("ALTER TABLE t RENAME TO created")
        raw.execute("CREATE TABLE t AS SELECT 1 AS a")
        create_tables(raw, [table], strict=False, alter=True)
        for name in ("created", "t"):
            [(stored,)] = raw.execute(f"SELECT v FROM {name}").fetchall()  # noqa: S608  # a constant
            assert (type(value), value) == (type(stored), stored)


@pytest.mark.parametrize(
    ("ddl", "table", "message", "sql"),
    [
        (
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT)",
            jobs({"a": int | None, "n": int}),
            "table 'jobs' has no column 'n', which alter=True cannot add, since the rows that",
            'ALTER TABLE "jobs" ADD COLUMN "n" INTEGER;',
        ),
        (
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT) STRICT",
            jobs({"n": int | str}),
            "the field does not allow None and has no default",
            'ALTER TABLE "jobs" ADD COLUMN "n" ANY;',
        ),
        (
            "CREATE TABLE jobs (state TEXT)",
            jobs(),
            "has no column 'id', which alter=True cannot add, since it is in the key",
            None,
        ),
        ("CREATE VIEW jobs AS SELECT 1", jobs(), "'jobs' is a view, but a buffer can only", None),
        (
            "CREATE VIRTUAL TABLE jobs USING fts5(id, state)",
            jobs({"n": int | None}, key=None),
            "column 'n' cannot be added: virtual tables may not be altered",
            'ALTER TABLE "jobs" ADD COLUMN "n" INTEGER;',
        ),
        (
            (
                "CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT);"
                "INSERT INTO jobs VALUES ('a', 'x'), ('b', 'x')"
            ),
            jobs({"n": int | None}, indexes=["n", Index("state", unique=True)]),
            (
                "index 'idx_jobs_state' cannot be created: UNIQUE constraint failed: jobs.state; "
                "change or delete the duplicate rows, then"
            ),
            'CREATE UNIQUE INDEX "idx_jobs_state" ON "jobs" ("state");',
        ),
        (
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT)",
            jobs(indexes=[Index("state", where="stat > 1")]),
            "index 'idx_jobs_state' cannot be created: no such column: stat; correct the",
            'CREATE INDEX "idx_jobs_state" ON "jobs" ("state") WHERE stat > 1;',
        ),
        (
            (
                "CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT);"
                "CREATE INDEX IDX_jobs_state ON jobs (state, id)"
            ),
            jobs(indexes=["state"]),
            (
                "index 'idx_jobs_state' differs from its declaration Index('state', "
                "name='idx_jobs_state'): it was created by 'CREATE INDEX IDX_jobs_state ON jobs "
                "(state, id)'"
            ),
            'DROP INDEX "idx_jobs_state";\nCREATE INDEX "idx_jobs_state" ON "jobs" ("state");',
        ),
        (
            (
                "CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT); CREATE TABLE t (a);"
                "CREATE INDEX idx_jobs_state ON t (a)"
            ),
            jobs(indexes=["state"]),
            "there is an index of that name of table 't'; declare the index with another name",
            None,
        ),
        (
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT); CREATE TABLE Idx_jobs_state (a)",
            jobs(indexes=["state"]),
            "there is a table of that name; declare the index with another name",
            None,
        ),
    ],
)
async def test_what_cannot_be_added_is_refused_and_nothing_is_changed(
    path: Path, raw: sqlite3.Connection, ddl: str, table: Table[Any], message: str, sql: str | None
) -> None:
    """Also another table, which comes first, is as it was."""
    raw.executescript(ddl)
    raw.execute("CREATE TABLE first (id TEXT PRIMARY KEY, state TEXT)")
    first = jobs({"n": int | None}, name="first", indexes=["state"])
    error = await refused(path, first, table, jobs(name="third"))
    assert message in str(error)
    assert ("jobs", sql) == (error.table, error.sql)


async def test_an_index_of_a_new_table_can_be_refused_too(
    path: Path, raw: sqlite3.Connection
) -> None:
    """Then the table is not created either."""
    raw.execute("CREATE TABLE idx_jobs_state (a)")
    for alter in (False, True):
        with pytest.raises(SchemaError, match="there is a table of that name"):
            async with open_sqlite(path, create=[jobs(indexes=["state"])], alter=alter):
                raise AssertionError
    assert ["idx_jobs_state"] == [name for name, _ in schema(raw)]


SAME = [
    "CREATE INDEX i ON jobs (state) WHERE state>1 AND id = 'A  b'",
    "create index I on JOBS(State) where STATE > 1 /* x */ and id='A  b' -- y\n",
]
DIFFERENT = [
    "CREATE INDEX i ON jobs (state) WHERE state > 1 AND id = 'a  b'",
    "CREATE INDEX i ON jobs (state) WHERE state > 1 AND id = 'A b'",
    "CREATE INDEX i ON jobs (state) WHERE id > 1 AND state > 1 AND id = 'A  b'",
    "CREATE INDEX i ON jobs (state)",
    "CREATE INDEX i ON jobs (id) WHERE state > 1 AND id = 'A  b'",
    "CREATE INDEX i ON jobs (state DESC) WHERE state > 1 AND id = 'A  b'",
    "CREATE INDEX i ON jobs (lower(state)) WHERE state > 1 AND id = 'A  b'",
    "CREATE UNIQUE INDEX i ON jobs (state) WHERE state > 1 AND id = 'A  b'",
]


@pytest.mark.parametrize("ddl", SAME)
@pytest.mark.parametrize("name", ["i", "another"])
async def test_an_equal_index_is_the_declared_one(
    path: Path, raw: sqlite3.Connection, ddl: str, name: str
) -> None:
    """Whatever its name is, and however its statement is written."""
    raw.executescript(f"CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT); {ddl}")
    before = schema(raw)
    index = Index("state", where="state > 1 AND id = 'A  b'", name=name)
    await open_altered(path, jobs(indexes=[index]))
    assert before == schema(raw)
    check_table(raw, jobs(indexes=[index]))


@pytest.mark.parametrize("ddl", DIFFERENT)
async def test_a_different_index_is_not_the_declared_one(
    path: Path, raw: sqlite3.Connection, ddl: str
) -> None:
    """If it has the same name, it is an error; else the declared one is added."""
    raw.executescript(f"CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT); {ddl}")
    where = "state > 1 AND id = 'A  b'"
    error = await refused(path, jobs(indexes=[Index("state", where=where, name="i")]))
    with pytest.raises(SchemaError, match="index 'i' differs"):
        check_table(raw, jobs(indexes=[Index("state", where=where, name="i")]))
    await open_altered(path, jobs(indexes=[Index("state", where=where, name="other")]))
    assert ["jobs", "i", "other"] == [name for name, _ in schema(raw)]
    raw.executescript(str(error.sql))
    check_table(raw, jobs(indexes=[Index("state", where=where, name="i")]))


async def test_a_partial_index_is_no_index_of_all_rows(path: Path, raw: sqlite3.Connection) -> None:
    """Nor the other way round."""
    raw.executescript(
        "CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT);"
        "CREATE INDEX part ON jobs (state) WHERE state > 1; CREATE INDEX all_ids ON jobs (id)"
    )
    await open_altered(path, jobs(indexes=["state", Index("id", where="id > 1", name="i")]))
    assert ["jobs", "part", "all_ids", "idx_jobs_state", "i"] == [name for name, _ in schema(raw)]


def test_the_sql_for_a_strict_table_has_its_types(raw: sqlite3.Connection) -> None:
    """Every column of a STRICT table has a type."""
    table = jobs({"any": int | str})
    raw.execute("CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT) STRICT")
    with pytest.raises(SchemaError, match="has no column 'any'") as caught:
        check_table(raw, table)
    raw.executescript(str(caught.value.sql))
    check_table(raw, table)


async def test_a_unique_constraint_is_a_unique_index(path: Path, raw: sqlite3.Connection) -> None:
    """No second index is created for it."""
    raw.execute("CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT UNIQUE)")
    before = schema(raw)
    await open_altered(path, jobs(indexes=[Index("state", unique=True)]))
    assert before == schema(raw)


async def test_other_columns_and_indexes_stay(path: Path, raw: sqlite3.Connection) -> None:
    """What the row type does not have is left alone, also a generated column."""
    raw.executescript(
        "CREATE TABLE jobs (id TEXT PRIMARY KEY, old INT NOT NULL DEFAULT 7, state VARCHAR,"
        " g AS (old + 1)); CREATE INDEX o ON jobs (old); INSERT INTO jobs VALUES ('a', 8, 'x');"
    )
    before = schema(raw)
    table = jobs({"n": int}, defaults={"n": 1})
    await open_altered(path, table)
    assert before[1:] == schema(raw)[1:]
    async with open_sqlite(path) as store, open_buffers(store, table) as buffers:
        await buffers[table].write(("a", "y", 2))
        await buffers[table].write(("b", "z", 3))
    assert [("a", 8, "y", 9, 2), ("b", 7, "z", 8, 3)] == raw.execute(
        "SELECT * FROM jobs"
    ).fetchall()


async def test_a_running_program_meets_a_new_column(path: Path, raw: sqlite3.Connection) -> None:
    """A program with the older declaration goes on; its rows have the default."""
    old, new = jobs(), jobs({"n": int}, defaults={"n": 1}, indexes=["n"])
    async with (
        open_sqlite(path, create=[old]) as store,
        open_buffers(store, old) as buffers,
    ):
        await buffers[old].write(("a", "x"))
        await open_altered(path, new)
        await buffers[old].write(("b", "x"))
    assert [("a", "x", 1), ("b", "x", 1)] == raw.execute("SELECT * FROM jobs").fetchall()


async def test_two_programs_may_alter_at_once(path: Path, raw: sqlite3.Connection) -> None:
    """Each waits for the other's lock, and then finds the column."""
    async with open_sqlite(path, create=[jobs()]):
        pass
    table = jobs({"n": int}, defaults={"n": 1}, indexes=["n", ("n", "state")])
    raw.execute("BEGIN IMMEDIATE")
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(open_altered, path, table)
        await trio.testing.wait_all_tasks_blocked(0.1)
        raw.execute("COMMIT")
    check_table(raw, table)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"alter": 1, "create": [jobs()]}, TypeError, "alter=1: pass True or False"),
        ({"alter": True}, ValueError, "alter=True: it changes the tables of create"),
    ],
)
async def test_an_invalid_argument_is_refused(
    path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """No file is created."""
    with pytest.raises(error, match=message):
        async with open_sqlite(path, **arguments):
            raise AssertionError
    assert not path.exists()


def test_tokens_and_words_of_a_statement() -> None:
    """Comments and spaces are left out, and words are in upper case; quoted text is as it is."""
    sql = "a -- 'b'\n+ 'it''s' /* c */ \"D e\" [f] `g`>=1.5 /* open"
    assert ["A", "+", "'it''s'", '"D e"', "[f]", "`g`", ">", "=", "1", ".", "5"] == [*tokens(sql)]
    assert ["A", "1", "5"] == words(sql)


async def test_the_error_of_a_missing_table_creates_its_indexes(
    path: Path, raw: sqlite3.Connection
) -> None:
    """The SQL is complete."""
    table = jobs(indexes=INDEXES)
    with pytest.raises(SchemaError, match="there is no table 'jobs'") as caught:
        check_table(raw, table)
    raw.executescript(str(caught.value.sql))
    assert CREATED == dict(schema(raw)[1:])
    check_table(raw, table)
