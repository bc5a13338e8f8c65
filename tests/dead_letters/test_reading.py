"""Reading, counting and purging dead letters."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import forebay
from forebay import StoreError, Write, dead_letters
from forebay._spill.writing import write_spill
from forebay._table.json_format import encode_declaration
from forebay.dead_letters import _windows
from tests.dead_letters.site import VISITS, Visit, enqueue_refused, execute, ids, opened, rows


async def test_a_file_without_dead_letters_has_none(path: Path) -> None:
    """To read it creates nothing, and a read-only connection is enough."""
    async with forebay.sqlite.connect(path, readonly=True) as connection:
        assert [] == await dead_letters.fetch(connection)
        assert [] == await dead_letters.counts(connection)
    assert ["pages", "visits"] == [
        name for (name,) in rows(path, "SELECT name FROM sqlite_schema WHERE sql IS NOT NULL")
    ]


async def test_errors_of_sqlite_name_the_file(path: Path) -> None:
    """They are raised as errors of forebay, by every function."""
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


async def test_a_letter_has_the_entry_and_its_failure(path: Path) -> None:
    """What, where, why and when; a program gets the entry as an operation."""
    before = time.time()
    async with opened(path) as store:
        await enqueue_refused(store, Visit("/", 1))
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


@pytest.mark.parametrize("size", [1, 2, 3, 4, 1_000])
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
        ({"ids": range(4, 0, -2)}, [2, 4]),
        ({"buffer": "visits", "ids": range(2, 5)}, [2, 3]),
        ({"ids": range(2, 5), "newest_first": True, "limit": 2}, [4, 3]),
        ({"limit": 2}, [1, 2]),
        ({"limit": 0}, []),
        ({"limit": 2, "newest_first": True}, [4, 3]),
        ({"limit": 2, "newest_first": True, "buffer": "visits"}, [3, 2]),
        ({"buffer": None, "error_code": None, "ids": None}, [1, 2, 3, 4]),
    ],
)
async def test_letters_are_selected_by_all_conditions(
    store: forebay.SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
    selection: dict[str, Any],
    expected: list[int],
    size: int,
) -> None:
    """In the order of their first refusal, or the reverse; for every size of a window."""
    monkeypatch.setattr(_windows, "SIZE", size)
    assert expected == await ids(store, **selection)


async def test_gaps_between_the_ids_are_skipped(path: Path, store: forebay.SqliteStore) -> None:
    """The highest and the lowest id that SQLite can store included."""
    execute(path, "UPDATE forebay_dead_letters SET id = 9223372036854775807 WHERE id = 3")
    execute(path, "UPDATE forebay_dead_letters SET id = -9223372036854775808 WHERE id = 1")
    expected = [-(2**63), 2, 4, 2**63 - 1]
    assert expected == await ids(store)
    assert expected[::-1] == await ids(store, newest_first=True)


@pytest.mark.parametrize("size", [1, 2, 1_000])
async def test_letters_are_counted_by_buffer_and_error(
    store: forebay.SqliteStore, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """With the oldest and the newest failure of each; conditions narrow it."""
    monkeypatch.setattr(_windows, "SIZE", size)
    foreign = dead_letters.Count("visits", "SQLITE_CONSTRAINT_FOREIGNKEY", 2, 10.0, 20.0)
    check = dead_letters.Count("pages", "SQLITE_CONSTRAINT_CHECK", 1, 40.0, 40.0)
    null = dead_letters.Count("visits", "SQLITE_CONSTRAINT_NOTNULL", 1, 30.0, 30.0)
    assert [check, foreign, null] == await dead_letters.counts(store)
    assert [foreign, null] == await dead_letters.counts(store, buffer="visits")


async def test_a_limit_below_zero_is_refused(store: forebay.SqliteStore) -> None:
    """SQLite would take it for no limit."""
    with pytest.raises(ValueError, match="limit=-1"):
        await dead_letters.fetch(store, limit=-1)


@pytest.mark.parametrize("size", [1, 2, 1_000])
@pytest.mark.parametrize(
    ("selection", "left"),
    [
        ({"ids": [1, 3, 77]}, [2, 4]),
        ({"failed_before": 30.0}, [3, 4]),
        ({"buffer": "pages"}, [1, 2, 3]),
        ({"buffer": "nothing"}, [1, 2, 3, 4]),
        ({"all_letters": True}, []),
    ],
)
async def test_a_purge_removes_the_selected_letters(
    store: forebay.SqliteStore,
    monkeypatch: pytest.MonkeyPatch,
    selection: dict[str, Any],
    left: list[int],
    size: int,
) -> None:
    """It returns their number."""
    monkeypatch.setattr(_windows, "SIZE", size)
    assert 4 - len(left) == await dead_letters.purge(store, **selection)
    assert left == await ids(store)


@pytest.mark.parametrize("selection", [{}, {"ids": None}, {"ids": [1], "all_letters": True}])
async def test_a_purge_needs_either_a_condition_or_all_letters(
    store: forebay.SqliteStore, selection: dict[str, Any]
) -> None:
    """A forgotten argument does not remove all letters."""
    with pytest.raises(ValueError, match="purge needs either a condition"):
        await dead_letters.purge(store, **selection)
    assert [1, 2, 3, 4] == await ids(store)


@pytest.mark.parametrize(
    "history",
    ["[1]", "1", "{", '[{"error_code": "A", "error": "b", "failed_at": "x"}]', "[" * 100_000],
)
async def test_a_damaged_history_is_an_error(
    path: Path, store: forebay.SqliteStore, history: str
) -> None:
    """The error has the id, and how to fix the letter."""
    execute(path, f"UPDATE forebay_dead_letters SET history = '{history}' WHERE id = 3")  # noqa: S608  # ours
    with pytest.raises(StoreError, match=r"history of dead letter 3 .* set it to '\[\]'"):
        await dead_letters.fetch(store)


async def test_values_are_read_as_the_declared_types(
    path: Path, store: forebay.SqliteStore
) -> None:
    """People who correct a letter by hand may write a number as text."""
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
