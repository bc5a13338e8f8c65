"""The maintenance of a store's file: backups while programs write, VACUUM, checkpoints."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import FrozenInstanceError
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from forebay import (
    BufferOptions,
    SqliteStore,
    StoreError,
    Table,
    open_buffers,
    open_sqlite,
)
from forebay.sqlite import Connection
from forebay.stores.sqlite import CheckpointMode, CheckpointResult
from tests.stores.sqlite.another_connection import query
from tests.thread_gate import ThreadGate

# Long enough for a slow machine; no test waits for it unless something is broken.
PATIENCE = 60.0


class Event(NamedTuple):
    source: int
    number: int
    text: str


EVENTS = Table(Event, name="events")

COUNTED = (
    "CREATE TABLE total (n INTEGER NOT NULL)",
    "INSERT INTO total VALUES (0)",
    "CREATE TRIGGER counts AFTER INSERT ON events BEGIN UPDATE total SET n = n + 1; END",
)


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """A store with a table of 20 MB, which a backup copies in several steps."""
    async with open_sqlite(path, create=[EVENTS], busy_timeout=0.001) as store:
        await store.run(fill, 20_000)
        yield store


def fill(raw: sqlite3.Connection, count: int) -> None:
    raw.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO events SELECT -1, i, hex(zeroblob(500)) FROM n",
        [count],
    )


def count_of(path: Path) -> int:
    assert [("ok",)] == query(path, "PRAGMA integrity_check")
    [(count,)] = query(path, "SELECT count(*) FROM events")
    return int(count)


@contextmanager
def gated(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadGate]:
    """Stop a backup or a VACUUM between two of its steps, where it looks for a cancellation."""
    check = trio.from_thread.check_cancelled

    def wait_and_check() -> None:
        gate.wait()
        check()

    with monkeypatch.context() as patch, ThreadGate() as gate:
        patch.setattr(trio.from_thread, "check_cancelled", wait_and_check)
        yield gate


# Backups


async def test_a_backup_under_full_load_is_one_moment_of_the_database(
    path: Path, tmp_path: Path
) -> None:
    """The tables of the copy agree, and it has what was committed before, and nothing twice."""
    options = BufferOptions(capacity=2_000, batch_size=500, flush_interval=0)
    produced = 0

    async def produce(source: int) -> None:
        nonlocal produced
        for number in range(10**6):
            await buffer.enqueue(Event(source, number, "x" * 200))
            produced += 1

    async with (
        open_sqlite(path, create=[EVENTS], synchronous="OFF") as store,
        open_buffers(store, EVENTS, options=options) as buffers,
    ):
        buffer = buffers[EVENTS]
        await store.run(fill, 10_000)
        for statement in COUNTED:
            await store.run(lambda raw, sql: raw.execute(sql).close(), statement)
        async with trio.open_nursery() as nursery:
            for source in range(300):
                nursery.start_soon(produce, source)
            while buffer.statistics().committed < 1_000:
                await trio.lowlevel.checkpoint()
            for name in ("one.db", "two.db"):
                before = buffer.statistics().committed
                with trio.fail_after(PATIENCE):
                    await store.backup(tmp_path / name)
                after = produced
                copied = count_of(tmp_path / name) - 10_000
                assert before <= copied <= after
                assert [(copied,)] == query(tmp_path / name, "SELECT n FROM total")
                gaps = (
                    "SELECT source FROM events WHERE source >= 0 GROUP BY source "
                    "HAVING count(*) <> max(number) + 1 OR count(DISTINCT number) <> count(*)"
                )
                assert [] == query(tmp_path / name, gaps)
            nursery.cancel_scope.cancel()


async def test_a_backup_stops_no_flush(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are committed while it copies, and reads go on. The copy is as before these rows."""
    with trio.fail_after(PATIENCE), gated(monkeypatch) as gate:
        async with trio.open_nursery() as nursery, open_buffers(store, EVENTS) as buffers:
            nursery.start_soon(store.backup, tmp_path / "copy.db")
            await gate.entered.wait()
            await buffers[EVENTS].write(Event(1, 1, ""))
            await store.run(lambda raw: raw.execute("DELETE FROM events WHERE number > 5").close())
            await store.checkpoint("PASSIVE")
            assert (6,) == await store.fetch_one("SELECT count(*) FROM events")
            gate.release()
    assert 20_000 == count_of(tmp_path / "copy.db")


@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_cancelled_backup_leaves_what_was_there(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    """The part is removed; meanwhile only its owner could read it."""
    copy = tmp_path / "copy.db"
    if overwrite:
        copy.write_text("old")
    before = sorted(tmp_path.iterdir())
    with gated(monkeypatch) as gate:
        async with trio.open_nursery() as nursery:

            async def back_up() -> None:
                await store.backup(copy, overwrite=overwrite)

            nursery.start_soon(back_up)
            await gate.entered.wait()
            [part] = set(tmp_path.iterdir()) - set(before)
            assert part.name.startswith("copy.db.")
            assert part.suffix == ".part"
            assert 0o600 == part.stat().st_mode & 0o777
            nursery.cancel_scope.cancel()
            gate.release()
    assert before == sorted(tmp_path.iterdir())
    assert not overwrite or "old" == copy.read_text()
    await store.backup(copy, overwrite=overwrite)
    assert 20_000 == count_of(copy)


@pytest.mark.parametrize("steps", range(12))
async def test_a_backup_that_is_cancelled_at_any_checkpoint(
    store: SqliteStore, tmp_path: Path, steps: int
) -> None:
    """There is the whole copy, or no file."""

    async def cancel_after(scope: trio.CancelScope) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    for number in range(5):
        copy = tmp_path / f"{number}.db"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_after, nursery.cancel_scope)
            nursery.start_soon(store.backup, copy)
        assert [] == list(tmp_path.glob("*.part"))
        if copy.exists():
            assert 20_000 == count_of(copy)


async def test_a_backup_is_its_owners_only(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the umask is. A relative path is one in the folder of the call."""
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0)
    try:
        with gated(monkeypatch) as gate:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.backup, "a copy?#%.db")
                await gate.entered.wait()
                (tmp_path / "elsewhere").mkdir()
                monkeypatch.chdir(tmp_path / "elsewhere")
                gate.release()
    finally:
        os.umask(umask)
    copy = tmp_path / "a copy?#%.db"
    assert 0o600 == copy.stat().st_mode & 0o777
    assert 1 == copy.stat().st_nlink
    assert 20_000 == count_of(copy)


async def test_an_existing_file_is_replaced_on_request_only(
    store: SqliteStore, tmp_path: Path
) -> None:
    """The new file replaces the old one; a program that reads the old one can go on."""
    copy = tmp_path / "copy.db"
    await store.backup(copy)
    await store.run(lambda raw: raw.execute("DELETE FROM events WHERE number > 5").close())
    with pytest.raises(FileExistsError, match=r"exists already.*copy\.db'"):
        await store.backup(copy)
    assert 20_000 == count_of(copy)
    with closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as raw:
        await store.backup(copy, overwrite=True)
        assert [(20_000,)] == raw.execute("SELECT count(*) FROM events").fetchall()
    assert 5 == count_of(copy)


async def test_a_name_that_is_taken_meanwhile_is_not_replaced(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the name of an existing file."""
    copy = tmp_path / "copy.db"

    async def fail() -> None:
        with pytest.raises(FileExistsError) as caught:
            await store.backup(copy)
        assert str(copy) == caught.value.filename

    with gated(monkeypatch) as gate:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await gate.entered.wait()
            copy.write_text("another program's")
            gate.release()
    assert "another program's" == copy.read_text()
    assert {"a.db", "a.db-shm", "a.db-wal", "copy.db"} == {f.name for f in tmp_path.iterdir()}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda copy: copy.symlink_to("other"), FileExistsError),
        (lambda copy: copy.mkdir(), FileExistsError),
        (os.mkfifo, FileExistsError),
        (lambda copy: Path(f"{copy}-wal").touch(), FileExistsError),
        (lambda copy: Path(f"{copy}-journal").touch(), FileExistsError),
    ],
    ids=["link", "folder", "pipe", "wal", "journal"],
)
async def test_what_a_backup_never_replaces(
    store: SqliteStore,
    tmp_path: Path,
    make: Callable[[Path], object],
    error: type[OSError],
    overwrite: bool,
) -> None:
    """SQLite would apply the log of another database to the copy."""
    make(tmp_path / "copy.db")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error):
        await store.backup(tmp_path / "copy.db", overwrite=overwrite)
    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["a.db", "a.db-wal", "a.db-shm", "a.db-journal"])
async def test_a_backup_does_not_replace_its_database(
    store: SqliteStore, tmp_path: Path, name: str, overwrite: bool
) -> None:
    """Nor a file beside it, also through a link to the folder."""
    (tmp_path / "link").symlink_to(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="is the database or a file of it"):
        await store.backup(tmp_path / "link" / name, overwrite=overwrite)
    assert before == sorted(tmp_path.iterdir())
    assert (20_000,) == await store.fetch_one("SELECT count(*) FROM events")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", IsADirectoryError),
        (".", IsADirectoryError),
        ("missing/", IsADirectoryError),
        ("missing/copy.db", FileNotFoundError),
        ("a.db/copy.db", NotADirectoryError),
        ("x" * 250, OSError),
    ],
)
async def test_a_path_that_no_file_can_have(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: Any
) -> None:
    """The error of the system, before anything is copied."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error) as caught:
        await store.backup(name)
    assert isinstance(caught.value, OSError)
    assert before == sorted(tmp_path.iterdir())


async def test_a_backup_of_a_replaced_database_is_none(
    store: SqliteStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it begins, or while it copies: the copy might be of another database."""

    async def fail() -> None:
        with pytest.raises(StoreError, match="was replaced") as caught:
            await store.backup(tmp_path / "copy.db")
        assert str(path) in str(caught.value)

    with gated(monkeypatch) as gate:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await gate.entered.wait()
            (tmp_path / "new.db").touch()
            (tmp_path / "new.db").rename(path)
            gate.release()
    await fail()
    assert not list(tmp_path.glob("copy.db*"))


async def test_a_backup_waits_for_a_lock(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while another program recovers the database after a crash."""
    errors = [sqlite3.OperationalError("on purpose") for _ in range(3)]
    for error in errors:
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
        error.sqlite_errorname = "SQLITE_BUSY_RECOVERY"
    open_connection = Connection.open

    async def fail(*args: Any, **options: Any) -> Connection:
        if errors:
            raise errors.pop()
        return await open_connection(*args, **options)

    monkeypatch.setattr(Connection, "open", fail)
    await store.backup(tmp_path / "copy.db")
    assert 20_000 == count_of(tmp_path / "copy.db")
    assert not list(tmp_path.glob("*.part"))


async def test_a_file_that_is_no_database_is_not_copied(store: SqliteStore, path: Path) -> None:
    """The error names both files."""
    await store.checkpoint()
    with path.open("r+b") as file:
        file.write(b"no database")
    with pytest.raises(StoreError, match=r"a\.db' could not be copied to .*copy\.db'.*SQLITE_"):
        await store.backup(path.with_name("copy.db"))
    assert not list(path.parent.glob("copy.db*"))


async def test_a_closed_store_and_another_thread(path: Path, tmp_path: Path) -> None:
    """They are refused, as other calls are."""
    async with open_sqlite(path) as store:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.backup(tmp_path / "copy.db"),
            store.vacuum,
            store.checkpoint,
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="belongs to the thread"):
                await trio.to_thread.run_sync(partial(trio.run, call))
    for call in calls:
        with pytest.raises(trio.ClosedResourceError):
            await call()
    assert [path] == list(tmp_path.iterdir())


# VACUUM


async def test_vacuum_and_checkpoint_shrink_the_file(store: SqliteStore, path: Path) -> None:
    """The rows that are left stay, and the buffers go on."""
    await store.checkpoint()
    size = path.stat().st_size
    async with open_buffers(store, EVENTS) as buffers:
        await store.run(lambda raw: raw.execute("DELETE FROM events WHERE number > 5").close())
        await store.vacuum()
        assert 0 < (store.wal_size() or 0)
        assert CheckpointResult(False, 0, 0) == await store.checkpoint()
        assert 0 == store.wal_size()
        assert path.stat().st_size < size / 100
        await buffers[EVENTS].write(Event(1, 1, ""))
    assert 6 == count_of(path)


async def test_vacuum_waits_for_another_programs_lock(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again until the lock is gone."""
    run = Connection.run
    attempts = 0
    ended = trio.Event()

    async def counting_run(connection: Connection, *arguments: Any) -> Any:
        nonlocal attempts
        try:
            return await run(connection, *arguments)
        finally:
            attempts += 1
            if attempts == 3:
                ended.set()

    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("DELETE FROM events WHERE number > 5")
        monkeypatch.setattr(Connection, "run", counting_run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.vacuum)
            await ended.wait()
            raw.execute("COMMIT")
    assert (0,) == await store.fetch_one("PRAGMA freelist_count")


async def test_a_cancelled_vacuum_is_interrupted(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database stays as it is, and the next transaction runs."""
    await store.run(lambda raw: raw.execute("DELETE FROM events WHERE number > 10000").close())
    free = await store.fetch_one("PRAGMA freelist_count")
    with gated(monkeypatch) as gate:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.vacuum)
            await gate.entered.wait()
            nursery.cancel_scope.cancel()
            gate.release()
    assert free == await store.fetch_one("PRAGMA freelist_count")
    assert free != (0,)
    await store.run(lambda raw: raw.execute("DELETE FROM events WHERE number > 5").close())
    await store.vacuum()
    assert (0,) == await store.fetch_one("PRAGMA freelist_count")
    assert 5 == count_of(path)


async def test_auto_vacuum_is_set_at_the_opening_or_by_a_vacuum(tmp_path: Path) -> None:
    """A file that exists has to be rebuilt, and can then be opened with the setting."""
    incremental = {"auto_vacuum": "incremental"}
    async with open_sqlite(tmp_path / "new.db", create=[EVENTS], pragmas=incremental) as store:
        assert (2,) == await store.fetch_one("PRAGMA auto_vacuum")
    async with open_sqlite(tmp_path / "old.db", create=[EVENTS]) as store:
        assert (0,) == await store.fetch_one("PRAGMA auto_vacuum")
        await store.run(lambda raw: raw.execute("PRAGMA auto_vacuum = incremental").close())
        await store.vacuum()
    async with open_sqlite(tmp_path / "old.db", pragmas=incremental) as store:
        assert (2,) == await store.fetch_one("PRAGMA auto_vacuum")


# Checkpoints


def commit_rows(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("INSERT INTO events VALUES (1, 1, '')")


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
async def test_a_checkpoint_copies_what_readers_allow(
    store: SqliteStore, path: Path, mode: CheckpointMode
) -> None:
    """A reader keeps the later pages in the log; without it, all are copied."""
    await store.checkpoint()
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchall()
        commit_rows(path)
        result = await store.checkpoint(mode)
        assert result.wal_pages is not None
        assert result.copied_pages is not None
        assert 0 == result.copied_pages < result.wal_pages
        assert (mode != "PASSIVE") == result.busy
        reader.execute("COMMIT")
        done = await store.checkpoint(mode)
    expected = 0 if mode == "TRUNCATE" else result.wal_pages
    assert CheckpointResult(False, expected, expected) == done
    with pytest.raises(FrozenInstanceError):
        done.busy = True  # type: ignore[misc]


async def test_a_checkpoint_beside_that_of_another_program(store: SqliteStore, path: Path) -> None:
    """Only one can run, so nothing is known of the log."""
    await store.checkpoint()
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchall()
        commit_rows(path)

        def restart() -> None:
            with closing(sqlite3.connect(path, timeout=PATIENCE)) as raw:
                # It waits for the reader, but not for a checkpoint of the store: it tries again.
                while raw.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0]:
                    pass

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, restart)
                try:
                    while (await store.checkpoint("PASSIVE")) != CheckpointResult(True, None, None):
                        await trio.lowlevel.checkpoint()
                finally:
                    reader.execute("COMMIT")


async def test_a_checkpoint_of_an_unknown_mode(store: SqliteStore) -> None:
    """The error has the modes that there are."""
    with pytest.raises(ValueError, match="mode='truncate': expected one of "):
        await store.checkpoint("truncate")  # type: ignore[arg-type]


async def test_a_lost_database_is_not_maintained(store: SqliteStore, path: Path) -> None:
    """What was written to it would be lost."""
    path.unlink()
    for call in (store.vacuum, store.checkpoint, lambda: store.backup(path.with_name("copy.db"))):
        with pytest.raises(StoreError, match="was deleted or renamed"):
            await call()
