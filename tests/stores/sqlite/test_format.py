"""The version of stored formats: older ones are read, and newer ones are refused by everything."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from forebay import (
    Delete,
    DeleteBy,
    SpillError,
    StoreError,
    Table,
    Update,
    Write,
    dead_letters,
    open_buffers,
    open_sqlite,
    sqlite,
)
from forebay._format import FORMAT
from forebay._spill.reading import read_spill
from forebay._table.json_format import decode_declaration, encode_declaration
from forebay.cli._command import command
from forebay.doctor import Verdict, examine
from tests.spill.test_spill import edit

FIXTURES = Path(__file__).parents[2] / "fixtures" / "format1"

LOG = Table.from_columns({"line": str}, name="log")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a copy of a database of format 1, from before formats had a number."""
    return Path(shutil.copy(FIXTURES / "database.sqlite", tmp_path / "a.db"))


@pytest.fixture
def old_spill(tmp_path: Path) -> Path:
    """Return a copy of a spill of that database."""
    return Path(shutil.copy(FIXTURES / "left.spill", tmp_path / "left.spill"))


def execute(path: Path, sql: str, *parameters: object) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        return raw.execute(sql, parameters).fetchall()


@pytest.fixture
def newer(old: Path) -> Path:
    """Return a database that a newer version of forebay wrote."""
    execute(old, "CREATE TABLE forebay_format (version INTEGER NOT NULL)")
    execute(old, "INSERT INTO forebay_format VALUES (?)", FORMAT + 1)
    return old


def contents(path: Path) -> list[str]:
    """Return all that is in a database, as SQL, and its journal mode."""
    with closing(sqlite3.connect(path)) as raw:
        return [*raw.iterdump(), *map(str, raw.execute("PRAGMA journal_mode"))]


async def test_the_dead_letters_of_an_old_database_are_read_and_replayed(old: Path) -> None:
    """With its history, and whether the cause is fixed or not."""
    async with open_sqlite(old) as store:
        letters = await dead_letters.fetch(store)
        assert [1, 2, 3, 4] == [letter.id for letter in letters]
        assert [
            Write(("bad one",)),
            Write(("/café", 2**53 + 1, math.inf, b"\0\xff")),
            Update("/", {"hits": 1000}),
            Write(("imported",)),
        ] == [letter.decode()[1] for letter in letters]
        result = await dead_letters.replay(store)
        assert ((4,), (1, 2, 3), {}) == (result.replayed, result.refused, result.skipped)
        assert 3 == await dead_letters.purge(store, all_letters=True)
    assert [("good",), ("good too",), ("imported",)] == execute(old, "SELECT line FROM log")


async def test_an_old_database_keeps_its_id_and_its_positions(old: Path) -> None:
    """Buffers write to it, and save the version of the format."""
    async with (
        open_sqlite(old) as store,
        open_buffers(store, LOG, spill=old.with_name("new.spill")) as buffers,
    ):
        await buffers[LOG].enqueue_many([("one",), ("bad",)])
        database = await store.identify()
    assert "d94acd873cce4b89ad40894e04e793ee" == database.id
    assert [("0123", "log", 3)] == execute(old, "SELECT * FROM forebay_progress")
    assert [(FORMAT,)] == execute(old, "SELECT version FROM forebay_format")
    assert 5 == execute(old, "SELECT max(id) FROM forebay_dead_letters")[0][0]


async def test_an_old_spill_is_imported_once(old: Path, old_spill: Path) -> None:
    """Its entries are those that it was written with."""
    spill = read_spill(old_spill)
    assert {
        "pages": [
            Write(("/spilled", 2, 1.5, b"\1")),
            Update("/", {"size": -math.inf}),
            Delete("/gone"),
            DeleteBy(b"\2"),
            Write(("a\0\udce9", -(2**63), None, None)),
        ],
        "log": [Write(("spilled",))] * 2,
    } == {table.name: entries for table, entries in spill.unsettled.items()}
    async with open_sqlite(old) as store:
        imported = await dead_letters.import_spill(store, old_spill)
        assert range(5, 12) == imported == await dead_letters.import_spill(store, old_spill)


async def test_the_doctor_reads_an_old_database_and_its_spill(old: Path, old_spill: Path) -> None:
    """It reports the dead letters, and that the spill is not imported."""
    findings = (await examine(old)).findings
    assert {"dead_letters", "spills"} == {
        finding.check for finding in findings if finding.verdict is Verdict.PROBLEM
    }
    [spill] = [finding for finding in findings if finding.check == "spills"]
    assert (7, False) == (spill.values["entries"], spill.values["imported"])


async def test_a_database_without_tables_of_forebay_gets_none(tmp_path: Path) -> None:
    """The version is saved with the first of these tables, not before."""
    path = tmp_path / "a.db"
    async with open_sqlite(path, create=[LOG]) as store:
        await dead_letters.fetch(store)
    assert [("log",)] == execute(path, "SELECT name FROM sqlite_schema")


async def _save_position(path: Path) -> None:
    async with open_sqlite(path, create=[LOG]) as store, open_buffers(store, LOG) as buffers:
        await buffers[LOG].enqueue(("a",))


async def _identify(path: Path) -> None:
    async with open_sqlite(path) as store:
        await store.identify()


CREATE_T = "CREATE TABLE IF NOT EXISTS t (a INTEGER NOT NULL)"


async def _refuse(path: Path) -> None:
    table = Table.from_columns({"a": int | None}, name="t")
    async with open_sqlite(path) as store:
        await store.run(lambda raw: raw.execute(CREATE_T).close())
        async with open_buffers(store, table) as buffers:
            await buffers[table].enqueue((None,))


async def _import(path: Path) -> None:
    spill = Path(shutil.copy(FIXTURES / "left.spill", path.with_name("left.spill")))
    async with open_sqlite(path) as store:
        await dead_letters.import_spill(store, spill, any_database=True)


@pytest.mark.parametrize("write", [_save_position, _identify, _refuse, _import])
async def test_each_table_is_created_with_the_version(
    tmp_path: Path, write: Callable[[Path], Awaitable[None]]
) -> None:
    """Whichever of forebay's tables is the first one."""
    path = tmp_path / "a.db"
    await write(path)
    await write(path)
    assert [(FORMAT,)] == execute(path, "SELECT version FROM forebay_format")


def test_a_declaration_has_the_version() -> None:
    """It is stored with each dead letter, and in each spill."""
    declared = json.loads(encode_declaration(LOG))
    assert FORMAT == declared["format"]
    for version in (FORMAT + 1, 0, "1", None, True):
        with pytest.raises(ValueError, match=r"^(its format 2 is newer than|invalid number of)"):
            decode_declaration(json.dumps({**declared, "format": version}))
    del declared["format"]
    assert LOG.columns == decode_declaration(json.dumps(declared)).columns


async def test_a_dead_letter_of_a_newer_format_is_skipped(old: Path) -> None:
    """Another program with a newer version may have written it. The others are replayed."""
    execute(
        old,
        "UPDATE forebay_dead_letters SET declaration = json_set(declaration, '$.format', 2) "
        "WHERE id = 1",
    )
    async with open_sqlite(old) as store:
        result = await dead_letters.replay(store)
    assert ((4,), (2, 3)) == (result.replayed, result.refused)
    assert "its format 2 is newer than format 1" in result.skipped[1]
    assert "install a newer version of forebay" in result.skipped[1]


async def _open(path: Path) -> None:
    async with open_sqlite(path):
        raise AssertionError


async def _fetch(path: Path) -> None:
    async with dead_letters.open_reader(path) as reader:
        await dead_letters.fetch(reader)


async def _count(path: Path) -> None:
    async with sqlite.connect(path) as connection:
        await dead_letters.counts(connection)


@pytest.mark.parametrize("use", [_open, _fetch, _count, _save_position, _identify, _import])
async def test_a_newer_database_is_refused_and_unchanged(
    newer: Path, use: Callable[[Path], Awaitable[None]]
) -> None:
    """The error names the file and the versions, and says what to do."""
    before = contents(newer)
    with pytest.raises(StoreError) as caught:
        await use(newer)
    assert str(caught.value).startswith(
        f"{str(newer)!r} cannot be used: its format {FORMAT + 1} is newer than format {FORMAT}, "
    )
    assert "install a newer version of forebay" in str(caught.value)
    assert before == contents(newer)


@pytest.mark.parametrize(
    "arguments",
    [
        ["dead-letters", "list", "{path}"],
        ["dead-letters", "show", "{path}", "1"],
        ["dead-letters", "replay", "{path}"],
        ["dead-letters", "replay", "{path}", "--spill", "{spill}"],
        ["dead-letters", "purge", "{path}", "--all", "--yes"],
        ["doctor", "{path}"],
        ["load", "{csv}", "--database", "{path}", "--table", "log"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_the_commands_refuse_a_newer_database(
    newer: Path, old_spill: Path, arguments: list[str]
) -> None:
    """With an exit code of failure, and without a change of the file."""
    rows = newer.with_name("rows.csv")
    rows.write_text("line\na\n")
    before = contents(newer)
    paths = {"path": newer, "spill": old_spill, "csv": rows}
    result = CliRunner().invoke(command, [word.format(**paths) for word in arguments])
    assert 0 != result.exit_code
    assert isinstance(result.exception, SystemExit)
    assert "is newer than format" in " ".join(result.output.split())
    assert before == contents(newer)


async def test_the_doctor_names_a_newer_format(newer: Path) -> None:
    """It does not try to read the dead letters; the other checks are made."""
    findings = {finding.check: finding for finding in (await examine(newer)).findings}
    assert Verdict.PROBLEM is findings["format"].verdict
    assert f"{str(newer)!r} cannot be used: its format 2" in findings["format"].message
    assert "dead_letters" not in findings
    assert Verdict.OK is findings["integrity"].verdict


@pytest.mark.parametrize("value", ["x", 0, -1, b"\1", 1.5])
async def test_a_damaged_version_is_refused(newer: Path, value: object) -> None:
    """Somebody changed it, so nothing is known about the tables."""
    execute(newer, "UPDATE forebay_format SET version = ?", value)
    with pytest.raises(StoreError, match="cannot be used: invalid number of a format"):
        await _open(newer)


async def test_an_empty_table_of_versions_means_format_1(newer: Path) -> None:
    """The database is used, and the version is saved again."""
    execute(newer, "DELETE FROM forebay_format")
    async with open_sqlite(newer) as store, open_buffers(store, LOG) as buffers:
        await buffers[LOG].enqueue(("a",))
    assert [(FORMAT,)] == execute(newer, "SELECT version FROM forebay_format")


async def test_a_newer_spill_is_refused(old: Path, old_spill: Path) -> None:
    """By an import, and by the doctor, which names it."""
    edit(old_spill, 1, '"forebay_spill": 1', '"forebay_spill": 2')
    before = contents(old)
    async with open_sqlite(old) as store:
        with pytest.raises(SpillError, match=rf"'{old_spill}', line 1: its format 2 is newer"):
            await dead_letters.import_spill(store, old_spill)
    assert before[:-1] == contents(old)[:-1]
    [spill] = [finding for finding in (await examine(old)).findings if finding.check == "spills"]
    assert Verdict.PROBLEM is spill.verdict
    assert "its format 2 is newer than format 1" in spill.message


async def test_a_spill_with_a_table_of_a_newer_format_is_refused(old_spill: Path) -> None:
    """The line of the table is named."""
    edit(old_spill, 2, '{"name": "pages"', '{"format": 2, "name": "pages"')
    with pytest.raises(SpillError, match=r"line 2: its format 2 is newer"):
        read_spill(old_spill)
