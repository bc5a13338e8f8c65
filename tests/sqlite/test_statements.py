"""`forebay.sqlite`: transactions and statements."""

from __future__ import annotations

import sqlite3
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio

from forebay import sqlite
from tests.sqlite.site import insert, rows

# Transactions


async def test_a_transaction_commits_and_returns(path: Path) -> None:
    """The result of the function is returned when its rows are committed."""
    async with sqlite.connect(path) as connection:
        assert 2 == await connection.transaction(insert, 1, 2)
        assert [1, 2] == rows(path)


async def test_a_transaction_takes_the_write_lock_first(path: Path) -> None:
    """While the function runs, no other connection can write, even before it writes itself."""

    def write_elsewhere(_raw: sqlite3.Connection) -> None:
        with closing(sqlite3.connect(path, timeout=0)) as other:
            insert(other, 1)

    async with sqlite.connect(path) as connection:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await connection.transaction(write_elsewhere)


@pytest.mark.parametrize(
    "cause", [ValueError(), sqlite3.IntegrityError(), KeyboardInterrupt(), SystemExit(3)], ids=repr
)
async def test_every_exception_of_a_function_rolls_back(path: Path, cause: BaseException) -> None:
    """Its rows are not in the table, and the caller gets the same exception object."""

    def fail(raw: sqlite3.Connection) -> None:
        insert(raw, 1)
        raise cause

    async with sqlite.connect(path) as connection:
        with pytest.raises(type(cause)) as caught:
            await connection.transaction(fail)
        assert caught.value is cause
        assert not hasattr(cause, "__notes__")
        await connection.transaction(insert, 2)
    assert [2] == rows(path)


def fill(raw: sqlite3.Connection) -> None:
    """Insert until the disk is full."""
    raw.execute("PRAGMA max_page_count = 10")
    while True:
        raw.execute("INSERT INTO t VALUES (zeroblob(4096))")


async def test_the_caller_gets_the_error_of_a_full_disk(path: Path) -> None:
    """SQLite has rolled back by itself, and no failed ROLLBACK hides the error."""
    async with sqlite.connect(path) as connection:
        with pytest.raises(sqlite3.OperationalError) as caught:
            await connection.transaction(fill)
        assert sqlite3.SQLITE_FULL == caught.value.sqlite_errorcode
        assert not hasattr(caught.value, "__notes__")
        assert [] == rows(path)
        await connection.transaction(insert, 1)
    assert [1] == rows(path)


def catch_a_full_disk(raw: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError):
        fill(raw)


def run_a_script(raw: sqlite3.Connection) -> None:
    raw.executescript("SELECT 1")


def leave_a_with_block(raw: sqlite3.Connection) -> None:
    with raw:
        insert(raw, 1)


@pytest.mark.parametrize(
    "end",
    [
        catch_a_full_disk,
        run_a_script,
        leave_a_with_block,
        sqlite3.Connection.commit,
        sqlite3.Connection.rollback,
    ],
)
async def test_a_function_must_not_end_its_transaction(
    path: Path, end: Callable[[sqlite3.Connection], None]
) -> None:
    """If the transaction has ended when the function returns, an error is raised."""
    async with sqlite.connect(path) as connection:
        with pytest.raises(sqlite.TransactionEndedError):
            await connection.transaction(end)
        assert 1 == await connection.transaction(insert, 1)


def fail_in_a_script(raw: sqlite3.Connection) -> None:
    raw.executescript("INSERT INTO t VALUES (1); INSERT INTO missing VALUES (2)")


def fail_in_a_script_by_a_constraint(raw: sqlite3.Connection) -> None:
    raw.executescript("INSERT INTO t VALUES (1); INSERT INTO unequal VALUES (7), (7)")


def fail_after_a_commit(raw: sqlite3.Connection) -> None:
    insert(raw, 1)
    raw.commit()
    raise LookupError


def fail_after_a_with_block(raw: sqlite3.Connection) -> None:
    with raw:
        insert(raw, 1)
    raise KeyboardInterrupt


def roll_back_by_a_constraint(raw: sqlite3.Connection) -> None:
    insert(raw, 1)
    raw.execute("INSERT OR ROLLBACK INTO unequal VALUES (7), (7)")


@pytest.mark.parametrize(
    ("end", "error", "note", "stored"),
    [
        (fail_in_a_script, sqlite3.OperationalError, "may be committed", [1]),
        (fail_in_a_script_by_a_constraint, sqlite3.IntegrityError, "Only if the constraint", [1]),
        (fail_after_a_commit, LookupError, "may be committed", [1]),
        (fail_after_a_with_block, KeyboardInterrupt, "may be committed", [1]),
        (roll_back_by_a_constraint, sqlite3.IntegrityError, "Only if the constraint", []),
    ],
)
async def test_an_error_after_the_end_of_its_transaction_has_a_note(
    path: Path,
    end: Callable[[sqlite3.Connection], None],
    error: type[BaseException],
    note: str,
    stored: list[int],
) -> None:
    """What the function wrote before may stay in the file, and the error says so."""
    async with sqlite.connect(path) as connection:
        await connection.execute("CREATE TABLE unequal (id UNIQUE)")
        with pytest.raises(error) as caught:
            await connection.transaction(end)
        [text] = caught.value.__notes__
        assert text.startswith("the transaction had ended before this error")
        assert note in text
        assert 1 == await connection.transaction(insert, 2)
    assert [*stored, 2] == rows(path)


async def test_a_failed_commit_is_rolled_back(path: Path) -> None:
    """A deferred foreign key fails at COMMIT and leaves the transaction open: `CommitError`."""

    def break_a_reference(raw: sqlite3.Connection) -> None:
        raw.execute("INSERT INTO child VALUES (7)")

    async with sqlite.connect(path, pragmas={"foreign_keys": 1}) as connection:
        await connection.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        await connection.execute(
            "CREATE TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
        )
        with pytest.raises(sqlite.CommitError, match="COMMIT failed: FOREIGN KEY") as caught:
            await connection.transaction(break_a_reference)
        assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
        assert sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY == caught.value.sqlite_errorcode
        assert "SQLITE_CONSTRAINT_FOREIGNKEY" == caught.value.sqlite_errorname
        assert [] == await connection.fetch_all("SELECT * FROM child")
        assert 1 == await connection.transaction(insert, 1)


async def test_a_failed_rollback_is_a_note_on_the_cause(path: Path) -> None:
    """A ROLLBACK that SQLite refuses does not hide the exception that caused it."""

    def refuse(action: int, what: str | None, *_: object) -> int:
        rollback = action == sqlite3.SQLITE_TRANSACTION and what == "ROLLBACK"
        return sqlite3.SQLITE_DENY if rollback else sqlite3.SQLITE_OK

    def fail(raw: sqlite3.Connection) -> None:
        raw.set_authorizer(refuse)
        raise LookupError("the cause")

    async with sqlite.connect(path) as connection:
        with pytest.raises(LookupError, match="the cause") as caught:
            await connection.transaction(fail)
    assert ["ROLLBACK failed too: not authorized"] == caught.value.__notes__


async def test_a_nested_transaction_does_not_roll_back_the_outer_one(path: Path) -> None:
    """If BEGIN fails, nothing is rolled back."""
    async with sqlite.connect(path) as connection:
        await connection.execute("BEGIN")
        await connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(sqlite3.OperationalError, match="within a transaction"):
            await connection.transaction(insert, 2)
        await connection.execute("COMMIT")
    assert [1] == rows(path)


async def test_busy_is_raised_after_the_busy_timeout(path: Path) -> None:
    """A call waits for another connection's write lock as long as the timeout, not longer."""
    async with sqlite.connect(path, busy_timeout=0.05) as connection:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            start = trio.current_time()
            with pytest.raises(sqlite3.OperationalError) as caught:
                await connection.transaction(insert, 1)
            waited = trio.current_time() - start
            other.execute("COMMIT")
        assert sqlite3.SQLITE_BUSY == caught.value.sqlite_errorcode
        assert 0.04 < waited < 2
        await connection.transaction(insert, 2)
    assert [2] == rows(path)


# Statements


@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("SELECT 1 AS a, 'x' AS b", (), ([(1, "x")], ("a", "b"), -1)),
        ("SELECT :n", {"n": 5}, ([(5,)], (":n",), -1)),
        ("INSERT INTO t VALUES (?), (?)", ["a", "b"], ([], (), 2)),
        ("INSERT INTO t VALUES (1) RETURNING x", (), ([(1,)], ("x",), 1)),
        ("DELETE FROM t", (), ([], (), 0)),
        ("CREATE TABLE u (x)", (), ([], (), -1)),
    ],
)
async def test_execute_returns_the_result_of_a_statement(
    path: Path,
    sql: str,
    parameters: sqlite.Parameters,
    expected: tuple[list[object], tuple[str, ...], int],
) -> None:
    """It has the rows, the names of their columns, and the number of changed rows."""
    async with sqlite.connect(path) as connection:
        result = await connection.execute(sql, parameters)
    assert expected == (result.rows, result.columns, result.rowcount)


async def test_execute_returns_the_rowid_of_an_insert(path: Path) -> None:
    """`lastrowid` is the rowid of the last inserted row."""
    async with sqlite.connect(path) as connection:
        result = await connection.execute("INSERT INTO t (rowid, x) VALUES (7, 'a'), (9, 'b')")
    assert 9 == result.lastrowid


async def test_fetch_all_and_fetch_one(path: Path) -> None:
    """They return all rows; the first row; None if there are no rows."""
    async with sqlite.connect(path) as connection:
        assert [] == await connection.fetch_all("SELECT x FROM t")
        assert None is await connection.fetch_one("SELECT x FROM t")
        await connection.transaction(insert, 1, 2, 3)
        assert [(2,), (3,)] == await connection.fetch_all("SELECT x FROM t WHERE x > ?", (1,))
        assert (2,) == await connection.fetch_one("SELECT x FROM t WHERE x > :low", {"low": 1})


async def test_fetch_one_releases_its_lock(path: Path) -> None:
    """Another connection can truncate the log, although not all rows were read."""
    async with sqlite.connect(path) as connection:
        await connection.transaction(insert, *range(1000))
        await connection.fetch_one("SELECT x FROM t")
        with closing(sqlite3.connect(path, timeout=0)) as other:
            busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert 0 == busy


async def test_a_statement_outside_a_transaction_is_committed(path: Path) -> None:
    """`sqlite3` does not begin a transaction implicitly."""
    async with sqlite.connect(path) as connection:
        await connection.execute("INSERT INTO t VALUES (1)")
        assert [1] == rows(path)


def test_the_example_of_the_module_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example in the docstring of the module is a complete program."""
    monkeypatch.chdir(tmp_path)
    _, _, rest = str(sqlite.__doc__).partition("::\n")
    example, _, _ = rest.partition("\nEvery call")
    exec(textwrap.dedent(example), {})  # noqa: S102  # our own text
    assert "1\n[('grace',)]\n" == capsys.readouterr().out
