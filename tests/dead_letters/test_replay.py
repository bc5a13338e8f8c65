"""Replays: each entry is committed, or stays a dead letter, exactly once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

import forebay
from forebay import (
    BufferOptions,
    Delete,
    FlushError,
    RetryPolicy,
    Table,
    Update,
    Write,
    dead_letters,
    open_sqlite,
    sqlite,
)
from forebay._spill.writing import write_spill
from forebay._table.operations import Operation
from forebay.dead_letters import _windows
from forebay.stores.sqlite import _dead_letter_table as letter_table
from tests.dead_letters.site import DDL, Visit, enqueue_refused, execute, ids, opened, rows


async def test_a_replay_commits_the_entries_and_removes_the_letters(
    path: Path, store: forebay.SqliteStore
) -> None:
    """Once the cause of the refusal is fixed."""
    execute(path, "INSERT INTO pages VALUES ('/', 1), ('/a', 1)")
    assert dead_letters.ReplayResult((1, 2)) == await dead_letters.replay(store, ids=[1, 2])
    assert [("/", 1), ("/a", 2)] == rows(path, "SELECT * FROM visits")
    assert [3, 4] == await ids(store)


async def test_a_letter_that_is_refused_again_keeps_its_history(
    path: Path, store: forebay.SqliteStore
) -> None:
    """It keeps its id, adds up the attempts, and lists each failure; no second letter is left."""
    execute(path, "INSERT INTO pages VALUES ('/', 99)")
    execute(path, "UPDATE forebay_dead_letters SET attempts = 3 WHERE id = 3")
    assert dead_letters.ReplayResult((1,), (2, 3, 4)) == await dead_letters.replay(store)
    execute(path, "INSERT INTO pages VALUES ('/a', 1)")
    execute(path, "CREATE TRIGGER no BEFORE INSERT ON visits BEGIN SELECT RAISE(ABORT, 'no'); END")
    again = await dead_letters.replay(store, ids=[2, 3])
    assert dead_letters.ReplayResult((), (2, 3)) == again
    letters = await dead_letters.fetch(store)
    foreign, null = "SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_NOTNULL"
    trigger = "SQLITE_CONSTRAINT_TRIGGER"
    assert [
        (2, 3, trigger, [foreign, foreign]),
        (3, 5, trigger, [null, null]),
        (4, 2, "SQLITE_CONSTRAINT_CHECK", ["SQLITE_CONSTRAINT_CHECK"]),
    ] == [
        (x.id, x.attempts, x.failure.error_code, [past.error_code for past in x.history])
        for x in letters
    ]
    assert "no" == letters[0].failure.error
    assert [20.0] == [past.failed_at for past in letters[0].history[:1]]
    assert letters[0].history[1].failed_at <= letters[0].failure.failed_at


async def test_a_history_keeps_any_text_and_time_exactly(
    path: Path, store: forebay.SqliteStore
) -> None:
    """It passes through JSON twice."""
    text = "quotes \"' back\\slash \u202e \U0001f600 \x01 [1]"
    at = 1700000000.1234567
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(
            "UPDATE forebay_dead_letters SET error = ?, failed_at = ? WHERE id = 3", (text, at)
        )
    for times in (1, 2):
        await dead_letters.replay(store, ids=[3])
        [letter] = await dead_letters.fetch(store, ids=[3])
        assert (text, at) == (letter.history[0].error, letter.history[0].failed_at)
        assert times == len(letter.history)


async def test_every_operation_can_be_replayed(path: Path) -> None:
    """Writes, updates, deletes and deletes by another column, in their order."""
    things = Table.from_columns(
        {"a": int, "b": str, "c": bytes | None}, name="things", key=("a", "b"), delete_by="c"
    )
    spilled: list[Operation] = [
        Write((1, "x", b"1")),
        Write((2, "x", b"2")),
        forebay.DeleteBy(b"2"),
        Write((3, "x", b"2")),
        Update((1, "x"), {"c": None}),
        Write((4, "x", None)),
        Delete((4, "x")),
    ]
    async with open_sqlite(path, create=[things]) as store:
        letters = await dead_letters.import_spill(
            store, write_spill(path.with_name("spill"), {things: spilled})
        )
        assert tuple(letters) == (await dead_letters.replay(store)).replayed
        assert [] == await dead_letters.fetch(store)
    assert [(1, "x", None), (3, "x", b"2")] == rows(path, "SELECT * FROM things ORDER BY a")


class CrashError(Exception):
    """The process ended."""


async def test_an_interrupted_replay_loses_nothing_and_repeats_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appended rows, with a crash in every second transaction."""
    options = BufferOptions(batch_size=3)
    expected = [(f"/{i}", i) for i in range(20)]
    async with opened(path) as store:
        await enqueue_refused(store, *(Visit(*visit) for visit in expected))
    for page, _ in expected:
        execute(path, f"INSERT INTO pages VALUES ('{page}', 0)")  # noqa: S608  # ours
    record_replay = letter_table.record_replay
    transactions = 0

    def record_and_crash(raw: sqlite3.Connection, *args: Any, **options: Any) -> None:
        nonlocal transactions
        record_replay(raw, *args, **options)
        transactions += 1
        if transactions % 2 == 0:
            raise CrashError

    monkeypatch.setattr(letter_table, "record_replay", record_and_crash)
    finished = False
    while not finished:
        async with opened(path) as store:
            try:
                await dead_letters.replay(store, options=options)
            except FlushError:
                continue
            finished = True
    assert expected == rows(path, "SELECT * FROM visits ORDER BY at")
    assert [] == rows(path, "SELECT id FROM forebay_dead_letters")


@pytest.mark.parametrize("committed", [True, False])
async def test_a_commit_in_doubt_is_replayed_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """COMMIT fails with an I/O error, after it took place or before."""
    options = BufferOptions(retry=RetryPolicy(initial_delay=0.001, max_delay=0.001))
    names = Table.from_columns({"id": int, "name": str}, name="names", key="id")
    doubts = 1

    def transact(raw: sqlite3.Connection, fn: Any, *args: Any) -> Any:
        nonlocal doubts
        if doubts and committed:
            doubts -= 1
            sqlite.transact(raw, fn, *args)
            raise in_doubt()
        if doubts:
            doubts -= 1
            raw.execute("BEGIN")
            fn(raw, *args)
            raw.execute("ROLLBACK")
            raise in_doubt()
        return sqlite.transact(raw, fn, *args)

    async with open_sqlite(path, create=[names]) as store:
        spill = write_spill(path.with_name("spill"), {names: [Write((1, "a"))]})
        await dead_letters.import_spill(store, spill)
        monkeypatch.setattr(forebay.stores.sqlite._commit, "transact", transact)
        assert (1,) == (await dead_letters.replay(store, options=options)).replayed
        assert [] == await ids(store)
    assert 0 == doubts
    assert [(1, "a")] == rows(path, "SELECT * FROM names")


def in_doubt() -> sqlite.CommitError:
    cause = sqlite3.OperationalError("disk I/O error")
    cause.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    return sqlite.CommitError(cause)


async def test_refusals_at_commit_are_recorded_one_by_one(tmp_path: Path) -> None:
    """A deferred foreign key is checked at COMMIT: the valid entries are replayed all the same."""
    path = tmp_path / "deferred.db"
    execute(path, DDL.replace("(url),", "(url) DEFERRABLE INITIALLY DEFERRED,"))
    async with opened(path) as store:
        await enqueue_refused(store, *(Visit(f"/{i}", i) for i in range(5)))
        execute(path, "INSERT INTO pages VALUES ('/0', 1), ('/3', 1)")
        assert dead_letters.ReplayResult((1, 4), (2, 3, 5)) == await dead_letters.replay(store)
        letters = await dead_letters.fetch(store)
    assert [(2, 2, 1), (3, 2, 1), (5, 2, 1)] == [
        (letter.id, letter.attempts, len(letter.history)) for letter in letters
    ]
    assert [0, 3] == [at for (at,) in rows(path, "SELECT at FROM visits ORDER BY at")]


async def test_a_letter_that_another_process_removed_stops_the_replay(
    path: Path, store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two replays at once, one rolls back: no entry is committed twice."""
    execute(path, "INSERT INTO pages VALUES ('/', 1), ('/a', 1)")
    record_replay = letter_table.record_replay

    def purge_and_record(raw: sqlite3.Connection, *args: Any, **options: Any) -> None:
        raw.execute("DELETE FROM forebay_dead_letters WHERE id = 2")
        record_replay(raw, *args, **options)

    monkeypatch.setattr(letter_table, "record_replay", purge_and_record)
    with pytest.raises(FlushError, match="1 of 2 dead letters are gone"):
        await dead_letters.replay(store, ids=[1, 2])
    assert [] == rows(path, "SELECT * FROM visits")
    assert [1, 2, 3, 4] == await ids(store)


async def test_a_refused_letter_that_another_process_removed_stops_the_replay(
    store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its new failure does not stay as a second letter."""
    record_replay = letter_table.record_replay

    def purge_and_record(raw: sqlite3.Connection, *args: Any, **options: Any) -> None:
        raw.execute("DELETE FROM forebay_dead_letters WHERE id = 3")
        record_replay(raw, *args, **options)

    monkeypatch.setattr(letter_table, "record_replay", purge_and_record)
    with pytest.raises(FlushError, match="1 of 1 dead letters are gone"):
        await dead_letters.replay(store, ids=[3])
    assert [1, 2, 3, 4] == await ids(store)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("entry = '{'", "it cannot be decoded"),
        ("entry = replace(entry, 'page', 'pages')", "expected the columns page, at"),
        ("declaration = '[]'", "invalid declaration of a table"),
        ("declaration = replace(declaration, 'visits', 'visitors')", "no table 'visitors'"),
        ("entry = replace(entry, '1', '[1]')", "lists are not allowed"),
        ("entry = replace(entry, '\"/\"', 'null')", "None"),
    ],
)
async def test_a_letter_that_cannot_be_tried_is_skipped(
    path: Path, store: forebay.SqliteStore, change: str, expected: str
) -> None:
    """The result has the reason. The letter stays as it was, and the others are replayed."""
    execute(path, "INSERT INTO pages VALUES ('/a', 1)")
    execute(path, f"UPDATE forebay_dead_letters SET {change} WHERE id = 1")  # noqa: S608  # ours
    before = await dead_letters.fetch(store, ids=[1])
    result = await dead_letters.replay(store, ids=[1, 2])
    assert (2,) == result.replayed
    assert () == result.refused
    assert [1] == list(result.skipped)
    assert expected in result.skipped[1]
    assert before == await dead_letters.fetch(store, ids=[1])


async def test_a_replay_ends_if_the_file_stays_locked(
    path: Path, store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person waits for it: after half a minute it says why. The letters are still there."""
    retry = forebay.RetryPolicy(max_attempts=3, initial_delay=0.001)
    default = dead_letters._REPLAY_OPTIONS.retry
    assert default.max_attempts is not None
    waits = sum(default.delay(attempt, 0.5) for attempt in range(1, default.max_attempts))
    assert waits == pytest.approx(30, rel=0.1)
    monkeypatch.setattr(dead_letters, "_REPLAY_OPTIONS", BufferOptions(retry=retry))
    before = await dead_letters.fetch(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FlushError, match="after 3 attempts: SQLITE_BUSY"):
            await dead_letters.replay(store)
    assert before == await dead_letters.fetch(store)


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_replay_tries_each_letter_once_for_every_size_of_a_window(
    path: Path, store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Letters that are refused again do not come in a later window."""
    execute(path, "INSERT INTO pages VALUES ('/a', 1)")
    monkeypatch.setattr(_windows, "REPLAY_SIZE", size)
    assert dead_letters.ReplayResult((2,), (1, 3, 4)) == await dead_letters.replay(store)
    assert [1, 1, 1] == [len(letter.history) for letter in await dead_letters.fetch(store)]


async def test_letters_that_are_added_during_a_replay_do_not_keep_it_going(
    path: Path, store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that enqueues a bad row per transaction of the replay."""
    record_replay = letter_table.record_replay
    added = 0

    def add_and_record(raw: sqlite3.Connection, *args: Any, **options: Any) -> None:
        nonlocal added
        added += 1
        raw.execute(
            "INSERT INTO forebay_dead_letters (buffer, operation, entry, declaration, error_code,"
            " error, failed_at, attempts) SELECT buffer, operation, entry, declaration, error_code,"
            " error, failed_at, attempts FROM forebay_dead_letters WHERE id = 1"
        )
        record_replay(raw, *args, **options)

    monkeypatch.setattr(letter_table, "record_replay", add_and_record)
    monkeypatch.setattr(_windows, "REPLAY_SIZE", 1)
    assert dead_letters.ReplayResult((), (1, 2, 3, 4)) == await dead_letters.replay(store)
    assert 4 == added == len(await ids(store)) - 4


async def test_a_cancelled_replay_commits_what_the_buffer_has_accepted(
    path: Path, store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These letters are gone; the others are still there."""
    execute(path, "INSERT INTO pages VALUES ('/', 1), ('/a', 1)")
    record_replay = letter_table.record_replay
    scope = trio.CancelScope()
    token = trio.lowlevel.current_trio_token()

    def cancel_and_record(raw: sqlite3.Connection, *args: Any, **options: Any) -> None:
        trio.from_thread.run_sync(scope.cancel, trio_token=token)
        record_replay(raw, *args, **options)

    monkeypatch.setattr(letter_table, "record_replay", cancel_and_record)
    with scope:
        await dead_letters.replay(store, ids=[1, 2], options=BufferOptions(batch_size=1))
    assert scope.cancelled_caught
    left = await ids(store)
    assert [1, 2][: 4 - len(left)] == [at for (at,) in rows(path, "SELECT at FROM visits")]
    assert 1 not in left
