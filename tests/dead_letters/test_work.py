"""The work of a replay, a purge and a list grows linearly with the letters.

Work is counted as steps of SQLite's virtual machine, which are the same in every run.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from forebay import SqliteStore, Table, Write, dead_letters, open_sqlite
from forebay._spill.writing import write_spill
from forebay.dead_letters import _windows
from forebay.stores.sqlite import _dead_letter_table as letter_table

FEW, MANY = 1_000, 8_000
STEPS = 100
EVENTS = Table.from_columns({"number": int}, name="events")

Work = Callable[[SqliteStore], Awaitable[object]]


class Counter:
    """Counts the steps, and the transactions, of every connection that is opened meanwhile."""

    def __init__(self) -> None:
        self.steps = 0
        self.transactions = 0
        self.most_steps = 0
        """The steps of the longest transaction that wrote."""
        self._begun = 0

    def step(self) -> None:
        self.steps += STEPS

    def trace(self, sql: str) -> None:
        if sql.startswith("BEGIN"):
            self._begun = self.steps
        elif sql == "COMMIT":
            self.transactions += 1
            self.most_steps = max(self.most_steps, self.steps - self._begun)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    """Count the work of the connections that are opened in the block."""
    counter = Counter()
    connect = sqlite3.connect

    def counting(*args: Any, **options: Any) -> sqlite3.Connection:
        raw: sqlite3.Connection = connect(*args, **options)
        raw.set_progress_handler(counter.step, STEPS)
        raw.set_trace_callback(counter.trace)
        return raw

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", counting)
        yield counter


async def database(path: Path, letters: int) -> Path:
    """Make a database with letters whose table refuses every row."""
    spill = write_spill(path.with_suffix(".spill"), {EVENTS: [Write((i,)) for i in range(letters)]})
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE events (number INTEGER CHECK (number < 0))")
    async with open_sqlite(path) as store:
        await dead_letters.import_spill(store, spill)
    return path


async def accept_and_replay(store: SqliteStore) -> None:
    await store.run(lambda raw: raw.execute("DROP TABLE events").close())
    await store.run(lambda raw: raw.execute("CREATE TABLE events (number INTEGER)").close())
    await dead_letters.replay(store)


WORK: dict[str, Work] = {
    "replay, refused again": dead_letters.replay,
    "replay, refused again, by id": lambda store: dead_letters.replay(store, ids=range(1, 10**5)),
    "replay, accepted": accept_and_replay,
    "purge all": lambda store: dead_letters.purge(store, all_letters=True),
    "purge by buffer": lambda store: dead_letters.purge(store, buffer="events"),
    "purge by id": lambda store: dead_letters.purge(store, ids=range(1, 10**5)),
    "purge nothing": lambda store: dead_letters.purge(store, error_code="none"),
    "fetch all": dead_letters.fetch,
    "count": dead_letters.counts,
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
async def test_the_work_grows_linearly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Work
) -> None:
    """Eight times the letters need at most ten times the steps; each transaction stays small."""
    steps, most_steps = [], []
    for letters in (FEW, MANY):
        path = await database(tmp_path / f"{letters}.db", letters)
        with counted(monkeypatch) as counter:
            async with open_sqlite(path) as store:
                before = counter.steps
                await work(store)
            steps.append(counter.steps - before)
        most_steps.append(counter.most_steps)
    assert steps[0] > 0
    assert steps[1] < 10 * steps[0]
    assert most_steps[1] < 1.5 * most_steps[0] + 10 * STEPS


async def test_the_newest_letters_are_found_without_reading_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of the last 20 letters costs the same, however many there are."""
    steps = []
    for letters in (FEW, MANY):
        path = await database(tmp_path / f"{letters}.db", letters)
        with counted(monkeypatch) as counter:
            async with open_sqlite(path) as store:
                before = counter.steps
                assert 20 == len(await dead_letters.fetch(store, limit=20, newest_first=True))
            steps.append(counter.steps - before)
    assert steps[1] <= steps[0] + 10 * STEPS


async def plan(store: SqliteStore, sql: str, parameters: Any) -> str:
    return " ".join(
        detail for *_, detail in await store.fetch_all(f"EXPLAIN QUERY PLAN {sql}", parameters)
    )


async def test_letters_are_searched_by_primary_key(tmp_path: Path) -> None:
    """In every statement that knows the ids: none scans the table."""
    path = await database(tmp_path / "a.db", 10)
    fields = letter_table.fields_are(buffer="events", error_code="SPILLED", failed_before=1.0)
    scan = f"SCAN {letter_table.TABLE}"
    async with open_sqlite(path) as store:
        for where in (letter_table.id_in([1]), letter_table.id_between(1, 9)):
            for sql, parameters in (
                letter_table.select(where & fields, newest_first=True, limit=1),
                letter_table.select_ids(where & fields),
                letter_table.count(where & fields),
                (f"DELETE FROM {letter_table.TABLE} WHERE {(where & fields).sql}", {}),  # noqa: S608  # ours
            ):
                found = await plan(store, sql, {**(where & fields).parameters, **parameters})
                assert "USING INTEGER PRIMARY KEY" in found, found
                assert scan not in found, found
        found = await plan(store, letter_table._ADD_FAILURES, {"changes": "[]"})
        assert 2 == found.count("USING INTEGER PRIMARY KEY"), found
        assert scan not in found, found


async def test_other_programs_can_write_during_a_replay_and_a_purge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection with sqlite3's default timeout gets the write lock, again and again."""
    monkeypatch.setattr(_windows, "SIZE", 50)
    monkeypatch.setattr(_windows, "REPLAY_SIZE", 50)
    path = await database(tmp_path / "a.db", 1_000)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE others (number)")

    def insert() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("INSERT INTO others VALUES (1)")

    async def write() -> None:
        while True:
            await trio.to_thread.run_sync(insert)

    async with open_sqlite(path) as store:
        for work in (dead_letters.replay(store), dead_letters.purge(store, all_letters=True)):
            await store.run(lambda raw: raw.execute("DELETE FROM others").close())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await work
                [(written,)] = await store.fetch_all("SELECT count(*) FROM others")
                nursery.cancel_scope.cancel()
            assert written > 1


@pytest.mark.parametrize(("seconds", "pause"), [(0.0, 0.0), (0.04, 0.01), (60.0, 0.1)])
async def test_the_pause_between_two_transactions(
    autojump_clock: trio.testing.MockClock, seconds: float, pause: float
) -> None:
    """A quarter of the transaction's time, at most the 100 ms after which SQLite asks again."""
    begun = trio.current_time()
    await _windows.let_others_write(seconds)
    assert pause == pytest.approx(trio.current_time() - begun)
