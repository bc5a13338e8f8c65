"""The definition of correct: a table ends as if each operation had been executed alone, in order.

This holds for every table, for all operations, and for every division into bursts and batches.
"""

from __future__ import annotations

import math
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from forebay import (
    Buffer,
    BufferOptions,
    FlushReason,
    Keep,
    Sum,
    Table,
    Write,
    open_buffers,
    open_sqlite,
)
from forebay._batching.coalesce import Coalescer, split_batch
from forebay._table.operations import Entry, Operation
from forebay._table.validation import RowValidator
from forebay.stores import Batch
from forebay.stores.sqlite._ddl import create_sql
from forebay.stores.sqlite._statements import statements
from forebay.testing import MemoryStore
from tests import buffer_calls, one_by_one
from tests.random_tables import Drawn, operations, tables, write


def expected_rows(drawn: Drawn, accepted: Sequence[Operation]) -> list[tuple[Any, ...]]:
    """Return the rows of the table after each operation was executed alone."""
    return one_by_one.rows_after(drawn.ddl, drawn.table, accepted)


def entry_of(table: Table[Any], operation: Operation) -> Entry:
    """Return the entry that a buffer stores for an operation."""
    if isinstance(operation, Write):
        return tuple(RowValidator(table).validate_row(operation.row))
    return operation


def splits(count: int) -> st.SearchStrategy[list[int]]:
    """Generate sorted positions at which to split a list of this length."""
    return st.lists(st.integers(0, count), max_size=6).map(sorted)


def split(items: Sequence[Any], positions: Sequence[int]) -> list[Sequence[Any]]:
    """Split a list at these positions."""
    return [items[a:b] for a, b in zip((0, *positions), (*positions, len(items)), strict=True)]


@given(st.data())
def test_batches_have_the_result_of_single_operations(data: st.DataObject) -> None:
    """The division into bursts, batches and halves of batches does not change the result."""
    drawn = data.draw(tables())
    accepted = data.draw(operations(drawn))
    entries = [entry_of(drawn.table, operation) for operation in accepted]
    coalescer = Coalescer(drawn.table)
    batches = []
    for burst in split(entries, data.draw(splits(len(entries)))):
        coalescer.add(burst, only_rows=all(isinstance(entry, tuple) for entry in burst))
        if data.draw(st.booleans()):
            batches.append(coalescer.take(FlushReason.FULL))
    batches.append(coalescer.take(FlushReason.DRAIN))
    batches = [
        part
        for batch in batches
        for part in (
            split_batch(batch) if batch.entries > 1 and data.draw(st.booleans()) else [batch]
        )
    ]
    variables = data.draw(st.sampled_from([5, 11, 999]))

    expected = expected_rows(drawn, accepted)

    assert len(accepted) == sum(batch.entries for batch in batches)
    assert expected == in_sqlite(drawn, batches, variables)
    assert expected == trio.run(in_memory, drawn, batches)


def in_sqlite(drawn: Drawn, batches: Sequence[Batch], variables: int) -> list[tuple[Any, ...]]:
    """Return the rows of a SQLite table after these batches."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as raw:
        raw.execute(drawn.ddl)
        for batch in batches:
            for step in batch.steps:
                for statement in statements(drawn.table, step, variables=variables):
                    raw.execute(statement.sql, statement.parameters)
        return one_by_one.rows_of(raw, drawn.table)


async def in_memory(drawn: Drawn, batches: Sequence[Batch]) -> list[tuple[Any, ...]]:
    """Return the rows of a `MemoryStore` after these batches."""
    store = MemoryStore()
    for batch in batches:
        await store.begin(batch).commit(rejection_limit=math.inf)
    return store.rows(drawn.table)


async def enqueue(buffer: Buffer[Any], run: Sequence[Operation]) -> None:
    """Enqueue operations: together if all of them are writes, otherwise one by one."""
    if all(isinstance(operation, Write) for operation in run):
        assert len(run) == await buffer.enqueue_many(o.row for o in run if isinstance(o, Write))
        return
    for operation in run:
        await buffer_calls.enqueue(buffer, operation)


def options() -> st.SearchStrategy[BufferOptions]:
    """Generate options with which a few entries fill a buffer or a batch."""
    return st.builds(
        BufferOptions,
        capacity=st.sampled_from([1, 2, 5, 100]),
        batch_size=st.sampled_from([1, 2, 3, 100]),
        flush_interval=st.sampled_from([0.0, 0.001, math.inf]),
    )


@st.composite
def programs(draw: st.DrawFn) -> tuple[Drawn, list[Sequence[Operation]], list[bool]]:
    """Generate a table, runs of operations, and for each run whether a flush follows."""
    drawn = draw(tables())
    accepted = draw(operations(drawn))
    runs = split(accepted, draw(splits(len(accepted))))
    return drawn, runs, draw(st.lists(st.booleans(), min_size=len(runs), max_size=len(runs)))


async def run_program(
    store: Any, drawn: Drawn, runs: list[Sequence[Operation]], flushes: list[bool], o: BufferOptions
) -> None:
    """Enqueue all runs in a buffer, and let it drain."""
    async with open_buffers(store, drawn.table, options=o) as buffers:
        buffer = buffers[drawn.table]
        for run, flush in zip(runs, flushes, strict=True):
            await enqueue(buffer, run)
            if flush:
                await buffer.flush()
                assert 0 == buffer.statistics().pending
    seen = buffer.statistics()
    assert (sum(map(len, runs)), 0) == (seen.accepted, seen.pending)
    assert seen.accepted == seen.committed + seen.superseded


def create(raw: sqlite3.Connection, drawn: Drawn) -> None:
    """Create the table."""
    raw.execute(drawn.ddl)


@given(programs(), options())
def test_a_buffer_on_a_file_has_the_result_of_single_operations(
    program: tuple[Drawn, list[Sequence[Operation]], list[bool]], o: BufferOptions
) -> None:
    """The entries go through the whole library into a real file."""
    drawn, runs, flushes = program

    async def main(path: Path) -> None:
        async with open_sqlite(path) as store:
            await store.run(create, drawn)
            await run_program(store, drawn, runs, flushes, o)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.db")
        trio.run(main, path)
        with closing(sqlite3.connect(path)) as raw:
            actual = one_by_one.rows_of(raw, drawn.table)

    assert expected_rows(drawn, [operation for run in runs for operation in run]) == actual


@given(programs(), options())
def test_a_buffer_in_memory_has_the_result_of_single_operations(
    program: tuple[Drawn, list[Sequence[Operation]], list[bool]], o: BufferOptions
) -> None:
    """The store for tests has the same results as the SQLite store."""
    drawn, runs, flushes = program
    store = MemoryStore(delay=0.0005)

    trio.run(run_program, store, drawn, runs, flushes, o, clock=MockClock(autojump_threshold=0))

    expected = expected_rows(drawn, [operation for run in runs for operation in run])
    assert expected == store.rows(drawn.table)


SUMS = Table.from_columns(
    {"k": str, "i": int | None, "f": float | None, "r": int},
    name="t",
    key="k",
    merge={"i": Sum, "f": Sum},
    delete_by="r",
)
LARGEST, SMALLEST = 2**63 - 1, -(2**63)
AT_THE_BORDERS: dict[str, list[Any]] = {
    "k": ["a"],
    "i": [None, 0, 5, -10, 2**62, LARGEST, LARGEST - 5, SMALLEST + 1],
    "f": [None, 0.0, 1.5, -2.0, 1e308, -1e308, math.inf, -math.inf],
    "r": [1, 2],
}


def batches_of(table: Table[Any], runs: Sequence[Sequence[Operation]]) -> list[Batch]:
    """Return a batch for each run of operations."""
    batches = []
    coalescer = Coalescer(table)
    for run in runs:
        coalescer.add([entry_of(table, operation) for operation in run], only_rows=False)
        batches.append(coalescer.take(FlushReason.FULL))
    return batches


def keys_of_floats(drawn: Drawn, accepted: Sequence[Operation]) -> set[str]:
    """Return the keys whose sum of integers is a float after some operation executed alone."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as raw:
        raw.execute(drawn.ddl)
        found = set()
        for operation in accepted:
            one_by_one.execute(raw, drawn.table, [operation])
            found |= set(raw.execute("SELECT k FROM t WHERE typeof(i) = 'real'"))
        return {key for (key,) in found}


@given(st.data())
def test_sums_at_the_borders_of_their_types_have_the_result_of_single_operations(
    data: st.DataObject,
) -> None:
    """No order of additions makes a sum a float, or infinite, that is not when added one by one.

    Once a sum of integers is a float, only its last digits may differ.
    """
    drawn = Drawn(SUMS, create_sql(SUMS), AT_THE_BORDERS)
    writes = st.lists(write(drawn), max_size=12)
    accepted: Sequence[Operation] = data.draw(operations(drawn, at_most=12) | writes)
    floats = keys_of_floats(drawn, accepted)

    alone = in_sqlite(drawn, batches_of(SUMS, [[operation] for operation in accepted]), 999)
    runs = split(accepted, data.draw(splits(len(accepted))))
    together = in_sqlite(drawn, batches_of(SUMS, runs), 999)

    assert [row[0] for row in alone] == [row[0] for row in together]
    for row, other in zip(alone, together, strict=True):
        if row[0] in floats:
            assert math.isclose(row[1] or 0, other[1] or 0, abs_tol=1e5, rel_tol=1e-15)
        else:
            assert repr(row[1]) == repr(other[1])
        assert repr(row[2:]) == repr(other[2:])


@pytest.mark.parametrize(
    "values",
    [
        [-10, LARGEST, 5],
        [LARGEST, 5, -10],
        [LARGEST, -10, 5],
        [SMALLEST, -1, 1],
        [None, LARGEST, None, 1, -1],
    ],
)
@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_sum_of_integers_is_exact_if_it_is_when_added_one_by_one(
    values: Sequence[int | None], first: int
) -> None:
    """However the rows are divided into batches, an integer stays an integer."""
    drawn = Drawn(SUMS, create_sql(SUMS), {})
    rows = [Write(("a", value, None, 1)) for value in values]

    [(_, alone, *_)] = in_sqlite(drawn, batches_of(SUMS, [[row] for row in rows]), 999)
    [(_, together, *_)] = in_sqlite(drawn, batches_of(SUMS, [rows[:first], rows[first:]]), 999)

    assert repr(alone) == repr(together)


ZEROS = Table.from_columns(
    {"k": float, "part": int, "v": float}, name="t", key=("part", "k"), delete_by="v"
)
ZEROS_DDL = "CREATE TABLE t (k, part, v, UNIQUE (k, part))"  # columns without affinity keep -0.0


async def in_a_table_of_zeros(accepted: Sequence[Operation], batch_size: int) -> list[str]:
    """Return the rows of a table, in which -0.0 and 0.0 look different."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_sqlite(Path(folder, "t.db")) as store:
            await store.run(lambda raw: raw.execute(ZEROS_DDL).close())
            options = BufferOptions(batch_size=batch_size, flush_interval=math.inf)
            async with open_buffers(store, ZEROS, options=options) as buffers:
                await enqueue(buffers[ZEROS], accepted)
            return [repr(row) for row in await store.fetch_all("SELECT * FROM t ORDER BY part")]


@given(
    operations(
        Drawn(ZEROS, ZEROS_DDL, {"k": [0.0, -0.0], "part": [1, 2], "v": [0.0, -0.0, 1.0]}),
        at_most=8,
    )
)
def test_the_size_of_batches_does_not_change_which_zero_is_stored(
    accepted: list[Operation],
) -> None:
    """-0.0 and 0.0 are one key, which the table has in one form."""
    alone = trio.run(in_a_table_of_zeros, accepted, 1)
    assert alone == trio.run(in_a_table_of_zeros, accepted, 100)


GUARDED = Table.from_columns(
    {"k": str, "a": int, "s": int, "kept": int},
    name="t",
    key="k",
    merge={"s": Sum, "kept": Keep},
    delete_by="a",
    coalesce=False,
)
GUARDED_DDL = """CREATE TABLE t (
    k TEXT PRIMARY KEY, a INTEGER UNIQUE CHECK (a <> 3), s INTEGER CHECK (s < 9), kept INTEGER
)"""
SMALL: dict[str, list[Any]] = {"k": ["x", "y"], "a": [1, 2, 3], "s": [1, 5], "kept": [1, 2]}
REFUSABLE = operations(Drawn(GUARDED, GUARDED_DDL, SMALL), at_most=12)


async def in_a_guarded_table(
    accepted: Sequence[Operation], batch_size: int
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return the rows of a table that refuses some entries, and the dead letters in order."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_sqlite(Path(folder, "t.db")) as store:
            await store.run(lambda raw: raw.execute(GUARDED_DDL).close())
            options = BufferOptions(batch_size=batch_size, flush_interval=math.inf)
            async with open_buffers(store, GUARDED, options=options) as buffers:
                await enqueue(buffers[GUARDED], accepted)
            seen = buffers[GUARDED].statistics()
            assert (len(accepted), 0) == (seen.accepted, seen.pending)
            letters: list[tuple[Any, ...]] = []
            if seen.dead_lettered:
                letters = await store.fetch_all(
                    "SELECT operation, entry FROM forebay_dead_letters ORDER BY id"
                )
            return await store.fetch_all("SELECT * FROM t ORDER BY k"), letters


@given(REFUSABLE)
def test_without_coalescing_each_entry_is_committed_or_refused_alone(
    accepted: list[Operation],
) -> None:
    """The size of the batches does not change which rows the table refuses."""
    alone = trio.run(in_a_guarded_table, accepted, 1)
    assert alone == trio.run(in_a_guarded_table, accepted, 100)


async def test_a_refused_row_does_not_change_the_next_row_of_its_key() -> None:
    """Without coalescing, a refused row is not added to a sum."""
    rows, letters = await in_a_guarded_table([Write(("x", 3, 1, 1)), Write(("x", 1, 5, 2))], 100)
    assert [("x", 1, 5, 2)] == rows
    assert 1 == len(letters)
