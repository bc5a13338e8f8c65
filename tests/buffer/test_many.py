"""`enqueue_update_many` and `enqueue_delete_many`: what they accept, in which order, and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from forebay import Buffer, BufferOptions, Delete, Table, Update, Write, open_buffers, open_sqlite
from forebay._table.operations import Operation
from forebay.testing import MemoryStore
from tests import buffer_calls
from tests.random_tables import Drawn, tables
from tests.random_tables import operation as operations


class Note(NamedTuple):
    name: str
    text: str = ""


NOTES = Table(Note, name="notes", key="name")
LOG = Table(Note, name="log")


async def enqueue_all(buffer: Buffer[Any], entries: Iterable[Operation]) -> None:
    """Enqueue operations with the calls for many where there is one."""
    for entry in entries:
        match entry:
            case Write(row):
                assert 1 == await buffer.enqueue_many([row])
            case Update(key, columns):
                assert 1 == await buffer.enqueue_update_many([(key, columns)])
            case Delete(key):
                assert 1 == await buffer.enqueue_delete_many([key])
            case _:
                await buffer_calls.enqueue(buffer, entry)


@given(drawn=tables(), data=st.data())
def test_they_have_the_effect_of_the_single_calls(drawn: Drawn, data: st.DataObject) -> None:
    """Mixed with other calls, the table ends as if each entry had been enqueued by itself."""
    entries = data.draw(st.lists(operations(drawn), max_size=12))

    async def main() -> None:
        one_by_one, many = MemoryStore(), MemoryStore()
        async with open_buffers(one_by_one, drawn.table) as buffers:
            for entry in entries:
                await buffer_calls.enqueue(buffers[drawn.table], entry)
        async with open_buffers(many, drawn.table) as buffers:
            await enqueue_all(buffers[drawn.table], entries)
            assert len(entries) == buffers[drawn.table].statistics().accepted
        assert one_by_one.rows(drawn.table) == many.rows(drawn.table)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("kind", [list, tuple, iter])
@pytest.mark.parametrize("count", [0, 1, 1_000, 2_500])
@pytest.mark.parametrize("capacity", [700, 100_000])
async def test_more_than_there_is_room_for(
    autojump_clock: MockClock, kind: Any, count: int, capacity: int
) -> None:
    """They wait for room, accept all items of any iterable, and return their number."""
    store = MemoryStore()
    rows = [Note(str(i)) for i in range(count)]
    async with open_buffers(store, NOTES, options=BufferOptions(capacity=capacity)) as buffers:
        buffer = buffers[NOTES]
        await buffer.enqueue_many(rows)
        updates = [(row.name, {"text": f"text of {row.name}"}) for row in rows]
        assert count == await buffer.enqueue_update_many(kind(updates))
        await buffer.flush()
        expected = sorted((row.name, f"text of {row.name}") for row in rows)
        assert expected == sorted(store.rows(NOTES))
        assert count == await buffer.enqueue_delete_many(kind([row.name for row in rows]))
    assert [] == store.rows(NOTES)


async def test_keys_and_mappings_are_drawn_too(autojump_clock: MockClock) -> None:
    """The items of a dict are updates, and its keys are deletes."""
    store = MemoryStore()
    texts = {"a": {"text": "1"}, "b": {"text": "2"}}
    async with open_buffers(store, NOTES) as buffers:
        await buffers[NOTES].enqueue_many([Note("a"), Note("b"), Note("c")])
        assert 2 == await buffers[NOTES].enqueue_update_many(texts.items())
        await buffers[NOTES].flush()
        assert [("a", "1"), ("b", "2"), ("c", "")] == store.rows(NOTES)
        assert 2 == await buffers[NOTES].enqueue_delete_many(texts)
    assert [("c", "")] == store.rows(NOTES)


INVALID: list[Any] = [
    ("a", {"text": 1}),
    ("a", {"name": "b"}),
    ("a", {}),
    (1, {"text": "b"}),
    ("a",),
    "ab",
    None,
    ("a", "text"),
    ["a", {"text": "b"}],
]


@pytest.mark.parametrize("invalid", INVALID)
@pytest.mark.parametrize("options", [BufferOptions(), BufferOptions(capacity_bytes=10**6)])
async def test_the_updates_before_an_invalid_one_are_accepted(
    autojump_clock: MockClock, invalid: Any, options: BufferOptions
) -> None:
    """The error says what is wrong, and a note has the number of updates accepted."""
    store = MemoryStore()
    async with open_buffers(store, NOTES, options=options) as buffers:
        await buffers[NOTES].enqueue(Note("a"))
        with pytest.raises(TypeError, match="table 'notes'") as caught:
            await buffers[NOTES].enqueue_update_many(
                [("a", {"text": "b"}), invalid, ("a", {"text": "c"})]
            )
        assert 2 == buffers[NOTES].statistics().accepted
    [note] = caught.value.__notes__
    assert "update 1 of enqueue_update_many" in note
    assert "1 updates before it were accepted" in note
    assert [("a", "b")] == store.rows(NOTES)


async def test_the_deletes_before_an_invalid_one_are_accepted(autojump_clock: MockClock) -> None:
    """The error says what is wrong, and a note has the number of deletes accepted."""

    def keys() -> Iterator[Any]:
        yield "a"
        yield "b"
        yield 3

    store = MemoryStore()
    async with open_buffers(store, NOTES) as buffers:
        await buffers[NOTES].enqueue_many([Note("a"), Note("b"), Note("c")])
        with pytest.raises(TypeError, match="column 'name': expected str, got 3") as caught:
            await buffers[NOTES].enqueue_delete_many(keys())
    assert "delete 2 of enqueue_delete_many" in caught.value.__notes__[0]
    assert [("c", "")] == store.rows(NOTES)


async def test_a_table_without_a_key_refuses_them(autojump_clock: MockClock) -> None:
    """As it refuses a single update or delete."""
    async with open_buffers(MemoryStore(), LOG) as buffers:
        with pytest.raises(TypeError, match="table 'log' has no key"):
            await buffers[LOG].enqueue_update_many([("a", {"text": "b"})])
        with pytest.raises(TypeError, match="table 'log' has no key"):
            await buffers[LOG].enqueue_delete_many(["a"])
        assert 0 == buffers[LOG].statistics().accepted


class Event(NamedTuple):
    day: int
    name: str
    at: datetime


EVENTS = Table(Event, name="events", key=("name", "day"))


async def test_they_change_a_real_table(tmp_path: Path) -> None:
    """With a key of several columns, in the order of the table's `key`, and a typed column."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    async with (
        open_sqlite(tmp_path / "a.db", create=[EVENTS]) as store,
        open_buffers(store, EVENTS) as buffers,
    ):
        await buffers[EVENTS].enqueue_many(Event(day, "a", at) for day in range(4))
        later = at.replace(hour=7)
        await buffers[EVENTS].enqueue_update_many((("a", day), {"at": later}) for day in (0, 2))
        await buffers[EVENTS].enqueue_delete_many([("a", 1), ("a", 3), ("b", 0)])
        await buffers.flush()
        assert [(0, "a", "07"), (2, "a", "07")] == await store.fetch_all(
            "SELECT day, name, strftime('%H', at) FROM events ORDER BY day"
        )
