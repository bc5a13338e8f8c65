"""Typed reads: rows of a table from a query, all at once or in batches."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import attrs
import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import forebay
from tests.all_types import COLUMNS, EVERYTHING, ROW, STORED, WHEN, Everything, State

# Long enough for a slow machine; no test waits for it unless something is broken.
PATIENCE = 60.0

OTHER = ROW._replace(id=UUID(int=9), iso=WHEN.replace(year=2027), note=UUID(int=3), class_=None)

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
"""A result without an end."""

NUMBERS = forebay.Table.from_columns({"i": int}, name="n")


@pytest.fixture
async def store(path: Path) -> AsyncIterator[forebay.SqliteStore]:
    """A store with one reader, so that a reader that is not released is noticed."""
    async with forebay.open_sqlite(path, create=[EVERYTHING], readers=1) as opened:
        async with forebay.open_buffers(opened, EVERYTHING) as buffers:
            await buffers[EVERYTHING].enqueue_many([ROW, OTHER])
        yield opened


def execute(sql: str, *values: Any) -> Callable[[sqlite3.Connection], None]:
    """Return a function for `SqliteStore.run` that executes a statement."""
    return lambda raw: raw.execute(sql, values).close()


async def assert_reader_is_free(store: forebay.SqliteStore) -> None:
    with trio.fail_after(PATIENCE):
        assert (2,) == await store.fetch_one("SELECT count(*) FROM everything")


# Rows


async def test_rows_of_all_types_come_back_as_they_were_written(
    store: forebay.SqliteStore,
) -> None:
    """In the order of the query. Further columns, the order of columns, and case do not matter."""
    reordered = ", ".join(f'"{name.upper()}"' for name in sorted(COLUMNS))
    for columns in ("*", "rowid, *, 1 AS more", reordered):
        sql = f"SELECT {columns} FROM everything ORDER BY id DESC"  # noqa: S608  # constants
        rows = await store.fetch_all(sql, table=EVERYTHING)
        assert [OTHER, ROW] == rows
        assert [Everything, Everything] == list(map(type, rows))
        assert [list(map(type, OTHER)), list(map(type, ROW))] == [
            list(map(type, row)) for row in rows
        ]
        assert OTHER == await store.fetch_one(sql, table=EVERYTHING)
        async with store.iterate(sql, table=EVERYTHING, batch_size=1) as batches:
            assert [[OTHER], [ROW]] == [batch async for batch in batches]
    assert [STORED] == await store.fetch_all("SELECT * FROM everything ORDER BY id LIMIT 1")


async def test_parameters_and_an_empty_result(store: forebay.SqliteStore) -> None:
    """As in reads without a table."""
    sql = "SELECT * FROM everything WHERE id = ?"
    assert ROW == await store.fetch_one(sql, [str(ROW.id)], table=EVERYTHING)
    assert None is await store.fetch_one(sql, [""], table=EVERYTHING)
    assert [] == await store.fetch_all(sql.replace("?", ":id"), {"id": ""}, table=EVERYTHING)
    async with store.iterate(sql, [""], table=EVERYTHING) as batches:
        assert [] == [batch async for batch in batches]


@dataclasses.dataclass(kw_only=True)
class Data:
    id: UUID
    when: Any
    real: float = 0.0


@attrs.define
class Attributes:
    id: UUID
    _level: int = attrs.field(alias="rank")


class Struct(msgspec.Struct, kw_only=True, frozen=True, rename="upper"):
    id: UUID
    number: int


async def test_rows_of_every_row_type(store: forebay.SqliteStore) -> None:
    """Dataclasses, attrs classes, msgspec Structs and plain tuples, with mapped columns."""
    sql = "SELECT * FROM everything ORDER BY id LIMIT 1"
    data = forebay.Table(Data, name="everything")
    assert Data(id=ROW.id, when=STORED[9], real=ROW.real) == await store.fetch_one(sql, table=data)
    attributes = forebay.Table(Attributes, name="everything", column_names={"_level": "level"})
    assert Attributes(ROW.id, 1) == await store.fetch_one(sql, table=attributes)
    struct = forebay.Table(Struct, name="everything")
    assert Struct(id=ROW.id, number=ROW.number) == await store.fetch_one(sql, table=struct)
    plain = forebay.Table.from_columns({"price": Decimal, "id": UUID}, name="everything")
    assert (Decimal("1.50"), ROW.id) == await store.fetch_one(sql, table=plain)


@dataclasses.dataclass
class Derived:
    a: int
    b: int = dataclasses.field(init=False)


async def test_a_row_type_that_cannot_be_constructed(store: forebay.SqliteStore) -> None:
    """The error names the field. The reader is released."""
    with pytest.raises(TypeError, match="'b' has init=False"):
        await store.fetch_all("SELECT 1 AS a, 2 AS b", table=forebay.Table(Derived, name="t"))
    await assert_reader_is_free(store)


async def test_numbers_and_booleans_as_sqlite_stores_them(store: forebay.SqliteStore) -> None:
    """In a column without a type, SQLite stores a whole float as it is; others may write an int."""
    table = forebay.Table.from_columns({"real": float, "flag": bool, "either": int | str}, name="t")
    [row] = await store.fetch_all("SELECT 1 AS real, 1 AS flag, 'x' AS either", table=table)
    assert (1.0, True, "x") == row
    assert [float, bool, str] == list(map(type, row))


# Errors


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("id, text", "the result does not have column 'number', 'real', .*'class'"),
        ("*, upper(text) AS TEXT", "the result has more than one column 'text'"),
    ],
)
@pytest.mark.parametrize("where", ["1", "0"])
async def test_a_result_that_is_not_one_of_the_table(
    store: forebay.SqliteStore, select: str, message: str, where: str
) -> None:
    """The error names the columns, also if there are no rows."""
    sql = f"SELECT {select} FROM everything WHERE {where}"  # noqa: S608  # constants
    with pytest.raises(ValueError, match=message):
        await store.fetch_all(sql, table=EVERYTHING)
    with pytest.raises(ValueError, match=message):
        async with store.iterate(sql, table=EVERYTHING):
            pass
    await assert_reader_is_free(store)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("state", "old", "cannot decode 'old': 'old' is not a valid State"),
        ("mixed", "C", "cannot decode 'C': 'C'"),
        ("when", "soon", "cannot decode 'soon': Invalid isoformat string: 'soon'"),
        ("seconds", "x", "cannot decode 'x': it is not stored as int"),
        ("payload", "{", "cannot decode '{': Expecting property name"),
        ("payload", "[]", r"cannot decode '\[\]': expected dict, got \[\]"),
        ("id16", b"\0", "cannot decode .*: bytes is not a 16-char string"),
        ("several", 1.5, "cannot decode 1.5: expected str or int, got float"),
        ("number", "x", "cannot decode 'x': expected int, got str"),
        ("real", "x", "cannot decode 'x': expected float, got str"),
        ("text", b"x" * 1000, "cannot decode b'x{198}…: expected str, got bytes"),
    ],
)
async def test_a_value_that_does_not_decode(
    store: forebay.SqliteStore, column: str, value: Any, message: str
) -> None:
    """The error has the table, the column, the value, and the rowid or the key of the row."""
    await store.run(
        execute(f'UPDATE everything SET "{column}" = ? WHERE id = ?', value, str(OTHER.id))  # noqa: S608  # constants
    )
    for select, where in (("*", f"key id='{OTHER.id}'"), ("rowid, *", "rowid 2")):
        sql = f"SELECT {select} FROM everything ORDER BY id"  # noqa: S608  # constants
        expected = rf"^table 'everything', column '{column}', {where}: {message}"
        with pytest.raises(forebay.DecodeError, match=expected) as caught:
            await store.fetch_all(sql, table=EVERYTHING)
        error = caught.value
        assert ("everything", column, value) == (error.table, error.column, error.value)
        assert isinstance(error.__cause__, Exception)
        async with store.iterate(sql, table=EVERYTHING, batch_size=1) as batches:
            assert [ROW] == await anext(batches)
            with pytest.raises(forebay.DecodeError, match=expected):
                await anext(batches)
            with pytest.raises(trio.ClosedResourceError, match="could not be read"):
                await anext(batches)
    await assert_reader_is_free(store)


async def test_null_in_a_column_that_does_not_allow_it(store: forebay.SqliteStore) -> None:
    """A table without a key names no row. A mapped column is named with its field."""
    sql = "SELECT 1 AS i UNION ALL SELECT NULL"
    with pytest.raises(forebay.DecodeError, match=r"unknown row.*decode NULL: expected") as one:
        await store.fetch_all(sql, table=NUMBERS)
    assert ("i", None) == (one.value.column, one.value.value)
    mapped = forebay.Table(Attributes, name="t", column_names={"_level": "i"})
    with pytest.raises(forebay.DecodeError, match=r"column 'i' \(field '_level'\)"):
        await store.fetch_all(f"SELECT '{ROW.id}' AS id, NULL AS i", table=mapped)  # ours
    nullable = forebay.Table.from_columns({"i": int | None}, name="n")
    assert [(1,), (None,)] == await store.fetch_all(sql, table=nullable)


async def test_a_codec_that_raises_an_error_of_its_own(store: forebay.SqliteStore) -> None:
    """Whatever it is, the error names the place."""
    inverse = forebay.Codec(encode=int, decode=lambda n: 1 // n, storage=int)
    table = forebay.Table.from_columns({"n": Annotated[int, inverse]}, name="t")
    with pytest.raises(forebay.DecodeError, match="table 't', column 'n'") as caught:
        await store.fetch_all("SELECT 0 AS n", table=table)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("table", [None, NUMBERS])
async def test_a_statement_that_does_more_than_read_is_refused(
    store: forebay.SqliteStore, table: Any
) -> None:
    """The same as in reads without a table, and of a whole result."""
    with pytest.raises(sqlite3.DatabaseError, match=r"may only read.*store\.run"):
        await store.fetch_all("DELETE FROM everything RETURNING 1 AS i", table=table)
    with pytest.raises(sqlite3.DatabaseError, match=r"may only read.*store\.run"):
        async with store.iterate("BEGIN", table=table):
            pass
    with pytest.raises(sqlite3.OperationalError, match=r"^no such table: missing$"):
        async with store.iterate("SELECT * FROM missing", table=table):
            pass
    await assert_reader_is_free(store)


# Batches


@pytest.mark.parametrize("table", [None, NUMBERS])
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_batches_have_all_rows_in_order(
    store: forebay.SqliteStore, table: Any, size: int
) -> None:
    """Each has the given number of rows, except the last."""
    async with store.iterate(f"{FOREVER} LIMIT 7", table=table, batch_size=size) as batches:
        found = [batch async for batch in batches]
        with pytest.raises(StopAsyncIteration):
            await anext(batches)
    assert [(i,) for i in range(1, 8)] == [row for batch in found for row in batch]
    assert {size} >= {len(batch) for batch in found[:-1]}
    assert len(found[-1]) <= size


async def test_a_result_is_one_snapshot_and_is_not_held(store: forebay.SqliteStore) -> None:
    """Rows that are written while it is read are not in it."""
    await store.run(execute("CREATE TABLE n (i INTEGER)"))
    await store.run(execute(f"INSERT INTO n {FOREVER} LIMIT 5000"))
    count = 0
    async with store.iterate("SELECT i FROM n", table=NUMBERS, batch_size=100) as batches:
        async for rows in batches:
            count += len(rows)
            await store.run(execute("INSERT INTO n VALUES (?)", count))
    assert 5000 == count
    assert (5050,) == await store.fetch_one("SELECT count(*) FROM n")
    async with store.iterate(FOREVER) as batches:  # without an end: nobody can hold it
        assert 1000 == len(await anext(batches))


@pytest.mark.parametrize("table", [None, NUMBERS])
async def test_the_reader_is_released_however_the_block_is_left(
    store: forebay.SqliteStore, table: Any
) -> None:
    """By its end, break, return, an error, and a cancellation outside a call."""

    async def leave(how: str) -> None:
        async with store.iterate(FOREVER, table=table) as batches:
            async for _ in batches:
                if how == "break":
                    break
                if how == "return":
                    return
                if how == "error":
                    raise KeyError(how)
                await trio.sleep_forever()

    await leave("break")
    await assert_reader_is_free(store)
    await leave("return")
    await assert_reader_is_free(store)
    with pytest.raises(KeyError):
        await leave("error")
    await assert_reader_is_free(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave, "cancelled")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await assert_reader_is_free(store)


class Entered:
    """A codec that sets an event when it decodes a value."""

    def __init__(self) -> None:
        self.event = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def codec(self) -> forebay.Codec[int]:
        return forebay.Codec(encode=int, decode=self._decode, storage=int)

    def _decode(self, value: int) -> int:
        if not self.event.is_set():  # once: it keeps the event loop busy
            self._token.run_sync_soon(self.event.set)
        return value


@pytest.mark.parametrize("call", ["fetch_all", "fetch_one", "open", "batch"])
async def test_a_cancelled_read_interrupts_its_query(store: forebay.SqliteStore, call: str) -> None:
    """The query would never end. Its reader, the only one, serves the next query."""
    endless = FOREVER.replace("SELECT i FROM n", "SELECT max(i) AS i FROM n")
    entered = Entered()
    table = forebay.Table.from_columns({"i": Annotated[int, entered.codec()]}, name="n")

    async def read() -> None:
        if call == "fetch_all":
            await store.fetch_all(FOREVER, table=table)
        elif call == "fetch_one":
            await store.fetch_one(endless, table=table)
        else:
            begins = FOREVER if call == "batch" else endless
            async with store.iterate(
                f"{begins} WHERE i < 3 OR i > 1e15" if call == "batch" else begins,
                table=table,
                batch_size=1,
            ) as batches:
                async for _ in batches:
                    pass

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            if call in ("fetch_all", "batch"):
                await entered.event.wait()
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        await assert_reader_is_free(store)


@pytest.mark.parametrize("steps", range(12))
async def test_an_iteration_that_is_cancelled_at_any_checkpoint(
    store: forebay.SqliteStore, steps: int
) -> None:
    """Its reader, the only one, is free again."""

    async def cancel_after(scope: trio.CancelScope) -> None:
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async def iterate() -> None:
        async with store.iterate(f"{FOREVER} LIMIT 5", table=NUMBERS, batch_size=2) as batches:
            async for _ in batches:
                await trio.lowlevel.checkpoint()

    for _ in range(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_after, nursery.cancel_scope)
            for _ in range(3):
                nursery.start_soon(iterate)
        await assert_reader_is_free(store)


async def test_an_iteration_holds_a_reader(store: forebay.SqliteStore) -> None:
    """With one reader, other reads wait until the block is left."""
    async with trio.open_nursery() as nursery, store.iterate(FOREVER):
        nursery.start_soon(assert_reader_is_free, store)
        await wait_all_tasks_blocked()
        assert 1 == len(nursery.child_tasks)


async def test_batches_end_with_their_block(store: forebay.SqliteStore) -> None:
    """A later call says so, instead of an end of the result."""
    async with store.iterate(FOREVER) as batches:
        await anext(batches)
    with pytest.raises(trio.ClosedResourceError, match="has been left"):
        await anext(batches)


async def test_an_iteration_of_a_closed_store_and_another_thread(path: Path) -> None:
    """They are refused, as other calls are; a block within a closed store ends all the same."""
    async with forebay.open_sqlite(path) as store:
        with pytest.raises(ValueError, match="batch_size=0: expected a whole number, 1 or more"):
            store.iterate(FOREVER, batch_size=0)
        with pytest.raises(RuntimeError, match="belongs to the thread"):
            await trio.to_thread.run_sync(store.iterate, FOREVER)
    with pytest.raises(trio.ClosedResourceError):
        async with store.iterate(FOREVER):
            pass


async def test_closing_the_store_waits_for_an_iteration(path: Path) -> None:
    """As for other reads: the block of another task is cancelled with the store's, and ends."""
    left = 0

    async def iterate(
        store: forebay.SqliteStore, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        nonlocal left
        try:
            async with store.iterate(FOREVER) as batches:
                await anext(batches)
                task_status.started()
                async for _ in batches:
                    pass
        finally:
            left += 1

    with trio.fail_after(PATIENCE):
        async with (
            forebay.open_sqlite(path) as store,
            trio.open_nursery() as nursery,
        ):
            for _ in range(3):
                await nursery.start(iterate, store)
            nursery.cancel_scope.cancel()
    assert 3 == left
    assert [path] == list(path.parent.iterdir())


async def test_a_parameter_is_bound_as_it_is_stored(tmp_path: Path) -> None:
    """`sqlite3` itself would write another text for a datetime."""
    table, row = EVERYTHING, ROW
    async with (
        forebay.open_sqlite(tmp_path / "b.db", create=[table]) as store,
        forebay.open_buffers(store, table) as buffers,
    ):
        await buffers[table].write(row)
        for column in table.columns:
            value = getattr(row, column.field)
            sql = f'SELECT * FROM "{table.name}" WHERE "{column.name}" IS ?'  # noqa: S608  # a test's table
            found = await store.fetch_all(sql, [table.stored(column.field, value)], table=table)
            assert found == [row], column
    with pytest.raises(ValueError, match="nothing"):
        table.stored("nothing", 1)


@pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1)])
async def test_a_date_as_a_parameter_is_refused(tmp_path: Path, value: date) -> None:
    """In a sequence and in a mapping, by each of the calls."""
    async with forebay.open_sqlite(tmp_path / "b.db") as store:
        for sql, parameters in (("SELECT ?", [value]), ("SELECT :a", {"a": value})):
            with pytest.raises(TypeError):
                await store.fetch_all(sql, parameters)
            with pytest.raises(TypeError):
                await store.fetch_one(sql, parameters)
            with pytest.raises(TypeError):
                store.iterate(sql, parameters)


class Foreign(NamedTuple):
    """A row of a table that another tool created."""

    id: UUID
    made: datetime
    iso: Annotated[datetime, forebay.Iso8601]
    day: date
    at: time
    data: Annotated[dict[str, Any], forebay.Json]
    tags: Annotated[list[int], forebay.Json]


FOREIGN = forebay.Table(Foreign, name="foreign", key="id", delete_by="day")


async def test_the_column_types_of_other_tools_are_accepted(tmp_path: Path) -> None:
    """SQLite gives them numeric affinity, which leaves texts of these formats as they are."""
    path = tmp_path / "b.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(
            'CREATE TABLE "foreign" (id UUID PRIMARY KEY, made DATETIME, iso TIMESTAMP, day DATE, '
            "at TIME, data JSON, tags JSON)"
        )
    row = Foreign(
        UUID("12345678-9012-3456-7890-123456789012"),
        WHEN,
        WHEN,
        WHEN.date(),
        WHEN.time(),
        {},
        [5],
    )
    async with forebay.open_sqlite(path) as store, forebay.open_buffers(store, FOREIGN) as buffers:
        buffer = buffers[FOREIGN]
        await buffer.write(row)
        assert await store.fetch_all('SELECT * FROM "foreign"', table=FOREIGN) == [row]
        assert await buffer.get(row.id) == row
        await buffer.enqueue_delete_by(row.day)
        await buffer.flush()
        assert await store.fetch_all('SELECT * FROM "foreign"') == []


@pytest.mark.parametrize("annotation", [Decimal, Annotated[Any, forebay.Json], State])
async def test_a_text_that_may_be_a_number_needs_a_column_of_texts(
    tmp_path: Path, annotation: Any
) -> None:
    """A column declared DECIMAL or JSON would store "1.0" as 1."""
    table = forebay.Table.from_columns({"id": int, "v": annotation}, name="t", key="id")
    with closing(sqlite3.connect(tmp_path / "b.db")) as raw:
        raw.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v JSON)")
    async with forebay.open_sqlite(tmp_path / "b.db") as store:
        with pytest.raises(forebay.SchemaError):
            async with forebay.open_buffers(store, table):
                pass


@pytest.mark.parametrize("table", ["everything", Everything])
async def test_what_is_not_a_table_is_refused(tmp_path: Path, table: Any) -> None:
    """By its value, before a connection is used."""
    async with forebay.open_sqlite(tmp_path / "b.db") as store:
        with pytest.raises(TypeError, match="verything"):
            await store.fetch_all("SELECT 1", table=table)
        with pytest.raises(TypeError, match="verything"):
            store.iterate("SELECT 1", table=table)
        with pytest.raises(ValueError, match=r"1\.5"):
            store.iterate("SELECT 1", batch_size=1.5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"1\.5"):
        async with forebay.open_sqlite(tmp_path / "b.db", readers=1.5):  # type: ignore[arg-type]
            pass
