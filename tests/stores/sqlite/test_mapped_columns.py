"""Fields whose columns have another name: programs name fields, SQL and entries name columns."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import attrs
import msgspec
import pytest

import forebay
from forebay import (
    BufferOptions,
    Delete,
    DeleteBy,
    FlushError,
    Index,
    SchemaError,
    Table,
    Update,
    Write,
    dead_letters,
    open_buffers,
    open_sqlite,
)
from forebay._spill.reading import read_spill
from forebay._table.json_format import decode_operation
from forebay._table.operations import Operation
from forebay.stores import FailureKind, Store
from forebay.testing import MemoryStore

NAMES = {
    "class_": "class",
    "from_": "from",
    "count_": "the count",
    "first": "last",
    "last": "first",
}


class Mail(NamedTuple):
    class_: str
    from_: str
    count_: int
    first: int
    last: int
    note: str | None = None


@dataclasses.dataclass
class MailData:
    class_: str
    from_: str
    count_: int
    first: int
    last: int
    note: str | None = None


@attrs.define
class MailAttrs:
    class_: str
    from_: str
    count_: int
    first: int
    last: int
    note: str | None = None


class MailStruct(msgspec.Struct):
    class_: str
    from_: str
    count_: int
    first: int
    last: int
    note: str | None = None


def mails(row_type: type[Any] = Mail, **arguments: Any) -> Table[Any]:
    """Declare a table with a key of two columns, rules, `delete_by` and an index."""
    declared: dict[str, Any] = {
        "name": "mails",
        "key": ("from_", "class_"),
        "merge": {"count_": forebay.Sum, "first": forebay.Min, "last": forebay.Max},
        "delete_by": "class_",
        "column_names": NAMES,
        "indexes": [Index("count_", where='"the count" > 1')],
        **arguments,
    }
    return Table(row_type, **declared)


async def write(store: Store, table: Table[Any]) -> None:
    """Use all calls of a buffer, so that rows meet in memory and in the table."""
    row = table.row_type
    async with open_buffers(store, table) as buffers:
        buffer = buffers[table]
        for flushes in (False, True):
            await buffer.enqueue(row("a", "x", 1, 5, 5))
            await buffer.enqueue_many([row("a", "x", 2, 7, 7), row("a", "y", 4, 1, 1)])
            if flushes:
                await buffer.flush()
            await buffer.enqueue_update(("x", "a"), last=6, note="n")
            await buffer.write(row("a", "x", 3, 6, 4, "m"))
            await buffer.enqueue(row("b", "x", 1, 1, 1))
            await buffer.enqueue(row("c", "x", 1, 1, 1))
            if flushes:
                await buffer.flush()
            await buffer.enqueue_delete_by("b")
            await buffer.enqueue_delete(("x", "c"))


COLUMNS = ["class", "from", "the count", "last", "first", "note"]
ROWS = [("a", "x", 12, 5, 6, "m"), ("a", "y", 8, 1, 1, None)]


@pytest.mark.parametrize("row_type", [Mail, MailData, MailAttrs, MailStruct])
async def test_all_calls_write_the_columns(tmp_path: Path, row_type: type[Any]) -> None:
    """The file has the columns' names, and `MemoryStore` has the same rows."""
    table = mails(row_type)
    async with open_sqlite(tmp_path / "a.db", create=[table]) as store:
        await write(store, table)
        info = await store.fetch_all("SELECT name, pk FROM pragma_table_info('mails')")
        assert COLUMNS == [name for name, _ in info]
        assert {"from": 1, "class": 2} == {name: key for name, key in info if key}
        assert ROWS == await store.fetch_all('SELECT * FROM mails ORDER BY "from"')
    memory = MemoryStore()
    await write(memory, table)
    assert ROWS == memory.rows(table)


@pytest.mark.parametrize("row_type", [Mail, MailData, MailAttrs, MailStruct])
async def test_rows_are_read_by_field(tmp_path: Path, row_type: type[Any]) -> None:
    """Pending entries and rows of the file have the names of columns, a row has fields."""
    table = mails(row_type)
    async with (
        open_sqlite(tmp_path / "a.db", create=[table]) as store,
        open_buffers(store, table) as buffers,
    ):
        buffer = buffers[table]
        await buffer.write(row_type("a", "x", 1, 5, 6))
        await buffer.enqueue(row_type("a", "x", 1, 4, 7))
        assert row_type("a", "x", 2, 4, 7) == await buffer.get(("x", "a"))
        await buffer.enqueue_update(("x", "a"), count_=9, first=2)
        assert row_type("a", "x", 9, 2, 7) == await buffer.get(("x", "a"))
        await buffer.flush()
        assert row_type("a", "x", 9, 2, 7) == await buffer.get(("x", "a"))


@pytest.mark.parametrize("coalesce", [True, False])
async def test_a_mapped_table_is_the_table_with_those_columns(
    tmp_path: Path, coalesce: bool
) -> None:
    """It ends as a table does whose fields have the names of the columns."""
    plain = Table.from_columns(
        dict(zip(COLUMNS, (str, str, int, int, int, str | None), strict=True)),
        name="mails",
        key=("from", "class"),
        merge={"the count": forebay.Sum, "last": forebay.Min, "first": forebay.Max},
        delete_by="class",
        coalesce=coalesce,
    )
    async with open_sqlite(tmp_path / "a.db", create=[plain]) as store:
        async with open_buffers(store, plain) as buffers:
            await buffers[plain].write(("z", "z", 1, 1, 1, None))
        await write(store, mails(coalesce=coalesce, indexes=()))
        rows = await store.fetch_all('SELECT * FROM mails ORDER BY "from"')
        assert [*ROWS, ("z", "z", 1, 1, 1, None)] == rows


async def test_errors_name_the_column_and_its_field() -> None:
    """A program sees which argument is wrong, and which column of the file it is."""
    table = mails()
    async with open_buffers(MemoryStore(), table) as buffers:
        buffer = buffers[table]
        wrong: Any = Mail("a", "b", "c", 1, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match=r"column 'the count' \(field 'count_'\): expected int"):
            await buffer.enqueue(wrong)
        with pytest.raises(TypeError, match=r"column 'first' \(field 'last'\): expected int"):
            await buffer.enqueue_update(("a", "b"), last="x")
        with pytest.raises(TypeError, match=r"\(count_, first, last, note\), got 'the count'"):
            await buffer.enqueue_update(("a", "b"), **{"the count": 1})
        with pytest.raises(TypeError, match=r"column 'from' \(field 'from_'\): expected str"):
            await buffer.enqueue_delete((1, "a"))
        with pytest.raises(TypeError, match=r"column 'class' \(field 'class_'\): expected str"):
            await buffer.enqueue_delete_by(1)


async def test_errors_of_the_schema_name_the_column_and_its_field(tmp_path: Path) -> None:
    """The SQL has the column's name."""
    table = mails(merge=forebay.Keep, delete_by=None, indexes=())
    async with open_sqlite(tmp_path / "a.db") as store:
        await store.run(lambda raw: raw.execute('CREATE TABLE mails ("from", "class")').close())
        with pytest.raises(
            SchemaError, match=r"no column 'the count' \(field 'count_'\), 'last' \(f"
        ):
            await store.prepare([table])
    with pytest.raises(
        SchemaError, match=r"no column 'the count' \(field 'count_'\), which alter="
    ):
        async with open_sqlite(tmp_path / "a.db", create=[table], alter=True):
            raise AssertionError


BAD = ("bad", "x", 1, 1, 1, None)
REFUSED = [
    Write(BAD),
    Update(("x", "a"), {"first": -1}),
]


async def test_dead_letters_have_the_names_of_columns(tmp_path: Path) -> None:
    """So a replay needs no declaration; with the program's table they are decoded too."""
    table = mails()
    async with open_sqlite(tmp_path / "a.db", create=[table]) as store:
        await store.run(
            lambda raw: raw.execute(
                "CREATE TRIGGER t BEFORE INSERT ON mails WHEN new.class = 'bad' "
                "BEGIN SELECT RAISE(ABORT, 'bad'); END"
            ).close()
        )
        await store.run(
            lambda raw: raw.execute(
                'CREATE TRIGGER u BEFORE UPDATE ON mails WHEN new."first" < 0 '
                "BEGIN SELECT RAISE(ABORT, 'bad'); END"
            ).close()
        )
        async with open_buffers(store, table) as buffers:
            await buffers[table].write(Mail("a", "x", 1, 1, 1))
            await buffers[table].enqueue(Mail("bad", "x", 1, 1, 1))
            await buffers[table].flush()
            await buffers[table].enqueue_update(("x", "a"), last=-1)
        letters = await dead_letters.fetch(store)
        assert [
            {"write": dict(zip(COLUMNS, BAD, strict=True))},
            {"update": {"key": {"from": "x", "class": "a"}, "set": {"first": -1}}},
        ] == [json.loads(letter.entry) for letter in letters]
        assert REFUSED == [letter.decode()[1] for letter in letters]
        assert REFUSED == [decode_operation(table, letter.entry) for letter in letters]
        await store.run(lambda raw: raw.execute("DROP TRIGGER t").close())
        await store.run(lambda raw: raw.execute("DROP TRIGGER u").close())
        result = await dead_letters.replay(store)
        assert 2 == len(result.replayed)
        rows = await store.fetch_all('SELECT class, "first" FROM mails ORDER BY class')
        assert [("a", -1), ("bad", 1)] == rows


async def test_entries_in_errors_and_spills_have_the_names_of_columns(tmp_path: Path) -> None:
    """The error, and the spill that is replayed into the table."""
    table, spill = mails(), tmp_path / "left.spill"
    entries: list[Operation] = [
        Write(("a", "x", 1, 2, 3, None)),
        Update(("y", "b"), {"the count": 7, "last": 1}),
        Delete(("x", "c")),
        DeleteBy("d"),
    ]
    store = MemoryStore()
    store.fail_next(FailureKind.FATAL)
    with pytest.raises(FlushError) as caught:
        async with open_buffers(
            store, table, options=BufferOptions(flush_interval=60), spill=spill
        ) as buffers:
            buffer = buffers[table]
            await buffer.enqueue(Mail("a", "x", 1, 2, 3))
            await buffer.enqueue_update(("y", "b"), count_=7, first=1)
            await buffer.enqueue_delete(("x", "c"))
            await buffer.enqueue_delete_by("d")
    assert sorted(entries, key=repr) == sorted(caught.value.unsettled.entries, key=repr)
    [(declared, operations)] = read_spill(spill).unsettled.items()
    again = MemoryStore()
    async with open_buffers(again, table) as buffers:
        await buffers[table].write(Mail("b", "y", 1, 5, 5))
        await buffers[table].enqueue_again(entries)
    assert [("a", "x", 1, 2, 3, None), ("b", "y", 7, 1, 5, None)] == again.rows(table)
    assert (sorted(entries, key=repr), table.key) == (sorted(operations, key=repr), declared.key)
    async with open_sqlite(tmp_path / "a.db", create=[table]) as real:
        async with open_buffers(real, table) as buffers:
            await buffers[table].write(Mail("b", "y", 1, 5, 5))
        await dead_letters.import_spill(real, spill, any_database=True)
        await dead_letters.replay(real)
        rows = await real.fetch_all('SELECT * FROM mails ORDER BY "from"')
        assert [("a", "x", 1, 2, 3, None), ("b", "y", 7, 1, 5, None)] == rows


async def test_a_typed_column_may_have_another_name(tmp_path: Path) -> None:
    """It is encoded for each call, as is its default."""

    class Job(NamedTuple):
        id_: UUID
        kind: str
        parent_: UUID

    table = Table(
        Job,
        name="jobs",
        key="id_",
        column_names={"id_": "id", "parent_": "parent"},
        delete_by="parent_",
        defaults={"parent_": UUID(int=9)},
    )
    async with (
        open_sqlite(tmp_path / "a.db", create=[table]) as store,
        open_buffers(store, table) as buffers,
    ):
        await buffers[table].enqueue(Job(UUID(int=1), "a", UUID(int=2)))
        await buffers[table].enqueue(Job(UUID(int=3), "b", UUID(int=4)))
        await buffers[table].enqueue_update(UUID(int=1), parent_=UUID(int=5))
        await buffers[table].enqueue_delete_by(UUID(int=4))
        await buffers[table].flush()
        await store.run(
            lambda raw: raw.execute("INSERT INTO jobs (id, kind) VALUES ('x', 'y')").close()
        )
        assert [
            (str(UUID(int=1)), "a", str(UUID(int=5))),
            ("x", "y", str(UUID(int=9))),
        ] == await store.fetch_all("SELECT id, kind, parent FROM jobs")
