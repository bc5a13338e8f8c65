"""The SQLite store on real files: transactions, reads, locks, opening and closing."""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from forebay import (
    BufferOptions,
    FlushError,
    FlushReason,
    SchemaError,
    StoreError,
    Sum,
    Table,
    Write,
    open_buffers,
    open_sqlite,
)
from forebay._batching.coalesce import Coalescer
from forebay.sqlite import CommitError, Connection
from forebay.stores import Attempt, Batch, BatchError, FailureKind, Store
from tests.stores.sqlite.another_connection import query
from tests.thread_gate import ThreadGate

# Long enough for a slow machine; no test waits for it unless something is broken.
PATIENCE = 20.0


class Hit(NamedTuple):
    url: str
    count: int  # type: ignore[assignment]  # a column may have the name of a method of tuples


class Event(NamedTuple):
    kind: str
    number: int


HITS = Table(Hit, name="hits", key="url", merge={"count": Sum})
EVENTS = Table(Event, name="events")
OTHERS = Table(Event, name="others", key=("kind", "number"))


class Remark(NamedTuple):
    kind: str
    number: int
    note: str = ""


REMARKS = Table(Remark, name="remarks", key="kind")


def rows(path: Path, sql: str = "SELECT * FROM events ORDER BY rowid") -> list[Any]:
    """Return what another connection reads from the file."""
    return query(path, sql)


class Gate(ThreadGate):
    """A function for `store.run` that stays in its transaction until it is released."""

    def __call__(self, raw: sqlite3.Connection) -> None:
        self.wait()
        raw.execute("INSERT INTO events VALUES ('gate', 0)")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock, as another program would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        yield
        raw.execute("ROLLBACK")


def insert(raw: sqlite3.Connection, *numbers: int) -> int:
    for number in numbers:
        raw.execute("INSERT INTO events VALUES ('run', ?)", (number,))
    return sum(numbers)


# Buffers and files


async def test_two_stores_have_two_files(tmp_path: Path) -> None:
    """A program may have buffers for the same table in several files."""
    async with (
        open_sqlite(tmp_path / "one.db", create=[EVENTS]) as one,
        open_sqlite(tmp_path / "two.db", create=[EVENTS]) as two,
        open_buffers(one, EVENTS) as first,
        open_buffers(two, EVENTS) as second,
    ):
        await first[EVENTS].enqueue(Event("one", 1))
        await second[EVENTS].enqueue(Event("two", 2))
    assert [("one", 1)] == rows(tmp_path / "one.db")
    assert [("two", 2)] == rows(tmp_path / "two.db")


async def test_three_buffers_share_a_file(path: Path) -> None:
    """Buffers of one store take turns, and every row is written to its table."""
    options = BufferOptions(capacity=50, batch_size=20, flush_interval=0)
    async with (
        open_sqlite(path, create=[HITS, EVENTS, OTHERS], synchronous="OFF") as store,
        open_buffers(store, HITS, EVENTS, OTHERS, options=options) as buffers,
        trio.open_nursery() as nursery,
    ):
        for start in range(0, 300, 100):
            numbers = range(start, start + 100)
            nursery.start_soon(buffers[HITS].enqueue_many, [Hit(f"{n % 7}", 1) for n in numbers])
            nursery.start_soon(buffers[EVENTS].enqueue_many, [Event("a", n) for n in numbers])
            nursery.start_soon(buffers[OTHERS].enqueue_many, [Event("b", n) for n in numbers])
    assert [("0", 43), ("6", 42)] == rows(path, "SELECT * FROM hits WHERE url IN ('0', '6')")
    assert [(300,)] == rows(path, "SELECT sum(count) FROM hits")
    for table in ("events", "others"):
        assert [(300, 44850)] == rows(path, f"SELECT count(*), sum(number) FROM {table}")  # noqa: S608  # ours


async def test_a_row_is_committed_when_write_returns(path: Path) -> None:
    """Another connection can read the row at once."""
    async with (
        open_sqlite(path, create=[EVENTS]) as store,
        open_buffers(store, EVENTS) as buffers,
    ):
        for number in range(5):
            await buffers[EVENTS].write(Event("a", number))
            assert number + 1 == len(rows(path))


async def test_a_dropped_table_stops_only_its_buffer(path: Path) -> None:
    """The error has the entries and SQLite's error; the other buffer commits."""
    with pytest.raises(FlushError, match=r"no such table: main\.events") as caught:
        async with (
            open_sqlite(path, create=[EVENTS, HITS]) as store,
            open_buffers(store, EVENTS, HITS) as buffers,
        ):
            await store.run(lambda raw: raw.execute("DROP TABLE events").close())
            await buffers[HITS].enqueue(Hit("a", 1))
            await buffers[EVENTS].enqueue(Event("a", 1))
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert (Write(("a", 1)),) == caught.value.unsettled.entries
    assert [("a", 1)] == rows(path, "SELECT * FROM hits")


# Transactions


async def test_a_transaction_of_the_program_takes_its_turn(path: Path) -> None:
    """`run` and the buffers wait for each other, so that neither finds the file locked."""
    async with (
        open_sqlite(path, create=[EVENTS]) as store,
        open_buffers(store, EVENTS) as buffers,
        trio.open_nursery() as nursery,
    ):
        with Gate() as gate:
            nursery.start_soon(store.run, gate)
            await gate.entered.wait()
            nursery.start_soon(buffers[EVENTS].write, Event("buffer", 1))
            await wait_all_tasks_blocked()
            nursery.start_soon(store.run, insert, 2)
            await wait_all_tasks_blocked()
            assert [] == rows(path)
    assert [("gate", 0), ("buffer", 1), ("run", 2)] == rows(path)
    assert 0 == buffers[EVENTS].statistics().retries


async def test_run_returns_the_result_of_the_function(path: Path) -> None:
    """The function gets its arguments, and its result is returned after COMMIT."""
    async with open_sqlite(path, create=[EVENTS]) as store:
        assert 6 == await store.run(insert, 1, 2, 3)
        assert [("run", 1), ("run", 2), ("run", 3)] == rows(path)


async def test_a_transaction_that_raises_is_rolled_back(path: Path) -> None:
    """The caller gets the same exception object, and nothing was written."""
    error = KeyError("of the program")

    def fail(raw: sqlite3.Connection) -> None:
        insert(raw, 1)
        raise error

    async with (
        open_sqlite(path, create=[EVENTS]) as store,
        open_buffers(store, EVENTS) as buffers,
    ):
        with pytest.raises(KeyError) as caught:
            await store.run(fail)
        await buffers[EVENTS].write(Event("after", 2))
    assert caught.value is error
    assert [("after", 2)] == rows(path)


async def test_a_reader_does_not_wait_for_the_writer(path: Path) -> None:
    """While a transaction runs, reads see the rows that were committed before it."""
    async with open_sqlite(path, create=[EVENTS]) as store, trio.open_nursery() as nursery:
        await store.run(insert, 1)
        with Gate() as gate:
            nursery.start_soon(store.run, gate)
            await gate.entered.wait()
            with trio.fail_after(PATIENCE):
                assert [("run", 1)] == await store.fetch_all("SELECT * FROM events")
                assert ("run", 1) == await store.fetch_one(
                    "SELECT * FROM events WHERE number = :number", {"number": 1}
                )
                assert None is await store.fetch_one("SELECT 1 WHERE 0")


async def test_as_many_reads_run_at_once_as_there_are_readers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A further read waits until a reader is free, and can be cancelled while it waits."""
    fetch_one = Connection.fetch_one
    used: list[Connection] = []
    both_used, released = trio.Event(), trio.Event()

    async def gated_fetch_one(connection: Connection, *arguments: Any) -> Any:
        used.append(connection)
        if len(used) == 2:
            both_used.set()
        await released.wait()
        return await fetch_one(connection, *arguments)

    monkeypatch.setattr(Connection, "fetch_one", gated_fetch_one)
    async with open_sqlite(path, readers=2) as store, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(store.fetch_one, "SELECT 1")
        await both_used.wait()
        async with trio.open_nursery() as waiting:
            waiting.start_soon(store.fetch_one, "SELECT 1")
            await wait_all_tasks_blocked()
            waiting.cancel_scope.cancel()
        assert 2 == len(used)
        released.set()
        assert (1,) == await store.fetch_one("SELECT 1")
    assert (3, 2) == (len(used), len(set(used)))


async def test_a_reader_cannot_write(path: Path) -> None:
    """SQLite refuses a write on a read connection."""
    async with open_sqlite(path, create=[EVENTS]) as store:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await store.fetch_all("INSERT INTO events VALUES ('a', 1)")


async def test_an_error_without_a_code_leaves_as_it_is(path: Path) -> None:
    """An error of Python, such as a text that is not UTF-8, is not taken for a lock."""
    async with open_sqlite(path) as store:
        with pytest.raises(sqlite3.OperationalError, match="Could not decode to UTF-8"):
            await store.fetch_all("SELECT CAST(x'ff' AS TEXT)")


# Locks of other programs


class Attempts:
    """Counts the calls of `Connection.run` that have ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run = Connection.run
        send, self._receive = trio.open_memory_channel[None](math.inf)

        async def counting_run(connection: Connection, *arguments: Any) -> Any:
            try:
                return await run(connection, *arguments)
            finally:
                send.send_nowait(None)

        monkeypatch.setattr(Connection, "run", counting_run)

    async def wait_for(self, count: int) -> None:
        for _ in range(count):
            await self._receive.receive()


async def test_a_transaction_waits_for_another_programs_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run` calls its function once, when the lock is released."""
    calls = []

    def call(raw: sqlite3.Connection) -> None:
        calls.append(insert(raw, 1))

    async with (
        open_sqlite(path, create=[EVENTS], busy_timeout=0.001) as store,
        trio.open_nursery() as nursery,
    ):
        attempts = Attempts(monkeypatch)
        with locked(path):
            nursery.start_soon(store.run, call)
            await attempts.wait_for(3)
            assert [] == calls
    assert [1] == calls
    assert [("run", 1)] == rows(path)


async def test_a_wait_for_another_programs_lock_can_be_cancelled(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function is not called, and the next transaction runs."""
    calls = []

    def call(_raw: sqlite3.Connection) -> None:
        calls.append(1)

    async with open_sqlite(path, create=[EVENTS], busy_timeout=0.001) as store:
        attempts = Attempts(monkeypatch)
        with locked(path):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.run, call)
                await attempts.wait_for(3)
                nursery.cancel_scope.cancel()
        assert [] == calls
        assert 3 == await store.run(insert, 3)


async def test_a_transaction_that_has_begun_is_not_repeated(path: Path) -> None:
    """The function is called only once, even if it meets another lock: it may have effects."""
    other = path.with_name("other.db")
    calls = []

    def call(_raw: sqlite3.Connection) -> None:
        calls.append(1)
        with closing(sqlite3.connect(other, timeout=0, isolation_level=None)) as raw:
            raw.execute("BEGIN IMMEDIATE")

    async with open_sqlite(path) as store:
        with locked(other), pytest.raises(sqlite3.OperationalError) as caught:
            await store.run(call)
    assert "SQLITE_BUSY" == caught.value.sqlite_errorname
    assert [1] == calls


async def test_a_lock_that_is_not_released_ends_the_opening(path: Path) -> None:
    """After `lock_timeout` the error names the timeout."""
    async with open_sqlite(path, create=[EVENTS]):
        pass
    with locked(path), pytest.raises(StoreError, match=r"stayed locked .* for 0\.1 s"):
        async with open_sqlite(path, lock_timeout=0.1, busy_timeout=0.001):
            pass


async def test_a_doubt_lasts_while_the_file_is_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock alone causes no doubt, but after a COMMIT in doubt it keeps the doubt unresolved."""

    def failing_commit(*_arguments: object) -> None:
        cause = sqlite3.OperationalError("disk I/O error")
        cause.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise CommitError(cause)

    coalescer = Coalescer(EVENTS, stream="s")
    coalescer.add([("a", 1)], only_rows=True)
    async with open_sqlite(path, create=[EVENTS]) as store:
        await store.prepare([EVENTS])
        attempt = store.begin(coalescer.take(FlushReason.FULL))
        with locked(path), pytest.raises(BatchError) as before:
            await attempt.commit(rejection_limit=0)
        with monkeypatch.context() as patch, pytest.raises(BatchError) as doubtful:
            patch.setattr("forebay.stores.sqlite._commit.transact", failing_commit)
            await attempt.commit(rejection_limit=0)
        with locked(path), pytest.raises(BatchError) as after:
            await attempt.commit(rejection_limit=0)
        await attempt.commit(rejection_limit=0)
    failures = [(each.value.kind, each.value.in_doubt) for each in (before, doubtful, after)]
    assert [
        (FailureKind.TRANSIENT, False),
        (FailureKind.IN_DOUBT, True),
        (FailureKind.TRANSIENT, True),
    ] == failures
    assert [("a", 1)] == rows(path)


class WeakBatch(Batch):
    """A batch to which weak references are possible."""


class WatchingStore(Store):
    """A store that passes a copy of each batch to another store, and keeps a weak reference."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.batches: list[weakref.ref[Batch]] = []

    async def prepare(self, tables: Sequence[Table[Any]]) -> None:
        await self.store.prepare(tables)

    def begin(self, batch: Batch) -> Attempt:
        fields = {each.name: getattr(batch, each.name) for each in dataclasses.fields(batch)}
        copy = WeakBatch(**fields)
        self.batches.append(weakref.ref(copy))
        return self.store.begin(copy)


async def test_nothing_of_a_failed_batch_is_kept(path: Path) -> None:
    """Buffers that fail on one store, one after another, leave no batch in memory."""

    async def fail(store: Store) -> None:
        with pytest.raises(FlushError):
            async with open_buffers(store, EVENTS) as buffers:
                await sqlite.run(lambda raw: raw.execute("DROP TABLE events"))
                await buffers[EVENTS].enqueue_many(Event("a", i) for i in range(1_000))

    async with open_sqlite(path) as sqlite:
        watching = WatchingStore(sqlite)
        for _ in range(5):
            await sqlite.run(lambda raw: raw.execute("CREATE TABLE events (kind, number)"))
            await fail(watching)
        # The writer's thread forgets its last call when the next one comes.
        await sqlite.run(lambda raw: raw.execute("CREATE TABLE events (kind, number)"))
        async with open_buffers(sqlite, EVENTS) as buffers:
            await buffers[EVENTS].write(Event("a", 1))
        gc.collect()
        assert [None] * 5 == [batch() for batch in watching.batches]


# Opening and closing


async def test_tables_are_created_once(path: Path) -> None:
    """`create` creates missing tables and does not change existing ones."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE events (kind TEXT, number INTEGER, note TEXT DEFAULT 'mine')")
    for _ in range(2):
        async with (
            open_sqlite(path, create=[EVENTS, HITS, OTHERS]) as store,
            open_buffers(store, EVENTS, HITS, OTHERS) as buffers,
        ):
            await buffers[EVENTS].enqueue(Event("a", 1))
            await buffers[HITS].enqueue(Hit("a", 1))
    assert [("a", 1, "mine")] * 2 == rows(path)
    assert [("a", 2)] == rows(path, "SELECT * FROM hits")


async def test_a_missing_table_is_an_error(path: Path) -> None:
    """Buffers do not start if a table is missing; the SQL of the error creates it."""
    async with open_sqlite(path) as store:
        with pytest.raises(SchemaError, match="there is no table 'events'") as caught:
            async with open_buffers(store, EVENTS):
                raise AssertionError
        sql = caught.value.sql
        assert sql is not None
        await store.run(lambda raw: raw.execute(sql).close())
        async with open_buffers(store, EVENTS) as buffers:
            await buffers[EVENTS].enqueue(Event("a", 1))
    assert [("a", 1)] == rows(path)


async def test_a_file_that_is_not_a_database_is_refused(path: Path) -> None:
    """The file is not changed."""
    text = b"key,size\n" * 1_000
    path.write_bytes(text)
    with pytest.raises(StoreError, match="file is not a database"):
        async with open_sqlite(path):
            pass
    assert text == path.read_bytes()


async def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    """The error has the path."""
    with pytest.raises(FileNotFoundError, match="missing"):
        async with open_sqlite(tmp_path / "missing" / "a.db"):
            pass
    with pytest.raises(IsADirectoryError):
        async with open_sqlite(tmp_path):
            pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": ":memory:"}, "path=':memory:': the store needs a file"),
        ({"path": ""}, "path='': the store needs a file"),
        ({"synchronous": "normal"}, "synchronous='normal': expected one of"),
        ({"readers": 0}, "readers=0: expected a whole number, 1 or more"),
        ({"busy_timeout": -1}, "busy_timeout=-1: expected seconds"),
        ({"pragmas": {"cash_size": 1}}, "pragmas: 'cash_size' is unknown"),
    ],
)
async def test_an_invalid_argument_is_refused(
    path: Path, arguments: dict[str, Any], message: str
) -> None:
    """The error has the name and the value of the argument; no file is created."""
    with pytest.raises(ValueError, match=message):
        async with open_sqlite(**{"path": path, **arguments}):
            pass
    assert not path.exists()


async def test_settings_apply_to_every_connection(path: Path) -> None:
    """`synchronous` is set for the writer, `pragmas` for all; the file is in WAL mode."""

    def setting(name: str) -> Callable[[sqlite3.Connection], Any]:
        return lambda raw: raw.execute(f"PRAGMA {name}").fetchone()[0]

    async with open_sqlite(path, synchronous="EXTRA", pragmas={"cache_size": -777}) as store:
        assert 3 == await store.run(setting("synchronous"))
        assert "wal" == await store.run(setting("journal_mode"))
        assert -777 == await store.run(setting("cache_size"))
        assert (-777,) == await store.fetch_one("PRAGMA cache_size")


async def test_a_relative_path_is_resolved_when_the_store_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that changes its current folder still reads the same file."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    async with open_sqlite("a.db", create=[EVENTS]) as store:
        os.chdir(tmp_path / "elsewhere")
        await store.run(insert, 1)
        assert [("run", 1)] == await store.fetch_all("SELECT * FROM events")
    assert [("run", 1)] == rows(tmp_path / "a.db")


@pytest.mark.parametrize("read_before", [False, True])
async def test_a_closed_store_refuses_calls(path: Path, read_before: bool) -> None:
    """After the block, reads and writes raise `trio.ClosedResourceError`."""
    async with open_sqlite(path, create=[EVENTS]) as store:
        if read_before:
            await store.fetch_all("SELECT 1")
        assert f"<forebay.SqliteStore {str(path)!r}: open>" == repr(store)
    assert f"<forebay.SqliteStore {str(path)!r}: closed>" == repr(store)
    with pytest.raises(trio.ClosedResourceError):
        await store.fetch_all("SELECT 1")
    with pytest.raises(trio.ClosedResourceError):
        await store.fetch_one("SELECT 1")
    with pytest.raises(trio.ClosedResourceError):
        await store.run(insert, 1)


async def test_closing_waits_for_running_calls(path: Path) -> None:
    """A transaction and a read that have begun return their results."""
    read: list[Any] = []
    slow = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000) "
        "SELECT max(i) FROM n"
    )

    async def fetch() -> None:
        read.append(await store.fetch_one(slow))

    async with trio.open_nursery() as nursery:
        with Gate() as gate:
            async with open_sqlite(path, create=[EVENTS]) as store:
                await store.fetch_one("SELECT 1")
                nursery.start_soon(store.run, gate)
                nursery.start_soon(fetch)
                await gate.entered.wait()
                await wait_all_tasks_blocked()
                gate.release()
    assert [("gate", 0)] == rows(path)
    assert [(200000,)] == read


async def test_operations_of_one_kind_are_counted_together(path: Path) -> None:
    """Updates of different columns are separate steps of a batch, and all are counted."""
    async with (
        open_sqlite(path, create=[REMARKS]) as store,
        open_buffers(store, REMARKS) as buffers,
    ):
        buffer = buffers[REMARKS]
        await buffer.enqueue_update("a", number=1)
        await buffer.enqueue_update("b", note="x")
        await buffer.enqueue_update("c", number=1, note="x")
        await buffer.flush()
        counts = buffer.statistics()
    assert (3, 3, 0) == (counts.accepted, counts.committed, counts.superseded)


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'other.db'",
        "BEGIN",
        "SAVEPOINT a",
        "DETACH main",
        "CREATE TABLE a (b)",
        "DELETE FROM hits",
    ],
)
async def test_a_query_only_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    """A query cannot create another file or leave a transaction open."""
    monkeypatch.chdir(tmp_path)
    async with open_sqlite("a.db", create=[HITS], readers=1) as store:
        for fetch in (store.fetch_all, store.fetch_one):
            with pytest.raises(sqlite3.DatabaseError):
                await fetch(sql)
        assert [] == await store.fetch_all("SELECT * FROM hits")
        async with open_buffers(store, HITS) as buffers:
            await buffers[HITS].write(Hit("a", 1))
        assert [(1,)] == await store.fetch_all("SELECT count(*) FROM hits")
        assert ["url", "count"] == [
            row[1] for row in await store.fetch_all("PRAGMA table_info(hits)")
        ]
    assert not Path("other.db").exists()


async def test_a_new_file_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    """The default is 0600; an existing file keeps its mode."""
    shared, private = tmp_path / "shared.db", tmp_path / "private.db"
    async with open_sqlite(shared, mode=0o660), open_sqlite(private):
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    async with open_sqlite(shared):
        assert 0o660 == shared.stat().st_mode & 0o777
    assert modes == {
        **dict.fromkeys(["shared.db", "shared.db-wal", "shared.db-shm"], 0o660),
        **dict.fromkeys(["private.db", "private.db-wal", "private.db-shm"], 0o600),
    }
