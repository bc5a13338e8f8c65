"""The read connections of a store: what they refuse, how many there are, and how they close."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from forebay import open_sqlite
from forebay.sqlite import Connection, ConnectionState
from forebay.stores.sqlite._readers import Readers
from tests.descriptors import open_descriptors
from tests.thread_gate import ThreadGate

# Long enough for a slow machine; no test waits for it unless something is broken.
PATIENCE = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Create a database with several kinds of tables, and return its path."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(
            "PRAGMA journal_mode = wal;"
            "CREATE TABLE events (kind TEXT, number INTEGER);"
            "INSERT INTO events VALUES ('a', 1), ('B', 2);"
            "CREATE VIEW seen AS SELECT kind FROM events;"
            "CREATE VIRTUAL TABLE words USING fts5(word);"
            "INSERT INTO words VALUES ('hello world');"
            "CREATE VIRTUAL TABLE old_words USING fts4(word);"
            "INSERT INTO old_words VALUES ('hello world');"
            "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1);"
            "INSERT INTO boxes VALUES (1, 0, 10);"
        )
    return path


# What a query may do


REFUSED = [
    "CREATE TEMP TABLE events (kind, number)",
    "CREATE TABLE temp.events (kind, number)",
    "CREATE TEMPORARY TABLE other AS SELECT * FROM events",
    "CREATE TEMP VIEW events AS SELECT 1 AS kind",
    "CREATE TEMP TRIGGER t AFTER INSERT ON events BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE temp.w USING fts5(word)",
    "CREATE TABLE other (x)",
    "CREATE INDEX i ON events (kind)",
    "CREATE TRIGGER t AFTER INSERT ON events BEGIN SELECT 1; END",
    "DROP TABLE events",
    "DROP VIEW seen",
    "ALTER TABLE events ADD COLUMN x",
    "ATTACH 'other.db' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH main",
    "VACUUM",
    "VACUUM INTO 'other.db'",
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "ROLLBACK",
    "END",
    "SAVEPOINT s",
    "RELEASE s",
    "ANALYZE",
    "REINDEX",
    "PRAGMA case_sensitive_like = 1",
    "PRAGMA temp.user_version = 1",
    "PRAGMA optimize",
    "INSERT INTO events VALUES ('c', 3)",
    "INSERT INTO events VALUES ('c', 3) RETURNING kind",
    "UPDATE events SET number = 0",
    "DELETE FROM events",
    "REPLACE INTO words VALUES ('x')",
    "INSERT INTO words(words) VALUES ('optimize')",
    "INSERT INTO boxes VALUES (2, 0, 1)",
    "WITH c AS (SELECT 1) DELETE FROM events",
    "/* SELECT */ pragma Case_Sensitive_Like(on)",
]


@pytest.mark.parametrize("sql", REFUSED)
@pytest.mark.parametrize("method", ["fetch_all", "fetch_one"])
async def test_a_statement_that_does_more_than_read_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, method: str, sql: str
) -> None:
    """The error names the statement and `store.run`; the next query finds everything as before."""
    monkeypatch.chdir(path.parent)
    before = sorted(path.parent.iterdir())
    async with open_sqlite(path, readers=1) as store:
        opened = sorted(path.parent.iterdir())
        with pytest.raises(sqlite3.DatabaseError, match=r"may only read.*store\.run") as caught:
            await getattr(store, method)(sql)
        assert repr(sql) in str(caught.value)
        assert [("a", 1), ("B", 2)] == await store.fetch_all("SELECT * FROM events")
        assert [("a",)] == await store.fetch_all("SELECT kind FROM events WHERE kind LIKE 'A'")
        assert [] == await store.fetch_all("SELECT name FROM temp.sqlite_schema")
        databases = await store.fetch_all("PRAGMA database_list")
        assert {"main"} == {name for _, name, _ in databases} - {"temp"}
        await store.run(lambda raw: raw.execute("INSERT INTO events VALUES ('c', 3)"))
        assert (3,) == await store.fetch_one("SELECT count(*) FROM events")
        assert opened == sorted(path.parent.iterdir())
    assert before == sorted(path.parent.iterdir())


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT kind FROM events ORDER BY lower(kind) DESC", [("B",), ("a",)]),
        ("WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 3) SELECT i FROM n",
         [(1,), (2,), (3,)]),
        ("VALUES (1), (2)", [(1,), (2,)]),
        ("SELECT * FROM seen", [("a",), ("B",)]),
        ("SELECT word FROM words WHERE words MATCH 'hello'", [("hello world",)]),
        ("SELECT word FROM old_words WHERE old_words MATCH 'hello'", [("hello world",)]),
        ("SELECT id FROM boxes WHERE x0 <= 5 AND x1 >= 5", [(1,)]),
        ("SELECT value FROM json_each('[1]')", [(1,)]),
        ("SELECT name FROM pragma_table_info('events')", [("kind",), ("number",)]),
        ("SELECT user_version FROM pragma_user_version", [(0,)]),
        ("PRAGMA integrity_check(1)", [("ok",)]),
        ("PRAGMA foreign_key_check(events)", []),
        ("PRAGMA main.journal_mode", [("wal",)]),
        ("PRAGMA table_info = 'seen'", [(0, "kind", "TEXT", 0, None, 0)]),
        ("SELECT count(*) > 0 FROM dbstat", [(1,)]),
        ("SELECT name FROM sqlite_schema WHERE name = 'seen'", [("seen",)]),
    ],
)  # fmt: skip
async def test_a_query_may_read_everything(path: Path, sql: str, expected: list[Any]) -> None:
    """Tables, views, virtual tables, functions, and the pragmas that only read."""
    async with open_sqlite(path) as store:
        assert expected == await store.fetch_all(sql)


async def test_an_error_of_the_statement_stays_as_it_is(path: Path) -> None:
    """Only a refused statement and a failure of the file get an explanation."""
    async with open_sqlite(path) as store:
        with pytest.raises(sqlite3.OperationalError, match=r"^no such table: missing$"):
            await store.fetch_all("SELECT * FROM missing")
        with pytest.raises(sqlite3.ProgrammingError, match="Incorrect number of bindings"):
            await store.fetch_all("SELECT ?")


# Failures of the file, and locks


def failure(code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("failed on purpose")
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, method: str, *errors: Exception) -> Iterator[None]:
    """Let the first calls of a method of connections fail."""
    original: Callable[..., Awaitable[Any]] = getattr(Connection, method)
    left = list(errors)

    async def fail(*args: Any, **options: Any) -> Any:
        if left:
            raise left.pop(0)
        return await original(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, method, fail)
        yield
    assert [] == left


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (sqlite3.SQLITE_BUSY, "SQLITE_BUSY"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "SQLITE_BUSY_SNAPSHOT"),
        (sqlite3.SQLITE_BUSY_TIMEOUT, "SQLITE_BUSY_TIMEOUT"),
        (sqlite3.SQLITE_LOCKED, "SQLITE_LOCKED"),
        (sqlite3.SQLITE_LOCKED_VTAB, "SQLITE_LOCKED_VTAB"),
        (sqlite3.SQLITE_LOCKED_SHAREDCACHE, "SQLITE_LOCKED_SHAREDCACHE"),
        (sqlite3.SQLITE_PROTOCOL, "SQLITE_PROTOCOL"),
    ],
)
@pytest.mark.parametrize("method", ["fetch_all", "open"])
async def test_a_read_waits_for_a_conflict_with_another_connection(
    path: Path, monkeypatch: pytest.MonkeyPatch, method: str, code: int, name: str
) -> None:
    """It is repeated until it succeeds, also if the connection could not be opened.

    The codes are scripted, since no other process can cause them at a known time. See
    test_recovery_by_others.py for one that can be caused.
    """
    async with open_sqlite(path) as store:
        with failing(monkeypatch, method, *[failure(code, name)] * 3):
            assert [(2,)] == await store.fetch_all("SELECT count(*) FROM events")


async def test_a_write_of_the_program_waits_for_the_same_conflicts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run` calls its function once the transaction has begun."""
    error = failure(sqlite3.SQLITE_PROTOCOL, "SQLITE_PROTOCOL")
    async with open_sqlite(path) as store:
        with failing(monkeypatch, "run", error, error):
            assert 1 == await store.run(lambda raw: raw.execute("DELETE FROM boxes").rowcount)


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        (sqlite3.SQLITE_CANTOPEN, "SQLITE_CANTOPEN", "check the permissions.*how many files"),
        (sqlite3.SQLITE_CANTOPEN_FULLPATH, "SQLITE_CANTOPEN_FULLPATH", "check the permissions"),
        (sqlite3.SQLITE_IOERR_READ, "SQLITE_IOERR_READ", "a.db': failed on purpose"),
        (sqlite3.SQLITE_CORRUPT, "SQLITE_CORRUPT", "a.db': failed on purpose"),
        (sqlite3.SQLITE_READONLY_RECOVERY, "SQLITE_READONLY_RECOVERY", "a.db': failed"),
    ],
)
async def test_a_failure_of_the_file_names_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str, message: str
) -> None:
    """The error has SQLite's type, code and message, and the path."""
    async with open_sqlite(path) as store:
        with failing(monkeypatch, "fetch_all", failure(code, name)):
            with pytest.raises(sqlite3.OperationalError, match=message) as caught:
                await store.fetch_all("SELECT 1")
            assert (code, name) == (caught.value.sqlite_errorcode, caught.value.sqlite_errorname)
            assert str(path) in str(caught.value)
        assert [(1,)] == await store.fetch_all("SELECT 1")


# How many connections there are


class SlowOpening(ThreadGate):
    """Makes each opening of a database wait in its thread until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.opened = 0
        self._connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", self._slow)

    def _slow(self, *args: Any, **options: Any) -> sqlite3.Connection:
        self.wait()
        self.opened += 1
        raw: sqlite3.Connection = self._connect(*args, **options)
        return raw


async def test_a_read_cancelled_while_its_connection_opens_leaks_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next read uses the connection that was opened for the cancelled one."""
    async with open_sqlite(path, readers=2) as store:
        slow = SlowOpening(monkeypatch)
        for turn in range(300):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.fetch_all, "SELECT 1")
                nursery.start_soon(store.fetch_all, "SELECT 1")
                if turn == 0:
                    await slow.entered.wait()
                nursery.cancel_scope.cancel()
                slow.release()
        assert [(2,)] == await store.fetch_all("SELECT count(*) FROM events")
        assert slow.opened <= 2
        assert 1 + slow.opened == open_descriptors(path)
    assert 0 == open_descriptors(path)


@pytest.mark.parametrize("steps", range(8))
async def test_a_read_cancelled_at_any_checkpoint_leaks_nothing(path: Path, steps: int) -> None:
    """Wherever it is cancelled, the number of connections stays bounded."""

    async def cancel_after(scope: trio.CancelScope) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with open_sqlite(path, readers=2) as store:
        for _ in range(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_after, nursery.cancel_scope)
                for _ in range(3):
                    nursery.start_soon(store.fetch_all, "SELECT 1")
        assert open_descriptors(path) <= 3
        assert [(2,)] == await store.fetch_all("SELECT count(*) FROM events")
    assert 0 == open_descriptors(path)


async def test_a_connection_cancelled_while_it_opens_is_returned(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Connection.open` returns what the thread opened, so that its caller can close it."""
    connections: list[Connection] = []

    async def open_one() -> None:
        connections.append(await Connection.open(path))

    slow = SlowOpening(monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_one)
        await slow.entered.wait()
        nursery.cancel_scope.cancel()
        slow.release()
    [connection] = connections
    assert 1 == open_descriptors(path)
    await connection.aclose()
    assert 0 == open_descriptors(path)


async def test_a_connection_that_cannot_be_configured_is_closed(path: Path) -> None:
    """The error of the function leaves `open`, and no descriptor stays open."""

    def fail(_raw: sqlite3.Connection) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await Connection.open(path, configure=fail)
    assert 0 == open_descriptors(path)


# Closing


class Read:
    """A read that stays on its connection until it is released."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._released = trio.Event()
        self._begun = trio.Event()
        self._ended = trio.Event()
        self._connection: Connection | None = None

    async def begin(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self._run)
        await self._begun.wait()

    async def _run(self) -> None:
        await self._readers.run("", self._query)
        self._ended.set()

    async def _query(self, connection: Connection) -> None:
        self._connection = connection
        self._begun.set()
        await self._released.wait()
        # A closed connection refuses this.
        assert [(1,)] == await connection.fetch_all("SELECT 1")

    async def end(self) -> None:
        self._released.set()
        with trio.fail_after(PATIENCE):
            await self._ended.wait()
        await wait_all_tasks_blocked()

    def state(self) -> ConnectionState:
        assert self._connection is not None
        return self._connection.statistics().state


@pytest.fixture
def readers(path: Path) -> Readers:
    return Readers(str(path), limit=3, pragmas={})


async def test_closing_waits_for_every_read(path: Path, readers: Readers) -> None:
    """A read that ends, before the close or during it, does not end the wait for another one."""
    async with trio.open_nursery() as nursery:
        reads = [Read(readers) for _ in range(4)]
        await reads[0].begin(nursery)
        await reads[0].end()
        for read in reads[1:]:
            await read.begin(nursery)
        await reads[1].end()
        nursery.start_soon(readers.aclose)
        await wait_all_tasks_blocked()
        assert ConnectionState.OPEN is reads[2].state()
        await reads[2].end()
        assert ConnectionState.OPEN is reads[3].state()
        with pytest.raises(trio.ClosedResourceError):
            await readers.run("", lambda connection: connection.fetch_all("SELECT 1"))
        await reads[3].end()
    assert ConnectionState.CLOSED is reads[3].state()
    assert 0 == open_descriptors(path)


async def test_a_cancelled_close_waits_for_the_reads_all_the_same(
    path: Path, readers: Readers
) -> None:
    """Otherwise a read would find its connection closed."""
    async with trio.open_nursery() as nursery:
        read = Read(readers)
        await read.begin(nursery)
        async with trio.open_nursery() as closing_task:
            closing_task.start_soon(readers.aclose)
            await wait_all_tasks_blocked()
            closing_task.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                assert ConnectionState.OPEN is read.state()
                await read.end()
    assert 0 == open_descriptors(path)


async def test_a_read_that_does_not_end_is_waited_for_up_to_a_deadline(
    path: Path, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then every connection is closed, also the one that the read has."""
    monkeypatch.setattr("forebay.stores.sqlite._readers._CLOSE_TIMEOUT", 0.01)
    with pytest.RaisesGroup(trio.ClosedResourceError):
        async with trio.open_nursery() as nursery:
            idle, stuck = Read(readers), Read(readers)
            for read in (idle, stuck):
                await read.begin(nursery)
            await idle.end()
            with trio.fail_after(PATIENCE):
                await readers.aclose()
            assert 0 == open_descriptors(path)
            await stuck.end()


async def test_a_read_that_waits_longer_than_the_close_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens no connection that nobody would close."""
    monkeypatch.setattr("forebay.stores.sqlite._readers._CLOSE_TIMEOUT", 0.01)
    readers = Readers(str(path), limit=1, pragmas={})
    slow = SlowOpening(monkeypatch)
    refused = 0

    async def read() -> None:
        nonlocal refused
        with pytest.raises(trio.ClosedResourceError):
            await readers.run("", lambda connection: connection.fetch_all("SELECT 1"))
        refused += 1

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(read)
        await slow.entered.wait()
        await readers.aclose()
        slow.release()
    assert (2, 1) == (refused, slow.opened)
    assert 0 == open_descriptors(path)


async def test_closing_closes_every_reader(path: Path) -> None:
    """Those that are idle, however many there are."""
    readers = Readers(str(path), limit=5, pragmas={})
    async with trio.open_nursery() as nursery:
        reads = [Read(readers) for _ in range(5)]
        for read in reads:
            await read.begin(nursery)
        assert 5 == open_descriptors(path)
        for read in reads:
            await read.end()
    assert 5 == open_descriptors(path)
    await readers.aclose()
    assert 0 == open_descriptors(path)
