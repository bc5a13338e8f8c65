"""What a function of `store.run` leaves on the writer's connection: the buffers do not notice."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from forebay import StoreError, Sum, Table, dead_letters, open_buffers, open_sqlite
from forebay.sqlite import CommitError, TransactionEndedError
from forebay.stores.sqlite import SqliteStore
from tests.stores.sqlite.another_connection import query

HITS = Table.from_columns({"url": str, "count": int}, name="hits", key="url", merge={"count": Sum})
EVENTS = Table.from_columns({"kind": str, "number": int}, name="events")
STRICT = Table.from_columns({"kind": str, "number": int}, name="strict_events")

Function = Callable[[sqlite3.Connection], object]


def statement(sql: str) -> Function:
    return lambda raw: raw.execute(sql)


def setting(name: str, value: object) -> Function:
    return lambda raw: setattr(raw, name, value)


def deny(*_: object) -> int:
    return sqlite3.SQLITE_DENY


def interrupt() -> int:
    return 1


def fail_in_another_thread() -> None:
    trio.from_thread.check_cancelled()


KEPT: list[Any] = []
"""Objects that functions keep, as a program could in a global variable."""


def keep(value: object) -> None:
    KEPT.append(value)


def half_read(raw: sqlite3.Connection) -> None:
    cursor = raw.execute("SELECT * FROM numbers")
    assert (1,) == cursor.fetchone()
    keep(cursor)


def half_read_by_cursor(raw: sqlite3.Connection) -> None:
    cursor = raw.cursor()
    assert (1,) == cursor.execute("SELECT * FROM numbers").fetchone()
    keep(cursor)


def half_returned(raw: sqlite3.Connection) -> None:
    keep(raw.execute("INSERT INTO numbers VALUES (4), (5) RETURNING number"))


def open_blob(raw: sqlite3.Connection) -> None:
    raw.execute("CREATE TABLE IF NOT EXISTS blobs (b)")
    raw.execute("INSERT INTO blobs VALUES (zeroblob(9))")
    keep(raw.blobopen("blobs", "b", 1))


def attach(raw: sqlite3.Connection) -> None:
    [(_, _, file)] = raw.execute("PRAGMA database_list").fetchall()
    raw.execute("ATTACH ? AS 'o\"ther'", (f"{file}-other",))
    raw.execute('CREATE TABLE "o""ther".t AS SELECT 1')


LEFT: dict[str, Function] = {
    "row_factory": setting("row_factory", sqlite3.Row),
    "row_factory, a dict": setting("row_factory", lambda _cursor, row: dict(enumerate(row))),
    "row_factory that raises": setting("row_factory", lambda *_: 1 / 0),
    "text_factory": setting("text_factory", bytes),
    "text_factory that raises": setting("text_factory", lambda _: 1 / 0),
    "isolation_level": setting("isolation_level", "DEFERRED"),
    "isolation_level, exclusive": setting("isolation_level", "EXCLUSIVE"),
    "authorizer": lambda raw: raw.set_authorizer(deny),
    "authorizer that ignores": lambda raw: raw.set_authorizer(lambda *_: sqlite3.SQLITE_IGNORE),
    "progress handler": lambda raw: raw.set_progress_handler(interrupt, 1),
    "progress handler of Trio": lambda raw: raw.set_progress_handler(fail_in_another_thread, 1),
    "trace callback that raises": lambda raw: raw.set_trace_callback(lambda _: 1 / 0),
    "cursor": half_read,
    "cursor, explicit": half_read_by_cursor,
    "cursor of RETURNING": half_returned,
    "cursor, returned": statement("SELECT * FROM numbers"),
    "blob": open_blob,
    "attached database": attach,
    "foreign_keys": statement("PRAGMA foreign_keys = 1"),
    "case_sensitive_like": statement("PRAGMA case_sensitive_like = 1"),
    "TEMP table": statement("CREATE TEMP TABLE events AS SELECT 'temp', 0"),
    "TEMP table of forebay": statement("CREATE TEMP TABLE forebay_dead_letters (id, entry)"),
    "savepoint": statement("SAVEPOINT left"),
    "SQL function": lambda raw: raw.create_function("lower", 1, lambda _: "mine"),
}


async def use(store: SqliteStore, path: Path) -> None:
    """Write, read, make dead letters, and let another program write in between."""
    async with open_buffers(store, EVENTS, HITS, STRICT) as buffers:
        with trio.fail_after(20):
            for number in range(3):
                await buffers[EVENTS].write(("a", number))
                with closing(sqlite3.connect(path, timeout=20)) as other, other:
                    other.execute("INSERT INTO others VALUES (?)", (number,))
                await buffers[HITS].write(("a", 1))
                await buffers[STRICT].enqueue(("a", -1))
                await buffers[STRICT].enqueue(("b", number))
                await buffers[STRICT].flush()
            # Nothing holds a snapshot: every page of the log can be copied and dropped.
            with closing(sqlite3.connect(path, timeout=20)) as other:
                assert [(0, 0, 0)] == other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            letters = await dead_letters.fetch(store)
            assert [("strict_events", "SQLITE_CONSTRAINT_CHECK")] * 3 == [
                (letter.buffer, letter.failure.error_code) for letter in letters
            ]
            found = await store.run(
                lambda raw: raw.execute("SELECT kind FROM main.events").fetchall()
            )
            assert [("a",)] * 3 == found
    assert [("a", 0), ("a", 1), ("a", 2)] == query(path, "SELECT * FROM events")
    assert [("a", 3)] == query(path, "SELECT * FROM hits")
    assert [("b", 0), ("b", 1), ("b", 2)] == query(path, "SELECT * FROM strict_events")


@pytest.fixture
def prepared(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(
            "CREATE TABLE others (number INTEGER);"
            "CREATE TABLE numbers (number INTEGER);"
            "INSERT INTO numbers VALUES (1), (2), (3);"
            "CREATE TABLE strict_events (kind TEXT, number INTEGER CHECK (number >= 0)) STRICT;"
        )
    return path


@pytest.mark.parametrize("failing", [False, True], ids=["returns", "raises"])
@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT.keys())
async def test_the_buffers_do_not_notice_what_a_function_left(
    prepared: Path, left: Function, failing: bool
) -> None:
    """Neither if the function returns nor if it raises, and however often it is called."""

    def call(raw: sqlite3.Connection) -> None:
        keep(left(raw))
        if failing:
            raise LookupError

    async with open_sqlite(prepared, create=[EVENTS, HITS], busy_timeout=0.01) as store:
        for _ in range(2):
            if failing:
                with pytest.raises(LookupError) as caught:
                    await store.run(call)
                assert not getattr(caught.value, "__notes__", [])
            else:
                try:
                    await store.run(call)
                except sqlite3.OperationalError as error:
                    assert "already exists" in str(error)  # noqa: PT017  # the second TEMP table
        await use(store, prepared)
    KEPT.clear()


async def test_a_cursor_that_is_returned_is_closed(prepared: Path) -> None:
    """Its rows were to be read in another thread, from a snapshot that it would keep."""
    async with open_sqlite(prepared) as store:
        cursor = await store.run(lambda raw: raw.execute("SELECT * FROM numbers"))
        with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
            cursor.fetchall()
        assert [(1,), (2,), (3,)] == await store.run(
            lambda raw: raw.execute("SELECT * FROM numbers").fetchall()
        )


async def test_an_unread_returning_is_committed(prepared: Path) -> None:
    """Its statement is done at once; only its rows wait to be read."""
    async with open_sqlite(prepared) as store:
        await store.run(half_returned)
    assert [(1,), (2,), (3,), (4,), (5,)] == query(prepared, "SELECT * FROM numbers")
    KEPT.clear()


async def test_what_triggers_need_stays(prepared: Path) -> None:
    """SQL functions, collations and TEMP triggers stay for the transactions of the buffers."""
    seen: list[str] = []

    def register(raw: sqlite3.Connection) -> None:
        raw.create_function("noted", 1, seen.append)
        raw.create_collation("backwards", lambda a, b: (a < b) - (a > b))
        raw.execute("CREATE INDEX backwards ON events (kind COLLATE backwards)")
        raw.execute(
            "CREATE TEMP TRIGGER seen AFTER INSERT ON events BEGIN SELECT noted(NEW.kind); END"
        )

    async with open_sqlite(prepared, create=[EVENTS]) as store:
        await store.run(register)
        async with open_buffers(store, EVENTS) as buffers:
            await buffers[EVENTS].write(("a", 1))
            await buffers[EVENTS].write(("b", 1))
    assert ["a", "b"] == seen


async def test_a_pragma_and_a_trace_callback_stay(prepared: Path) -> None:
    """The documentation of `store.run` says so."""
    traced: list[str] = []

    def configure(raw: sqlite3.Connection) -> None:
        raw.execute("PRAGMA cache_size = -777")
        raw.set_trace_callback(traced.append)

    async with open_sqlite(prepared, create=[EVENTS]) as store:
        await store.run(configure)
        async with open_buffers(store, EVENTS) as buffers:
            await buffers[EVENTS].write(("a", 1))
        assert (-777,) == await store.run(lambda raw: raw.execute("PRAGMA cache_size").fetchone())
    assert any("INSERT INTO" in sql for sql in traced)


async def test_an_authorizer_cannot_keep_a_transaction_open(prepared: Path) -> None:
    """It would refuse COMMIT and ROLLBACK too, and every later BEGIN would fail."""

    def call(raw: sqlite3.Connection) -> None:
        raw.execute("INSERT INTO numbers VALUES (4)")
        raw.set_authorizer(deny)
        raw.execute("SELECT 1")

    async with open_sqlite(prepared) as store:
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            await store.run(call)
        await store.run(lambda raw: raw.execute("INSERT INTO numbers VALUES (5)"))
    assert [(1,), (2,), (3,), (5,)] == query(prepared, "SELECT * FROM numbers")


async def test_the_database_cannot_be_replaced_by_one_in_memory(prepared: Path) -> None:
    """`deserialize` is refused: rows would be acknowledged, and would never reach the file."""
    with closing(sqlite3.connect(prepared)) as raw:
        image = raw.serialize()

    async with open_sqlite(prepared, create=[EVENTS, HITS]) as store:
        with pytest.raises(sqlite3.NotSupportedError, match="in memory"):
            await store.run(lambda raw: raw.deserialize(image))
        await use(store, prepared)


async def test_a_database_that_cannot_be_detached_is_an_error(prepared: Path) -> None:
    """A cursor that was not made by the connection keeps it busy; the error names the database."""

    def call(raw: sqlite3.Connection) -> None:
        attach(raw)
        cursor = sqlite3.Cursor(raw)
        cursor.execute('SELECT * FROM "o""ther".t, numbers')
        keep(cursor)

    async with open_sqlite(prepared) as store:
        with pytest.raises(StoreError, match=r"'o\"ther'.*cannot be detached.*locked"):
            await store.run(call)
        KEPT.clear()
        await store.run(lambda _raw: None)
        assert [(0, "main", str(prepared))] == await store.run(
            lambda raw: raw.execute("PRAGMA database_list").fetchall()
        )


async def test_a_function_that_fails_in_commit_leaves_nothing(prepared: Path) -> None:
    """A deferred foreign key fails at COMMIT; the connection is reset all the same."""

    def call(raw: sqlite3.Connection) -> None:
        raw.execute("CREATE TABLE p (id INTEGER PRIMARY KEY)")
        raw.execute("CREATE TABLE c (p REFERENCES p DEFERRABLE INITIALLY DEFERRED)")
        raw.execute("INSERT INTO c VALUES (1)")
        raw.row_factory = sqlite3.Row
        attach(raw)

    async with open_sqlite(prepared, create=[EVENTS, HITS], pragmas={"foreign_keys": 1}) as store:
        with pytest.raises(CommitError):
            await store.run(call)
        await use(store, prepared)


def attach_by_script(raw: sqlite3.Connection) -> None:
    raw.executescript("ATTACH ':memory:' AS other")


def attach_without_authorizer(raw: sqlite3.Connection) -> None:
    raw.set_authorizer(None)
    raw.execute("ATTACH ':memory:' AS other")


def attach_by_cursor(raw: sqlite3.Connection) -> None:
    sqlite3.Cursor(raw).execute("ATTACH ':memory:' AS other")


@pytest.mark.parametrize("attach", [attach_by_script, attach_without_authorizer, attach_by_cursor])
async def test_a_database_is_detached_each_time(prepared: Path, attach: Function) -> None:
    """However it was attached, also when the statement comes from the cache."""
    async with open_sqlite(prepared) as store:
        for _ in range(3):
            with suppress(TransactionEndedError):
                await store.run(attach)
            assert [(0, "main", str(prepared))] == await store.run(
                lambda raw: raw.execute("PRAGMA database_list").fetchall()
            )


needs_autocommit = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="sqlite3.Connection has autocommit since Python 3.12"
)


def autocommit(raw: sqlite3.Connection) -> Any:
    return raw.autocommit  # type: ignore[attr-defined, unused-ignore]


@needs_autocommit
@pytest.mark.parametrize("failing", [False, True], ids=["returns", "raises"])
async def test_autocommit_ends_the_transaction(prepared: Path, failing: bool) -> None:
    """Python commits when autocommit is set: the error says so, and the buffers go on."""

    def call(raw: sqlite3.Connection) -> None:
        raw.execute("INSERT INTO numbers VALUES (4)")
        raw.autocommit = True  # type: ignore[attr-defined, unused-ignore]
        raw.execute("INSERT INTO numbers VALUES (5)")
        if failing:
            raise LookupError

    async with open_sqlite(prepared, create=[EVENTS, HITS]) as store:
        with pytest.raises(LookupError if failing else TransactionEndedError) as caught:
            await store.run(call)
        notes = getattr(caught.value, "__notes__", [])
        assert failing == any("the transaction had ended" in note for note in notes)
        assert [(4,), (5,)] == query(prepared, "SELECT number FROM numbers WHERE number > 3")
        assert sqlite3.LEGACY_TRANSACTION_CONTROL == await store.run(autocommit)  # type: ignore[attr-defined, unused-ignore]
        await use(store, prepared)


@needs_autocommit
@pytest.mark.parametrize("failing", [False, True], ids=["returns", "raises"])
async def test_autocommit_off_changes_nothing(prepared: Path, failing: bool) -> None:
    """The transaction is open already. Later ones begin and end as always."""

    def call(raw: sqlite3.Connection) -> None:
        raw.autocommit = False  # type: ignore[attr-defined, unused-ignore]
        raw.execute("INSERT INTO numbers VALUES (4)")
        if failing:
            raise LookupError

    async with open_sqlite(prepared, create=[EVENTS, HITS]) as store:
        if failing:
            with pytest.raises(LookupError):
                await store.run(call)
        else:
            await store.run(call)
        expected = [] if failing else [(4,)]
        assert expected == query(prepared, "SELECT number FROM numbers WHERE number > 3")
        assert sqlite3.LEGACY_TRANSACTION_CONTROL == await store.run(autocommit)  # type: ignore[attr-defined, unused-ignore]
        await use(store, prepared)
