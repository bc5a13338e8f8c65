"""Rows that raise, change or cannot be stored: only their caller gets an error."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forebay import FlushError, RowError, Table, Write, open_buffers, open_sqlite
from tests.faults.tables import PATIENT


@dataclass
class Note:
    key: str
    value: Any


NOTES = Table(Note, name="notes", key="key")
LOG = Table(Note, name="log")
NUMBERS = Table(Note, name="numbers", key="key", nan_as_null=True)


class Unhashable(str):
    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]


class HostileText(str):
    """A key whose hash, comparison and conversion to text raise."""

    __slots__ = ()

    def __hash__(self) -> int:
        raise ZeroDivisionError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __str__(self) -> str:
        raise ZeroDivisionError


class Raising(Note):
    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


class Bare(Note):
    def __init__(self) -> None:
        """Leave the fields unset."""


REFUSED: list[tuple[Callable[[], Any], type[Exception]]] = [
    (lambda: Note(["a", "list"], 1), TypeError),  # type: ignore[arg-type]
    (lambda: Note({"a": "dict"}, 1), TypeError),  # type: ignore[arg-type]
    (lambda: Note(None, 1), TypeError),  # type: ignore[arg-type]
    (lambda: Note(b"bytes", 1), TypeError),  # type: ignore[arg-type]
    (lambda: Raising("k", 1), ZeroDivisionError),
    (Bare, AttributeError),
    (lambda: Note("k", object()), TypeError),
    (lambda: Note("k", 1 + 1j), TypeError),
    (lambda: Note("k", [1]), TypeError),
    (lambda: Note("k", math.nan), ValueError),
    (lambda: ("a", "tuple"), TypeError),
    (lambda: None, TypeError),
]


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_an_invalid_row_raises_to_its_caller_only(tmp_path: Path, place: int) -> None:
    """Every enqueuing call refuses the row, and the buffer accepts other rows."""
    path = tmp_path / "a.db"
    async with (
        open_sqlite(path, create=[NOTES]) as store,
        open_buffers(store, NOTES, options=PATIENT) as buffers,
    ):
        notes = buffers[NOTES]
        expected = []
        for i, (make, error) in enumerate(REFUSED):
            with pytest.raises(error):
                notes.enqueue_nowait(make())
            with pytest.raises(error):
                await notes.enqueue(make())
            with pytest.raises(error):
                await notes.write(make())
            good = [Note(f"{i} {j}", j) for j in range(2)]
            with pytest.raises(error) as raised:
                await notes.enqueue_many([*good[:place], make(), *good[place:]])
            assert f"the {place} rows before it were accepted" in " ".join(raised.value.__notes__)
            expected += [(note.key, note.value) for note in good[:place]]
            assert len(expected) == notes.statistics().accepted
        await notes.flush()
        assert sorted(expected) == await store.fetch_all("SELECT * FROM notes ORDER BY key")
        assert 0 == notes.statistics().dead_lettered


@pytest.mark.parametrize("key", [Unhashable("hostile"), HostileText("hostile")])
async def test_the_methods_of_a_key_are_not_called(tmp_path: Path, key: str) -> None:
    """A key of a subclass of str is stored as its text."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[NOTES]) as store,
        open_buffers(store, NOTES, options=PATIENT) as buffers,
    ):
        await buffers[NOTES].enqueue_many([Note(key, 1), Note("other", 2), Note(key, 3)])
        await buffers[NOTES].enqueue_update(key, value=4)
        await buffers[NOTES].flush()
        assert [("hostile", 4), ("other", 2)] == await store.fetch_all("SELECT * FROM notes")


async def test_a_row_is_written_as_it_was_when_it_was_enqueued(tmp_path: Path) -> None:
    """A later change of the row, or of a value in it, has no effect."""
    value = bytearray(b"as enqueued")
    rows = [Note(f"k{i}", value) for i in range(3)]
    columns = {"value": value}
    async with (
        open_sqlite(tmp_path / "a.db", create=[NOTES]) as store,
        open_buffers(store, NOTES, options=PATIENT) as buffers,
    ):
        notes = buffers[NOTES]
        notes.enqueue_nowait(rows[0])
        await notes.enqueue(rows[1])
        await notes.enqueue_many(rows[2:])
        await notes.enqueue(Note("updated", None))
        await notes.enqueue_update("updated", **columns)
        value[:] = b"changed"
        columns["value"] = bytearray(b"changed")
        for row in rows:
            row.key, row.value = "changed", "changed"
        await notes.flush()
        expected = [(key, b"as enqueued") for key in ("k0", "k1", "k2", "updated")]
        assert expected == await store.fetch_all("SELECT * FROM notes ORDER BY key")


async def test_rows_before_an_error_of_the_iterable_are_accepted(
    tmp_path: Path,
) -> None:
    """A generator raises after it has yielded two rows."""

    def rows() -> Iterator[Note]:
        yield Note("a", 1)
        yield Note("b", 2)
        raise ZeroDivisionError

    async with (
        open_sqlite(tmp_path / "a.db", create=[NOTES]) as store,
        open_buffers(store, NOTES, options=PATIENT) as buffers,
    ):
        with pytest.raises(ZeroDivisionError):
            await buffers[NOTES].enqueue_many(rows())
        await buffers[NOTES].flush()
        assert [("a", 1), ("b", 2)] == await store.fetch_all("SELECT * FROM notes")


STORABLE = [
    None,
    "",
    "nul \0 inside",
    "\U0010ffff\u202e",
    "x" * 1_000_000,
    "'; DROP TABLE notes; --",
    0,
    True,
    2**63 - 1,
    -(2**63),
    1e308,
    5e-324,
    math.inf,
    -math.inf,
    b"",
    b"\x00\xff" * 500_000,
]


async def test_values_come_back_as_they_were_written(tmp_path: Path) -> None:
    """The limits of each type, and texts that look dangerous."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[NOTES, LOG]) as store,
        open_buffers(store, NOTES, LOG, options=PATIENT) as buffers,
    ):
        rows = [Note(f"{i:02}", value) for i, value in enumerate(STORABLE)]
        for table in (NOTES, LOG):
            await buffers[table].enqueue_many(rows)
            await buffers[table].flush()
            found = await store.fetch_all(f"SELECT value FROM {table.name} ORDER BY key")  # noqa: S608  # ours
            assert STORABLE == [value for (value,) in found]


async def test_a_nan_is_stored_as_null_if_the_table_allows_it(tmp_path: Path) -> None:
    """`nan_as_null` is the explicit form of what SQLite does silently."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[NUMBERS]) as store,
        open_buffers(store, NUMBERS, options=PATIENT) as buffers,
    ):
        await buffers[NUMBERS].write(Note("a", math.nan))
        assert [("a", None)] == await store.fetch_all("SELECT * FROM numbers")


@pytest.mark.parametrize("table", [NOTES, LOG], ids=["keyed", "append-only"])
async def test_a_value_that_sqlite_refuses_makes_a_dead_letter(
    tmp_path: Path, table: Table[Note]
) -> None:
    """Only this row: its `write` raises, and the other rows are committed."""

    async with (
        open_sqlite(tmp_path / "a.db", create=[table]) as store,
        open_buffers(store, table, options=PATIENT) as buffers,
    ):
        notes = buffers[table]
        await notes.enqueue(Note("a", 1))
        with pytest.raises(RowError) as raised:
            await notes.write(Note("bad", "lone surrogate \ud800"))
        await notes.write(Note("z", 2))
        now = notes.statistics()
        assert "UnicodeEncodeError" == raised.value.code
        assert [("a", 1), ("z", 2)] == await store.fetch_all(
            f"SELECT * FROM {table.name} ORDER BY key"  # noqa: S608  # ours
        )
        assert [(raised.value.dead_letter, table.name)] == await store.fetch_all(
            "SELECT id, buffer FROM forebay_dead_letters"
        )
    assert (3, 2, 1, 0) == (now.accepted, now.committed, now.dead_lettered, now.pending)


@pytest.mark.parametrize("table", [NOTES, LOG], ids=["keyed", "append-only"])
@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**100])
async def test_an_integer_beyond_64_bits_is_refused_to_its_caller(
    tmp_path: Path, table: Table[Note], value: int
) -> None:
    """It is not accepted, and the other rows are committed."""
    async with (
        open_sqlite(tmp_path / "a.db", create=[table]) as store,
        open_buffers(store, table, options=PATIENT) as buffers,
    ):
        notes = buffers[table]
        await notes.enqueue(Note("a", 1))
        with pytest.raises(ValueError, match="64"):
            await notes.write(Note("bad", value))
        await notes.write(Note("z", 2))
        now = notes.statistics()
    assert (2, 2, 0, 0) == (now.accepted, now.committed, now.dead_lettered, now.pending)


@pytest.mark.parametrize("value", ["x" * 2_000, b"x" * 2_000])
async def test_a_row_too_large_for_the_dead_letters_stops_the_buffer(
    tmp_path: Path, value: object
) -> None:
    """A value above SQLite's limit fits nowhere in the file, so the error has the entry."""

    def limit(raw: sqlite3.Connection) -> None:
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1_500)

    with pytest.raises(FlushError, match="does not fit into the dead letters either") as raised:
        async with (
            open_sqlite(tmp_path / "a.db", create=[NOTES]) as store,
            open_buffers(store, NOTES, options=PATIENT) as buffers,
        ):
            await store.run(limit)
            await buffers[NOTES].enqueue_many([Note("a", 1), Note("large", value)])
    assert (Write(("a", 1)), Write(("large", value))) == raised.value.unsettled.entries
