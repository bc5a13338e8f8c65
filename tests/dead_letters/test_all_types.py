"""Values of all types as dead letters and in spills: shown, decoded and replayed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Annotated
from uuid import UUID

import pytest
import trio
from click.testing import CliRunner

from forebay import (
    Codec,
    Delete,
    DeleteBy,
    FlushError,
    SqliteStore,
    Table,
    Update,
    Write,
    dead_letters,
    open_buffers,
    open_sqlite,
)
from forebay._table.json_format import encode_declaration
from forebay.cli._command import command
from forebay.dead_letters import DeadLetter, Failure
from forebay.stores import FailureKind
from forebay.testing import MemoryStore
from tests.all_types import COLUMNS, EVERYTHING, ROW, STORED, UPDATED

CHANGES = dict(zip(COLUMNS, STORED, strict=True))
del CHANGES["id"], CHANGES["note"]
DECODED_CHANGES = dict(zip(COLUMNS, ROW, strict=True))
del DECODED_CHANGES["id"], DECODED_CHANGES["note"]

OPERATIONS = [Write(STORED), Update(STORED[0], CHANGES), Delete(STORED[0]), DeleteBy(STORED[15])]
DECODED = [Write(tuple(ROW)), Update(ROW.id, DECODED_CHANGES), Delete(ROW.id), DeleteBy(ROW.id16)]


@asynccontextmanager
async def refused(path: Path) -> AsyncIterator[SqliteStore]:
    """Open a store whose dead letters are all four operations, and remove what refused them."""
    async with open_sqlite(path, create=[EVERYTHING]) as store:

        def set_up(raw: sqlite3.Connection) -> None:
            for event in ("INSERT", "UPDATE", "DELETE"):
                raw.execute(
                    f"CREATE TRIGGER no_{event} BEFORE {event} ON everything "
                    f"BEGIN SELECT RAISE(ABORT, 'no'); END"
                )

        async with open_buffers(store, EVERYTHING) as buffers:
            buffer = buffers[EVERYTHING]
            await buffer.write(ROW)
            await store.run(set_up)
            await buffer.enqueue(ROW)
            await buffer.flush()
            await buffer.enqueue_update(ROW.id, **UPDATED)
            await buffer.flush()
            await buffer.enqueue_delete(ROW.id)
            await buffer.flush()
            await buffer.enqueue_delete_by(ROW.id16)
        for event in ("INSERT", "UPDATE", "DELETE"):
            drop = f"DROP TRIGGER no_{event}"
            await store.run(lambda raw, sql: raw.execute(sql).close(), drop)
        yield store


async def test_letters_are_decoded_by_the_programs_table(tmp_path: Path) -> None:
    """Without it they have stored values."""
    async with refused(tmp_path / "a.db") as store:
        letters = await dead_letters.fetch(store)
    assert OPERATIONS == [letter.decode()[1] for letter in letters]
    assert [(EVERYTHING, operation) for operation in DECODED] == [
        letter.decode(EVERYTHING) for letter in letters
    ]


async def test_letters_are_replayed_as_they_were_stored(tmp_path: Path) -> None:
    """By the library: the row is written and updated, and then deleted."""
    async with refused(tmp_path / "a.db") as store:
        result = await dead_letters.replay(store, ids=[1, 2])
        assert ((1, 2), {}) == (result.replayed, result.skipped)
        [row] = await store.fetch_all("SELECT * FROM everything")
        assert STORED == row
        result = await dead_letters.replay(store)
        assert ((3, 4), {}) == (result.replayed, result.skipped)
        assert [] == await store.fetch_all("SELECT id FROM everything")


def test_the_commands_show_and_replay_letters(tmp_path: Path) -> None:
    """`show` prints the values as JSON, and `replay` needs no declaration."""
    path = tmp_path / "a.db"

    async def refuse() -> None:
        async with refused(path):
            pass

    trio.run(refuse)
    shown = CliRunner().invoke(command, ["dead-letters", "show", str(path), "1", "--json"])
    assert 0 == shown.exit_code
    entry = json.loads(shown.stdout)["entry"]["write"]
    special = {
        "number": {"int": "9223372036854775807"},
        "real": {"float": "-inf"},
        "data": {"base64": "AP8="},
        "id16": {"base64": "AAAAAAAAAAAAAAAAAAAAAg=="},
        "microseconds": 1767323045000006,
    }
    assert dict(zip(COLUMNS, STORED, strict=True)) | special == entry
    for number in ("1", "2", "3", "4"):
        text = CliRunner().invoke(command, ["dead-letters", "show", str(path), number])
        assert 0 == text.exit_code
        assert str(UUID(int=1)) in text.stdout or "AAAAAAAAAAAAAAAAAAAAAg==" in text.stdout
    replayed = CliRunner().invoke(command, ["dead-letters", "replay", str(path)])
    assert (0, None) == (replayed.exit_code, replayed.exception)
    with closing(sqlite3.connect(path)) as raw:
        assert [(0,)] == raw.execute("SELECT count(*) FROM forebay_dead_letters").fetchall()


async def test_a_spill_is_imported_decoded_and_replayed(tmp_path: Path) -> None:
    """The entries of a buffer that failed are in the file, as they are stored."""
    memory = MemoryStore()
    memory.fail_next(FailureKind.FATAL)
    spill = tmp_path / "left.spill"
    with pytest.raises(FlushError) as caught:
        async with open_buffers(memory, EVERYTHING, spill=spill) as buffers:
            await buffers[EVERYTHING].enqueue(ROW)
    assert [Write(STORED)] == list(caught.value.unsettled.entries)
    async with open_sqlite(tmp_path / "a.db", create=[EVERYTHING]) as store:
        await dead_letters.import_spill(store, spill, any_database=True)
        [letter] = await dead_letters.fetch(store)
        assert (EVERYTHING, Write(tuple(ROW))) == letter.decode(EVERYTHING)
        await dead_letters.replay(store)
        assert [STORED] == await store.fetch_all("SELECT * FROM everything")


def letter_of(table: Table[tuple[object, ...]], entry: str) -> DeadLetter:
    """Return a letter that somebody may have changed."""
    failure = Failure("SQLITE_CONSTRAINT", "no", 0.0)
    return DeadLetter(7, table.name, "delete", entry, encode_declaration(table), failure, 1)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            '{"delete": {"id": "x"}}',
            r"table 't', column 'id': cannot decode 'x': badly formed hexadecimal UUID string",
        ),
        ('{"delete": {"id": 1}}', r"column 'id': cannot decode 1: it is not stored as str"),
        ('{"delete": {"key": "x"}}', r"expected the columns id, got key"),
    ],
)
def test_what_cannot_be_decoded_is_an_error(entry: str, message: str) -> None:
    """It names the table, the column and the stored value."""
    table = Table.from_columns({"id": UUID}, name="t", key="id")
    with pytest.raises(ValueError, match=message):
        letter_of(table, entry).decode(table)


def test_a_letter_of_another_table_is_not_decoded() -> None:
    """The declaration must be that of its table."""
    table = Table.from_columns({"id": UUID}, name="t", key="id")
    other = Table.from_columns({"id": UUID}, name="u", key="id")
    with pytest.raises(ValueError, match=r"dead letter 7 is one of table 't', not of 'u'"):
        letter_of(table, '{"delete": {"id": "x"}}').decode(other)


HALF: Codec[str] = Codec(encode=float, decode=str, storage=float, keeps_equality=True)


def test_a_letter_of_a_table_with_a_key_of_two_columns_is_decoded() -> None:
    """Each column of the key has its own type. A whole number may be stored for a float."""
    table: Table[tuple[object, ...]] = Table.from_columns(
        {"id": UUID, "half": Annotated[str, HALF]}, name="t", key=("id", "half")
    )
    letter = letter_of(table, f'{{"delete": {{"id": "{UUID(int=1)}", "half": 2}}}}')
    assert (table, Delete((UUID(int=1), "2.0"))) == letter.decode(table)


def test_a_number_that_is_no_bool_is_not_decoded() -> None:
    """Another program may have stored it."""
    table: Table[tuple[object, ...]] = Table.from_columns({"done": bool}, name="t", key="done")
    assert (table, Delete(True)) == letter_of(table, '{"delete": {"done": 1}}').decode(table)
    with pytest.raises(ValueError, match="column 'done': cannot decode 2"):
        letter_of(table, '{"delete": {"done": 2}}').decode(table)
