"""`forebay.sqlite`: opening a file, and the arguments of `connect`."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from forebay import sqlite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with an empty table ``t(x)``."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA journal_mode=wal")
        raw.execute("CREATE TABLE t (x)")
    return path


def rows(path: Path) -> list[Any]:
    """What another connection finds in ``t``."""
    with closing(sqlite3.connect(path)) as raw:
        return [x for (x,) in raw.execute("SELECT x FROM t ORDER BY rowid")]


def insert(raw: sqlite3.Connection, *values: object) -> int:
    for value in values:
        raw.execute("INSERT INTO t VALUES (?)", (value,))
    return len(values)


async def test_a_read_only_connection_refuses_writes(path: Path) -> None:
    """It reads, and SQLite answers SQLITE_READONLY to the rest."""
    async with sqlite.connect(path, readonly=True) as connection:
        assert [] == await connection.fetch_all("SELECT x FROM t")
        with pytest.raises(sqlite3.OperationalError) as caught:
            await connection.transaction(insert, 1)
        assert sqlite3.SQLITE_READONLY == caught.value.sqlite_errorcode


@pytest.mark.parametrize(
    ("name", "readonly", "expected"),
    [
        (".", False, IsADirectoryError),
        (".", True, IsADirectoryError),
        ("no/folder/a.db", False, FileNotFoundError),
        ("no.db", True, FileNotFoundError),
    ],
)
async def test_a_path_that_cannot_be_names_itself(
    tmp_path: Path, name: str, readonly: bool, expected: type[OSError]
) -> None:
    """The error is the operating system's, bears the path, and nothing was created."""
    path = tmp_path / name
    with pytest.raises(expected) as caught:
        await sqlite.Connection.open(path, readonly=readonly)
    assert os.fspath(path) == os.fspath(caught.value.filename)
    assert caught.value.errno in {errno.EISDIR, errno.ENOENT}
    assert [] == list(tmp_path.iterdir())


async def test_what_sqlite_refuses_to_open_is_named(tmp_path: Path) -> None:
    """A file that is no database: SQLite's error and code, with the path, and no handle kept."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"x" * 4096)
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(sqlite3.DatabaseError, match=r"cannot open '.*photo\.jpg': file is") as e:
        await sqlite.Connection.open(path, pragmas={"journal_mode": "wal"})
    assert sqlite3.SQLITE_NOTADB == e.value.sqlite_errorcode
    assert before == len(list(Path("/dev/fd").iterdir()))


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
async def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Whatever the umask: the database, its log, and the log's index."""
    async with sqlite.connect(tmp_path / "new.db", pragmas={"journal_mode": "wal"}) as connection:
        await connection.execute("CREATE TABLE t (x)")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert {"new.db": 0o600, "new.db-wal": 0o600, "new.db-shm": 0o600} == modes


async def test_a_file_that_is_there_keeps_its_mode(path: Path) -> None:
    """Only a new file is given a mode."""
    path.chmod(0o640)
    async with sqlite.connect(path) as connection:
        await connection.transaction(insert, 1)
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    "name", ["a b.db", "a?mode=ro.db", "a#b%41.db", "file:a.db", "ä.db", "a\udcff.db", "-'\".db"]
)
async def test_a_path_is_taken_literally(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No character of a path means anything but itself; a relative one starts where we are."""
    monkeypatch.chdir(tmp_path)
    async with sqlite.connect(name) as connection:
        await connection.execute("CREATE TABLE t (x)")
    assert [tmp_path / name] == list(tmp_path.iterdir())
    assert (tmp_path / name).stat().st_size > 0


async def test_a_path_may_be_any_path_like_object(path: Path) -> None:
    """What counts is `os.fspath`, not how the object prints."""
    with os.scandir(path.parent) as entries:
        entry = next(entries)
    async with sqlite.connect(entry) as connection:
        assert str(path) == connection.path


async def test_a_link_is_followed_to_a_new_file(tmp_path: Path) -> None:
    """A symbolic link may point at a database that is yet to be created."""
    (tmp_path / "link.db").symlink_to("real.db")
    async with sqlite.connect(tmp_path / "link.db") as connection:
        await connection.execute("CREATE TABLE t (x)")
    assert [] == rows(tmp_path / "real.db")


async def test_a_database_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives as long as its connection, and leaves no file."""
    monkeypatch.chdir(tmp_path)
    async with sqlite.connect(":memory:") as connection:
        await connection.execute("CREATE TABLE t (x)")
        await connection.transaction(insert, 1)
        assert (1,) == await connection.fetch_one("SELECT x FROM t")
    assert [] == list(tmp_path.iterdir())


async def test_pragmas_are_set_in_order(path: Path) -> None:
    """Strings and numbers, with or without a schema; the last of two settings holds."""
    async with sqlite.connect(
        path,
        pragmas={
            "main.cache_size": -100,
            "CACHE_SIZE": -200,
            "main.user_version": 7,
            "synchronous": "full",
        },
    ) as connection:
        assert (-200,) == await connection.fetch_one("PRAGMA cache_size")
        assert (2,) == await connection.fetch_one("PRAGMA synchronous")
        assert (7,) == await connection.fetch_one("PRAGMA user_version")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"busy_timeout": -0.1}, r"busy_timeout=-0\.1"),
        ({"busy_timeout": float("nan")}, "busy_timeout=nan"),
        ({"busy_timeout": 2**31}, "busy_timeout=2147483648"),
        ({"close_timeout": 0}, "close_timeout=0"),
        ({"close_timeout": float("inf")}, "close_timeout=inf"),
        ({"cached_statements": -1}, "cached_statements=-1"),
        ({"pragmas": {"journl_mode": "wal"}}, "'journl_mode' is unknown to SQLite 3"),
        ({"pragmas": {"user_version = 1; --": 1}}, "is unknown to SQLite 3"),
        ({"pragmas": {"cache_size": 1.5}}, r"'cache_size' is 1\.5, expected a str or an int"),
        ({"path": ""}, "path=''"),
        ({"path": ":memory:", "readonly": True}, "readonly=True"),
    ],
)
async def test_an_argument_that_cannot_be_used_is_refused(
    tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    """The error bears the parameter's name and value, and no file was created."""
    options = {"path": tmp_path / "new.db"} | options
    with pytest.raises((ValueError, TypeError), match=expected):
        await sqlite.Connection.open(**options)
    assert [] == list(tmp_path.iterdir())


async def test_opening_in_a_cancelled_scope_leaves_no_trace(tmp_path: Path) -> None:
    """No thread was started, so there is no file."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await sqlite.Connection.open(tmp_path / "new.db")
    assert scope.cancelled_caught
    assert [] == list(tmp_path.iterdir())
