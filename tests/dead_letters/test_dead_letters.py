"""`forebay.dead_letters`: read, count, replay and purge what a table refused."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

import forebay
from forebay import (
    BufferOptions,
    Delete,
    FlushError,
    RetryPolicy,
    StoreError,
    Sum,
    Table,
    Update,
    Write,
    dead_letters,
    open_buffers,
    open_sqlite,
    sqlite,
)
from forebay._spill import write_spill
from forebay._table.json_format import encode_declaration
from forebay._table.operations import Operation
from forebay.stores.sqlite import _dead_letter_table as sql


class Visit(NamedTuple):
    page: str
    at: int | None


VISITS = Table(Visit, name="visits")
PAGES = Table.from_columns({"url": str, "hits": int}, name="pages", key="url", merge={"hits": Sum})

DDL = """
    CREATE TABLE pages (url TEXT PRIMARY KEY, hits INTEGER CHECK (hits < 100));
    CREATE TABLE visits (page TEXT REFERENCES pages (url), at INTEGER NOT NULL);
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "site.db"
    execute(path, DDL)
    return path


def execute(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(script)


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute(query).fetchall()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[forebay.SqliteStore]:
    async with open_sqlite(path, pragmas={"foreign_keys": 1}) as store:
        yield store


async def refused(store: forebay.SqliteStore, *visits: Visit) -> None:
    async with open_buffers(store, VISITS) as buffers:
        await buffers[VISITS].enqueue_many(visits)


async def ids(store: forebay.SqliteStore, **selection: Any) -> list[int]:
    return [letter.id for letter in await dead_letters.fetch(store, **selection)]


async def test_a_file_without_dead_letters_has_none(path: Path) -> None:
    """Nothing is created to say so, and a read-only connection will do."""
    async with forebay.sqlite.connect(path, readonly=True) as connection:
        assert [] == await dead_letters.fetch(connection)
        assert [] == await dead_letters.counts(connection)
    assert ["pages", "visits"] == [
        name for (name,) in rows(path, "SELECT name FROM sqlite_schema WHERE sql IS NOT NULL")
    ]


async def test_what_sqlite_answers_names_the_file(path: Path) -> None:
    """As an error of forebay's, whatever was asked."""
    broken = path.with_name("broken.db")
    broken.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match=r"broken\.db': file is not a database \(SQLITE_NOTADB\)"):
        async with dead_letters.open_reader(broken) as reader:
            await dead_letters.fetch(reader)
    execute(path, "CREATE VIEW forebay_dead_letters AS SELECT 1 AS id")
    async with opened(path) as store:
        with pytest.raises(StoreError, match=r"site\.db': .*SQLITE_ERROR"):
            await dead_letters.purge(store, buffer="visits")
        spill = write_spill(path.with_name("spill"), {VISITS: [Write(("/", 1))]})
        with pytest.raises(StoreError, match=r"site\.db': .*SQLITE_ERROR"):
            await dead_letters.import_spill(store, spill)


async def test_a_letter_tells_all(path: Path) -> None:
    """What, where, why and when; and its operation for code."""
    before = time.time()
    async with opened(path) as store:
        await refused(store, Visit("/", 1))
        [letter] = await dead_letters.fetch(store)
    assert (1, "visits", "write", 1, ()) == (
        letter.id,
        letter.buffer,
        letter.operation,
        letter.attempts,
        letter.history,
    )
    assert "SQLITE_CONSTRAINT_FOREIGNKEY" == letter.failure.error_code
    assert "FOREIGN KEY constraint failed" == letter.failure.error
    assert before <= letter.failure.failed_at <= time.time()
    table, operation = letter.decode()
    assert encode_declaration(VISITS) == encode_declaration(table)
    assert Write(("/", 1)) == operation


@pytest.fixture
async def store(path: Path) -> AsyncIterator[forebay.SqliteStore]:
    """A store with letters: 1 and 2 of one kind, 3 of another error, 4 of another buffer."""
    async with opened(path) as store:
        await refused(store, Visit("/", 1), Visit("/a", 2), Visit("/", None))
        async with open_buffers(store, PAGES) as buffers:
            await buffers[PAGES].enqueue(("/", 100))
        execute(path, "UPDATE forebay_dead_letters SET failed_at = id * 10")
        yield store


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"buffer": "visits"}, [1, 2, 3]),
        ({"buffer": "VISITS"}, []),
        ({"error_code": "SQLITE_CONSTRAINT_NOTNULL"}, [3]),
        ({"failed_before": 20.0}, [1]),
        ({"ids": [4, 1, 1, 99]}, [1, 4]),
        ({"ids": []}, []),
        ({"buffer": "visits", "ids": range(2, 5)}, [2, 3]),
        ({"limit": 2}, [1, 2]),
        ({"limit": 0}, []),
        ({"limit": 2, "newest_first": True}, [4, 3]),
        ({"buffer": None, "error_code": None, "ids": None}, [1, 2, 3, 4]),
    ],
)
async def test_letters_are_chosen_by_all_conditions(
    store: forebay.SqliteStore, selection: dict[str, Any], expected: list[int]
) -> None:
    """In the order of their first refusal, or the reverse."""
    assert expected == await ids(store, **selection)


async def test_letters_are_counted_by_buffer_and_error(store: forebay.SqliteStore) -> None:
    """With the oldest and the newest of each; conditions narrow it."""
    foreign = dead_letters.Count("visits", "SQLITE_CONSTRAINT_FOREIGNKEY", 2, 10.0, 20.0)
    check = dead_letters.Count("pages", "SQLITE_CONSTRAINT_CHECK", 1, 40.0, 40.0)
    null = dead_letters.Count("visits", "SQLITE_CONSTRAINT_NOTNULL", 1, 30.0, 30.0)
    assert [check, foreign, null] == await dead_letters.counts(store)
    assert [foreign, null] == await dead_letters.counts(store, buffer="visits")


async def test_a_limit_below_zero_is_refused(store: forebay.SqliteStore) -> None:
    """SQLite would take it for none."""
    with pytest.raises(ValueError, match="limit=-1"):
        await dead_letters.fetch(store, limit=-1)


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        ({"ids": [1, 3, 77]}, [2, 4]),
        ({"failed_before": 30.0}, [3, 4]),
        ({"buffer": "pages"}, [1, 2, 3]),
    ],
)
async def test_a_purge_removes_what_is_meant(
    store: forebay.SqliteStore, selection: dict[str, Any], left: list[int]
) -> None:
    """And tells how many there were."""
    assert 4 - len(left) == await dead_letters.purge(store, **selection)
    assert left == await ids(store)


async def test_a_purge_of_nothing_in_particular_is_refused(store: forebay.SqliteStore) -> None:
    """All are not removed by a forgotten argument."""
    with pytest.raises(ValueError, match="purge needs one of"):
        await dead_letters.purge(store, ids=None)
    assert [1, 2, 3, 4] == await ids(store)


async def test_a_replay_commits_and_removes_the_letters(
    path: Path, store: forebay.SqliteStore
) -> None:
    """Once the cause is mended."""
    execute(path, "INSERT INTO pages VALUES ('/', 1), ('/a', 1)")
    assert dead_letters.ReplayResult((1, 2)) == await dead_letters.replay(store, ids=[1, 2])
    assert [("/", 1), ("/a", 2)] == rows(path, "SELECT * FROM visits")
    assert [3, 4] == await ids(store)


async def test_a_letter_refused_again_keeps_its_history(
    path: Path, store: forebay.SqliteStore
) -> None:
    """Its id, its attempts added up, and each failure in turn; no other letter is left."""
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


async def test_every_operation_can_be_replayed(path: Path) -> None:
    """Writes, updates, deletes, deletes by another column, in their order."""
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
    """The process is gone."""


async def test_a_replay_cut_short_neither_loses_nor_repeats(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are added up and appended, with a crash after each transaction in turn."""
    options = BufferOptions(batch_size=3)
    expected = [(f"/{i}", i) for i in range(20)]
    async with opened(path) as store:
        await refused(store, *(Visit(*visit) for visit in expected))
    for page, _ in expected:
        execute(path, f"INSERT INTO pages VALUES ('{page}', 0)")  # noqa: S608
    record_replay = sql.record_replay
    crashes = 0

    def record_and_crash(raw: sqlite3.Connection, *args: Any, **options: Any) -> None:
        nonlocal crashes
        record_replay(raw, *args, **options)
        crashes += 1
        if crashes % 2 == 0:
            raise CrashError

    monkeypatch.setattr(sql, "record_replay", record_and_crash)
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


@pytest.mark.parametrize("happened", [True, False])
async def test_a_commit_in_doubt_is_replayed_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    """Whether it took place or not: the row is there, its letter is not, and nobody was told."""
    options = BufferOptions(retry=RetryPolicy(initial_delay=0.001, max_delay=0.001))
    names = Table.from_columns({"id": int, "name": str}, name="names", key="id")
    doubts = 1

    def transact(raw: sqlite3.Connection, fn: Any, *args: Any) -> Any:
        nonlocal doubts
        if doubts and happened:
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


async def test_refusals_at_commit_are_settled_one_by_one(tmp_path: Path) -> None:
    """A foreign key that is checked at COMMIT: the good are replayed, the others keep account."""
    path = tmp_path / "deferred.db"
    execute(path, DDL.replace("(url),", "(url) DEFERRABLE INITIALLY DEFERRED,"))
    async with opened(path) as store:
        await refused(store, *(Visit(f"/{i}", i) for i in range(5)))
        execute(path, "INSERT INTO pages VALUES ('/0', 1), ('/3', 1)")
        assert dead_letters.ReplayResult((1, 4), (2, 3, 5)) == await dead_letters.replay(store)
        letters = await dead_letters.fetch(store)
    assert [(2, 2, 1), (3, 2, 1), (5, 2, 1)] == [
        (letter.id, letter.attempts, len(letter.history)) for letter in letters
    ]
    assert [0, 3] == [at for (at,) in rows(path, "SELECT at FROM visits ORDER BY at")]


async def test_letters_that_are_gone_meanwhile_stop_the_replay(
    path: Path, store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two replays at once do nothing twice: one of them does nothing."""
    execute(path, "INSERT INTO pages VALUES ('/', 1), ('/a', 1)")
    record_replay = sql.record_replay

    def purge_and_record(raw: sqlite3.Connection, *args: Any, **options: Any) -> None:
        raw.execute("DELETE FROM forebay_dead_letters WHERE id = 2")
        record_replay(raw, *args, **options)

    monkeypatch.setattr(sql, "record_replay", purge_and_record)
    with pytest.raises(FlushError, match="1 of 2 dead letters are not there any more"):
        await dead_letters.replay(store, ids=[1, 2])
    assert [] == rows(path, "SELECT * FROM visits")
    assert [1, 2, 3, 4] == await ids(store)


async def test_a_refused_letter_that_is_gone_stops_the_replay_too(
    store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its new failure is not left as a letter of its own."""
    record_replay = sql.record_replay

    def purge_and_record(raw: sqlite3.Connection, *args: Any, **options: Any) -> None:
        raw.execute("DELETE FROM forebay_dead_letters WHERE id = 3")
        record_replay(raw, *args, **options)

    monkeypatch.setattr(sql, "record_replay", purge_and_record)
    with pytest.raises(FlushError, match="1 of 1 dead letters"):
        await dead_letters.replay(store, ids=[3])
    assert [1, 2, 3, 4] == await ids(store)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("entry = '{'", "it cannot be read"),
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
    """With the reason; it stays as it is, and the others are replayed."""
    execute(path, "INSERT INTO pages VALUES ('/a', 1)")
    execute(path, f"UPDATE forebay_dead_letters SET {change} WHERE id = 1")  # noqa: S608
    before = await dead_letters.fetch(store, ids=[1])
    result = await dead_letters.replay(store, ids=[1, 2])
    assert (2,) == result.replayed
    assert () == result.refused
    assert [1] == list(result.skipped)
    assert expected in result.skipped[1]
    assert before == await dead_letters.fetch(store, ids=[1])


@pytest.mark.parametrize(
    "history",
    ["[1]", "1", "{", '[{"error_code": "A", "error": "b", "failed_at": "x"}]', "[" * 100_000],
)
async def test_a_damaged_history_is_told_of(
    path: Path, store: forebay.SqliteStore, history: str
) -> None:
    """With the id, and how to mend it."""
    execute(path, f"UPDATE forebay_dead_letters SET history = '{history}' WHERE id = 3")  # noqa: S608
    with pytest.raises(StoreError, match=r"dead letter 3: its history .* set it to '\[\]'"):
        await dead_letters.fetch(store)


async def test_a_replay_ends_where_a_lock_stays(
    path: Path, store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person waits for it: after half a minute it says why, and the letters are there."""
    retry = forebay.RetryPolicy(max_attempts=3, initial_delay=0.001)
    patience = dead_letters._OPTIONS.retry
    assert patience.max_attempts is not None
    waits = sum(patience.delay(attempt, 0.5) for attempt in range(1, patience.max_attempts))
    assert waits == pytest.approx(30, rel=0.1)
    monkeypatch.setattr(dead_letters, "_OPTIONS", BufferOptions(retry=retry))
    before = await dead_letters.fetch(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FlushError, match="after 3 attempts: SQLITE_BUSY"):
            await dead_letters.replay(store)
    assert before == await dead_letters.fetch(store)


async def test_values_of_other_types_are_read_as_they_are_declared(
    path: Path, store: forebay.SqliteStore
) -> None:
    """Somebody who corrects a letter by hand may well write a number as a text."""
    execute(
        path,
        "UPDATE forebay_dead_letters SET buffer = CAST(buffer AS BLOB), error = x'41', "
        "error_code = x'42', failed_at = 'soon', attempts = 'two' WHERE id = 3",
    )
    [letter] = await dead_letters.fetch(store, ids=[3])
    assert ("A", "B", 0.0, 0) == (
        letter.failure.error,
        letter.failure.error_code,
        letter.failure.failed_at,
        letter.attempts,
    )
    assert isinstance(letter.buffer, str)
    assert ["B"] == [count.error_code for count in await dead_letters.counts(store, ids=[3])]


async def test_a_replay_goes_page_by_page(
    path: Path, store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Letters that are refused again do not come twice; each page size has the same result."""
    execute(path, "INSERT INTO pages VALUES ('/a', 1)")
    monkeypatch.setattr(dead_letters, "_PAGE", 1)
    assert dead_letters.ReplayResult((2,), (1, 3, 4)) == await dead_letters.replay(store)
    assert [1, 1, 1] == [len(letter.history) for letter in await dead_letters.fetch(store)]


async def test_a_flood_of_letters_is_no_flood_when_replayed(
    path: Path, store: forebay.SqliteStore
) -> None:
    """All of more letters than a buffer may write in a minute are tried."""
    most = BufferOptions().dead_letters_per_minute
    assert most is not None
    spilled = {VISITS: [Write(("/nowhere", i)) for i in range(most + 1)]}
    await dead_letters.import_spill(store, write_spill(path.with_name("spill"), spilled))
    result = await dead_letters.replay(store, error_code="SPILLED")
    assert most + 1 == len(result.refused)


async def test_a_spill_is_taken_in_once(path: Path, store: forebay.SqliteStore) -> None:
    """By its id: a copy of the file adds nothing, even when letters of it are gone."""
    spill = write_spill(
        path.with_name("spill"),
        {PAGES: [Write(("/", 1))], VISITS: [Write(("/", 5))]},
        reason="late",
    )
    copy = spill.with_name("copy")
    copy.write_bytes(spill.read_bytes())
    first = await dead_letters.import_spill(store, spill)
    letters = await dead_letters.fetch(store, ids=first)
    assert ["pages", "visits"] == [letter.buffer for letter in letters]
    assert {("SPILLED", "late", 0)} == {
        (x.failure.error_code, x.failure.error, x.attempts) for x in letters
    }
    await dead_letters.purge(store, ids=first[:1])
    assert first == await dead_letters.import_spill(store, copy)
    assert [1, 2, 3, 4, first[1]] == await ids(store)
    other = write_spill(path.with_name("other"), {PAGES: [Write(("/", 1))]})
    assert 1 == len(await dead_letters.import_spill(store, other))


async def test_an_empty_spill_is_taken_in(path: Path, store: forebay.SqliteStore) -> None:
    """It has no letters, now and again."""
    spill = write_spill(path.with_name("spill"), {PAGES: []})
    for _ in range(2):
        assert [] == list(await dead_letters.import_spill(store, spill))


async def test_a_damaged_spill_is_not_taken_in(path: Path, store: forebay.SqliteStore) -> None:
    """Nothing of it."""
    spill = write_spill(path.with_name("spill"), {VISITS: [Write(("/", 5)), Write(("/", 6))]})
    spill.write_text(spill.read_text()[:-10])
    with pytest.raises(forebay.SpillError, match="line 4"):
        await dead_letters.import_spill(store, spill)
    assert [1, 2, 3, 4] == await ids(store)


async def test_of_a_spill_that_was_cut_off_the_whole_lines_are_taken_in(
    path: Path, store: forebay.SqliteStore
) -> None:
    """On request, and once; never with the whole of it, of which the first would be done twice."""
    whole = write_spill(path.with_name("spill"), {VISITS: [Write(("/", 5)), Write(("/", 6))]})
    part = path.with_name("spill.part")
    part.write_text(whole.read_text()[:-10])
    letters = await dead_letters.import_spill(store, part, incomplete=True)
    [letter] = await dead_letters.fetch(store, ids=letters)
    assert (VISITS.name, Write(("/", 5))) == (letter.buffer, letter.decode()[1])
    assert letters == await dead_letters.import_spill(store, part, incomplete=True)
    for incomplete in (False, True):
        with pytest.raises(forebay.SpillError, match="only the first 1 of 2 entries"):
            await dead_letters.import_spill(store, whole, incomplete=incomplete)
    assert [1, 2, 3, 4, letter.id] == await ids(store)


async def test_a_part_of_a_spill_that_was_taken_in_adds_nothing(
    path: Path, store: forebay.SqliteStore
) -> None:
    """A copy that was cut off."""
    whole = write_spill(path.with_name("spill"), {VISITS: [Write(("/", 5)), Write(("/", 6))]})
    part = path.with_name("copy")
    part.write_text(whole.read_text()[:-10])
    letters = await dead_letters.import_spill(store, whole)
    assert letters == await dead_letters.import_spill(store, part, incomplete=True)


async def test_a_replay_that_is_cancelled_finishes_what_it_began(
    path: Path, store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the buffer had accepted is committed, and its letter gone; the rest are letters."""
    execute(path, "INSERT INTO pages VALUES ('/', 1), ('/a', 1)")
    record_replay = sql.record_replay
    scope = trio.CancelScope()
    token = trio.lowlevel.current_trio_token()

    def cancel_and_record(raw: sqlite3.Connection, *args: Any, **options: Any) -> None:
        trio.from_thread.run_sync(scope.cancel, trio_token=token)
        record_replay(raw, *args, **options)

    monkeypatch.setattr(sql, "record_replay", cancel_and_record)
    with scope:
        await dead_letters.replay(store, ids=[1, 2], options=BufferOptions(batch_size=1))
    assert scope.cancelled_caught
    left = await ids(store)
    assert [1, 2][: 4 - len(left)] == [at for (at,) in rows(path, "SELECT at FROM visits")]
    assert 1 not in left
