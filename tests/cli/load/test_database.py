"""A load that commits nothing leaves the database as it was."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from forebay import StoreError
from forebay.cli._load.database import DatabaseState, look_at, restore
from forebay.cli._load.target_columns import COMPUTED
from tests.cli.load.runner import locked, wait_for

LOAD = [sys.executable, "-m", "forebay", "load"]
INTO = ["--database", "a.db", "--table", "t"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def execute(sql: str) -> list[Any]:
    with closing(sqlite3.connect("a.db", isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in sql.split(";")]


def files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path.cwd().glob("a.db*")}


def load(content: str, *arguments: str, name: str = "in.csv") -> subprocess.CompletedProcess[str]:
    Path(name).write_text(content)
    return subprocess.run(
        [*LOAD, name, *INTO, *arguments], capture_output=True, text=True, check=False
    )


def nothing() -> None: ...


def an_empty_file() -> None:
    Path("a.db").touch()


def another_table() -> None:
    execute("CREATE TABLE other (a); INSERT INTO other VALUES (1)")


def another_table_in_wal_mode() -> None:
    execute("PRAGMA journal_mode = wal; CREATE TABLE other (a); INSERT INTO other VALUES (1)")


def a_view() -> None:
    execute("CREATE VIEW t AS SELECT 1 AS a")


def a_table_without_the_columns() -> None:
    execute("CREATE TABLE t (b)")


def a_table_of_integers() -> None:
    execute("CREATE TABLE t (a INTEGER)")


def a_table_without_a_key() -> None:
    execute("CREATE TABLE t (a TEXT)")


def an_index_of_the_name() -> None:
    execute("CREATE TABLE other (a); CREATE INDEX t ON other (a)")


def an_index_of_the_name_in_wal_mode() -> None:
    execute("PRAGMA journal_mode = wal; CREATE TABLE other (a); CREATE INDEX t ON other (a)")


TOO_MANY = ",".join(f"c{i}" for i in range(2001))
"""SQLite allows 2,000 columns."""


@pytest.mark.parametrize(
    ("prepare", "content", "arguments", "problem"),
    [
        (nothing, "a\n1,2\n", (), "line 2: the row has 2 cells"),
        (nothing, f"{TOO_MANY}\n{TOO_MANY}\n", (), "the input has 2,001 columns"),
        (nothing, "a\n1\n", ("--key", "b"), "--key names 'b'"),
        (nothing, '{"a":1}\n', ("--key", "b", "--format", "ndjson"), "--key names 'b'"),
        (an_empty_file, "a\n1,2\n", (), "line 2: the row has 2 cells"),
        (an_empty_file, f"{TOO_MANY}\n{TOO_MANY}\n", (), "the input has 2,001 columns"),
        (another_table, "a\n1,2\n", (), "line 2: the row has 2 cells"),
        (another_table_in_wal_mode, "a\n1,2\n", (), "line 2: the row has 2 cells"),
        (another_table_in_wal_mode, f"{TOO_MANY}\n{TOO_MANY}\n", (), "the input has 2,001 columns"),
        (an_index_of_the_name, "a\n1\n", (), "the database has an index named 't'"),
        (an_index_of_the_name_in_wal_mode, "a\n1\n", (), "the database has an index named 't'"),
        (a_view, "a\n1\n", (), "'t' is a view"),
        (a_table_without_the_columns, "a\n1\n", (), 'ALTER TABLE "t" ADD COLUMN "a"'),
        (a_table_of_integers, "a\n007\n", (), "line 2: SQLite would change '007'"),
        (a_table_without_a_key, "a\n1\n", ("--key", "a"), "CREATE UNIQUE INDEX"),
    ],
)
def test_a_load_that_fails_before_its_first_commit_changes_no_file(
    prepare: Callable[[], None], content: str, arguments: Sequence[str], problem: str
) -> None:
    """Every byte is as before, and there is no file that was not there."""
    prepare()
    before = files()
    done = load(content, *arguments)
    assert 2 == done.returncode
    assert problem in done.stderr
    assert before == files()


def test_a_table_that_refuses_every_row_stays_as_it_was() -> None:
    """Without a dead letter nothing is committed, and the file leaves WAL mode."""
    execute("CREATE TABLE t (a INTEGER CHECK (a < 0))")
    before = files()
    done = load("a\n1\n2\n", "--dead-letters-per-minute", "0")
    assert 2 == done.returncode
    assert "--dead-letters-per-minute is 0" in done.stderr
    assert before.keys() == files().keys()
    assert [[("delete",)], [("t",)]] == execute(
        "PRAGMA journal_mode; SELECT name FROM sqlite_schema"
    )


@contextmanager
def loading(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    command = [*LOAD, "-", *INTO, "--no-detect-types", *arguments]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        process.stdin.write(b"a\n1\n2\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def test_a_load_that_gives_up_on_a_locked_database_changes_nothing() -> None:
    """Another process holds the lock before the table is created."""
    another_table()
    before = files()
    with locked(), loading() as process:
        wait_for(process, "waiting for the database a.db to open")
        process.send_signal(signal.SIGTERM)
        assert 143 == process.wait(60)
    assert before == files()


def test_a_load_that_can_commit_nothing_warns_of_what_it_leaves() -> None:
    """Another process takes the lock after the table was created, and keeps it."""
    with loading("--flush-interval", "inf") as process:
        wait_for(process, "2 pending")
        with locked():
            process.send_signal(signal.SIGTERM)
            wait_for(process, "SIGTERM")
            process.send_signal(signal.SIGTERM)
            wait_for(process, "the database a.db may have a new, empty table t")
            assert 143 == process.wait(60)


async def test_a_table_with_rows_is_not_dropped() -> None:
    """They may be of another process, or of a COMMIT whose outcome is not known."""
    execute("PRAGMA journal_mode = wal; CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    await restore("a.db", "t", DatabaseState())
    assert [[(1,)]] == execute("SELECT a FROM t")


async def test_a_new_file_with_another_table_stays() -> None:
    """Another process has created it in the meantime."""
    execute("PRAGMA journal_mode = wal; CREATE TABLE t (a); CREATE TABLE other (a)")
    await restore("a.db", "t", DatabaseState())
    assert [[("other",)]] == execute("SELECT name FROM sqlite_schema")


async def test_a_file_that_another_process_uses_stays() -> None:
    """SQLite does not leave WAL mode then, and the file is not removed."""
    execute("PRAGMA journal_mode = wal; CREATE TABLE t (a)")
    with closing(sqlite3.connect("a.db")) as connection:
        connection.execute("SELECT * FROM t").fetchall()
        with pytest.raises(StoreError):
            await restore("a.db", "t", DatabaseState())
    assert Path("a.db").exists()


async def test_looking_at_a_database_changes_no_file() -> None:
    """Neither in WAL mode nor in another one."""
    for mode in ("delete", "wal"):
        execute(f"PRAGMA journal_mode = {mode}; CREATE TABLE IF NOT EXISTS t (a INTEGER DEFAULT 7)")
        before = files()
        state = await look_at("a.db", "t")
        assert (mode == "wal", 7) == (state.uses_wal, state.columns["a"].default)
        assert before == files()
    assert DatabaseState() == await look_at("none.db", "t")


@pytest.mark.parametrize(
    ("declaration", "default", "may_be_set"),
    [
        ("a TEXT", None, True),
        ("a TEXT DEFAULT 'it''s'", "it's", True),
        ("a INTEGER NOT NULL DEFAULT -7", -7, True),
        ("a REAL DEFAULT 1.5e3", 1500.0, True),
        ("a BLOB DEFAULT x'00ff'", b"\x00\xff", True),
        ("a INTEGER DEFAULT TRUE", 1, True),
        ("a TEXT DEFAULT NULL", None, True),
        ("a TEXT NOT NULL", None, False),
        ("a TEXT NOT NULL DEFAULT NULL", None, False),
        ("a TEXT GENERATED ALWAYS AS (1)", None, False),
        ("a INTEGER PRIMARY KEY", None, False),
        ("a TEXT DEFAULT (hex(randomblob(4)))", "computed", True),
        ("a TEXT DEFAULT (1 + 1)", "computed", True),
    ],
)
async def test_the_defaults_of_columns(declaration: str, default: object, may_be_set: bool) -> None:
    """A literal has a value, and an expression is computed for each row."""
    execute(f"CREATE TABLE t (b, {declaration})")
    column = (await look_at("a.db", "t")).columns["a"]
    expected = column.default if default == "computed" else default
    assert (expected, may_be_set) == (column.default, column.may_be_set)
    assert (default == "computed") == (column.default is COMPUTED)


async def test_the_current_time_is_that_of_the_load() -> None:
    """It is the same for all rows."""
    execute("CREATE TABLE t (a TEXT DEFAULT CURRENT_TIMESTAMP)")
    default = (await look_at("a.db", "t")).columns["a"].default
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", str(default))
