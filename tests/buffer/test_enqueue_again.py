"""`enqueue_again`: the unsettled entries of an error go into a new buffer of the table."""

from __future__ import annotations

import enum
import math
import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from forebay import (
    BufferOptions,
    Delete,
    DeleteBy,
    DrainError,
    FlushError,
    Json,
    Sum,
    Table,
    Unsettled,
    Update,
    Write,
    open_buffers,
    open_sqlite,
)
from forebay._table.columns import StoredAs
from forebay._table.operations import Operation
from forebay.stores import Batch, BatchError, FailureKind, Outcome
from forebay.testing import MemoryStore
from tests import buffer_calls
from tests.random_tables import Drawn, tables
from tests.random_tables import operation as operations
from tests.wrapped_attempts import Commit, WrappedMemoryStore


class Note(NamedTuple):
    name: str
    text: str = ""


NOTES = Table(Note, name="notes", key="name", delete_by="text")
LOG = Table(Note, name="log")

NEVER = BufferOptions(flush_interval=math.inf)


async def fail(table: Table[Any], entries: list[Operation], options: BufferOptions) -> Unsettled:
    """Return what a buffer could not settle that failed after it had accepted these entries."""
    store = MemoryStore()
    store.fail_next(FailureKind.FATAL)
    store.stop()
    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, table, options=options) as buffers:
            for entry in entries:
                await buffer_calls.enqueue(buffers[table], entry)
            store.resume()
    return caught.value.unsettled


@given(drawn=tables(), data=st.data(), batch_size=st.sampled_from([1, 3, 100]))
def test_the_new_buffer_ends_with_the_same_rows(
    drawn: Drawn, data: st.DataObject, batch_size: int
) -> None:
    """As if the first buffer had not failed, for operations of every kind."""
    entries = data.draw(st.lists(operations(drawn), min_size=1, max_size=12))

    async def main() -> None:
        expected, store = MemoryStore(), MemoryStore()
        async with open_buffers(expected, drawn.table, options=NEVER) as buffers:
            for entry in entries:
                await buffer_calls.enqueue(buffers[drawn.table], entry)
        options = BufferOptions(flush_interval=math.inf, batch_size=batch_size)
        left = (await fail(drawn.table, entries, options)).entries
        async with open_buffers(store, drawn.table, options=options) as buffers:
            assert len(left) == await buffers[drawn.table].enqueue_again(left)
            assert len(left) == buffers[drawn.table].statistics().accepted
        assert expected.rows(drawn.table) == store.rows(drawn.table)

    trio.run(main, clock=MockClock(autojump_threshold=0))


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Typed(NamedTuple):
    at: datetime
    id: UUID
    colour: Colour
    price: Decimal | None
    flag: bool
    share: float
    more: Annotated[dict[str, Any], Json]
    mixed: Annotated[int | str, StoredAs(int)]


TYPED = Table(Typed, name="typed", key="at", delete_by="id")
MIXED: list[int | str] = [7, "seven", 8, 9]
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def test_entries_of_typed_columns_go_through_pickle_into_a_real_table(tmp_path: Path) -> None:
    """Stored values are not encoded again, and the rows are those of a buffer that never failed."""
    ids = [UUID(int=number) for number in range(4)]
    rows = [
        Typed(AT.replace(day=day), id_, Colour.BLUE, None, bool(day), 1.0, {"a": [1]}, mixed)
        for day, id_, mixed in zip((1, 2, 3, 4), ids, MIXED, strict=True)
    ]
    changes: list[Operation] = [
        Update(rows[1].at, {"colour": Colour.RED, "price": Decimal("1.50"), "share": 2}),
        Delete(rows[2].at),
        DeleteBy(ids[3]),
    ]
    found: list[list[Any]] = []
    for name in ("expected", "again"):
        path = tmp_path / f"{name}.db"
        async with open_sqlite(path, create=[TYPED]) as store:
            unsettled: Unsettled | None = None
            try:
                async with open_buffers(store, TYPED, options=NEVER) as buffers:
                    if name == "again":
                        await store.run(lambda c: c.execute("ALTER TABLE typed RENAME TO hidden"))
                    for operation in [*map(Write, rows), *changes]:
                        await buffer_calls.enqueue(buffers[TYPED], operation)
            except FlushError as error:
                copied = pickle.loads(pickle.dumps(error))  # noqa: S301  # pickled here
                unsettled = copied.unsettled
                await store.run(lambda c: c.execute("ALTER TABLE hidden RENAME TO typed"))
            async with open_buffers(store, TYPED) as buffers:
                if unsettled is not None:
                    await buffers[TYPED].enqueue_again(unsettled.entries)
        with closing(sqlite3.connect(path)) as connection:
            found.append(connection.execute("SELECT * FROM typed ORDER BY at").fetchall())
    assert 2 == len(found[0])
    assert found[0] == found[1]


async def test_the_entries_of_a_late_drain(autojump_clock: MockClock) -> None:
    """`DrainError` has them by the name of the table."""
    store = MemoryStore()
    store.stop()
    with pytest.raises(DrainError) as caught:
        async with open_buffers(store, LOG, options=BufferOptions(drain_timeout=1)) as buffers:
            await buffers[LOG].enqueue_many([Note("a"), Note("b")])
    store = MemoryStore()
    async with open_buffers(store, LOG) as buffers:
        await buffers[LOG].enqueue_again(caught.value.unsettled["log"].entries)
    assert [("a", ""), ("b", "")] == store.rows(LOG)


class Total(NamedTuple):
    name: str
    number: int


class InDoubtStore(WrappedMemoryStore):
    """A store whose first commit takes place, but is reported as in doubt and fatal."""

    async def around_commit(self, batch: Batch, commit: Commit) -> Outcome:
        outcome = await commit()
        if len(self.batches) == 1:
            raise BatchError("scripted", kind=FailureKind.FATAL, code="SCRIPTED", in_doubt=True)
        return outcome


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        (Table(Total, name="totals", key="name", merge={"number": Sum}), [("a", 2)]),
        (Table(Total, name="totals"), [("a", 1), ("a", 1)]),
        (Table(Total, name="totals", key="name"), [("a", 1)]),
    ],
)
async def test_entries_in_doubt_may_take_effect_twice(
    autojump_clock: MockClock, table: Table[Total], rows: list[Any]
) -> None:
    """Sums and appended rows are doubled then. The error says that it is in doubt."""
    store = InDoubtStore()
    with pytest.raises(FlushError) as caught:
        async with open_buffers(store, table) as buffers:
            await buffers[table].enqueue(Total("a", 1))
    assert caught.value.in_doubt
    async with open_buffers(store, table) as buffers:
        await buffers[table].enqueue_again(caught.value.unsettled.entries)
    assert rows == store.rows(table)


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (Note("a"), TypeError, "expected a forebay.Write, Update, Delete or DeleteBy"),
        (Write(("a",)), ValueError, "has 2 columns, but this row has 1 values"),
        (Write(("a", object())), TypeError, "column 'text'"),
        (Write(["a", "b"]), TypeError, "expected a row"),  # type: ignore[arg-type]
        (Update("a", {}), TypeError, "an update must name columns"),
        (Update("a", {"name": "b"}), TypeError, "an update must name columns"),
        (Delete(("a", "b")), TypeError, "column 'name'"),
        (DeleteBy(None), TypeError, "column 'text'"),
    ],
)
@pytest.mark.parametrize("capacity_bytes", [None, 10**6])
async def test_an_invalid_entry_is_refused(
    autojump_clock: MockClock,
    entry: Any,
    error: type[Exception],
    message: str,
    capacity_bytes: int | None,
) -> None:
    """The entries before it are accepted, and a note has their number."""
    store = MemoryStore()
    options = BufferOptions(flush_interval=math.inf, capacity_bytes=capacity_bytes)
    async with open_buffers(store, NOTES, options=options) as buffers:
        with pytest.raises(error, match=message) as caught:
            await buffers[NOTES].enqueue_again([Write(("x", "")), entry, Write(("y", ""))])
    assert [("x", "")] == store.rows(NOTES)
    assert [
        "this is entry 1 of enqueue_again, counted from 0; the 1 entries before it were accepted"
    ] == caught.value.__notes__


async def test_values_of_the_row_type_are_refused(autojump_clock: MockClock) -> None:
    """A value that a codec would encode is not a stored value."""
    row = Typed(AT, UUID(int=1), Colour.BLUE, None, flag=True, share=1.0, more={}, mixed=1)
    async with open_buffers(MemoryStore(), TYPED) as buffers:
        with pytest.raises(
            TypeError, match=r"column 'at': .+ of type datetime cannot be stored; expected str"
        ):
            await buffers[TYPED].enqueue_again([Write(tuple(row))])


@pytest.mark.parametrize("capacity_bytes", [None, 10**6])
async def test_a_cancelled_call_leaves_the_drawn_entries_accepted(
    autojump_clock: MockClock, capacity_bytes: int | None
) -> None:
    """With `capacity_bytes`, one more entry may be drawn, which waits for room."""
    store = MemoryStore()
    store.stop()
    drawn: list[Operation] = []

    def entries() -> Iterator[Operation]:
        for number in range(9):
            drawn.append(Write((str(number), "")))
            yield drawn[-1]

    options = BufferOptions(capacity=4, capacity_bytes=capacity_bytes)
    async with open_buffers(store, LOG, options=options) as buffers:
        with trio.move_on_after(1) as scope:
            await buffers[LOG].enqueue_again(entries())
        assert scope.cancelled_caught
        assert 4 == buffers[LOG].statistics().accepted
        assert (4 if capacity_bytes is None else 5) == len(drawn)
        store.resume()
    assert [(str(number), "") for number in range(4)] == store.rows(LOG)


async def test_a_new_buffer_with_the_same_capacity_has_room_for_all(
    autojump_clock: MockClock,
) -> None:
    """So the call does not wait, even while the database is locked."""
    options = BufferOptions(capacity=7, batch_size=3)
    left = await fail(LOG, [Write(Note(str(number))) for number in range(7)], options)
    store = MemoryStore()
    store.stop()
    async with open_buffers(store, LOG, options=options) as buffers:
        with trio.fail_after(1):
            assert 7 == await buffers[LOG].enqueue_again(left.entries)
        store.resume()
    assert 7 == len(store.rows(LOG))
