"""`forebay.sqlite`: open a file, and check the arguments of `connect`."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from forebay import sqlite
from tests.sqlite.site import insert, rows


async def test_a_read_only_connection_refuses_writes(path: Path) -> None:
    """It can read; to write raises SQLITE_READONLY."""
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
async def test_the_error_of_an_impossible_path_has_the_path(
    tmp_path: Path, name: str, readonly: bool, expected: type[OSError]
) -> None:
    """The operating system's error is raised, with the path, and no file is created."""
    path = tmp_path / name
    with pytest.raises(expected) as caught:
        await sqlite.Connection.open(path, readonly=readonly)
    assert os.fspath(path) == os.fspath(caught.value.filename)
    assert caught.value.errno in {errno.EISDIR, errno.ENOENT}
    assert [] == list(tmp_path.iterdir())


async def test_the_error_of_an_invalid_file_has_its_path(tmp_path: Path) -> None:
    """The file is not a database: the error has the path and the code, and the file is closed."""
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


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o177])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o664])
async def test_a_new_file_has_the_mode_that_was_asked_for(
    tmp_path: Path, mode: int, umask: int
) -> None:
    """The database, its log and the index of the log, whatever the umask is."""
    options: dict[str, Any] = {"pragmas": {"journal_mode": "wal"}, "mode": mode}
    before = os.umask(umask)
    try:
        async with sqlite.connect(tmp_path / "new.db", **options) as connection:
            await connection.execute("CREATE TABLE t (x)")
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert {"new.db": mode, "new.db-wal": mode, "new.db-shm": mode} == modes


@pytest.mark.usefixtures("no_umask")
async def test_only_the_owner_can_read_a_new_file(tmp_path: Path) -> None:
    """The database, its log and the index of the log have mode 0600, whatever the umask is."""
    async with sqlite.connect(tmp_path / "new.db", pragmas={"journal_mode": "wal"}) as connection:
        await connection.execute("CREATE TABLE t (x)")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert {"new.db": 0o600, "new.db-wal": 0o600, "new.db-shm": 0o600} == modes


async def test_an_existing_file_keeps_its_mode(path: Path) -> None:
    """Only a new file gets mode 0600."""
    path.chmod(0o640)
    async with sqlite.connect(path) as connection:
        await connection.transaction(insert, 1)
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    "name", ["a b.db", "a?mode=ro.db", "a#b%41.db", "file:a.db", "ä.db", "a\udcff.db", "-'\".db"]
)
async def test_a_path_is_not_interpreted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Every character of a path is literal; a relative path starts at the current folder."""
    monkeypatch.chdir(tmp_path)
    async with sqlite.connect(name) as connection:
        await connection.execute("CREATE TABLE t (x)")
    assert [tmp_path / name] == list(tmp_path.iterdir())
    assert (tmp_path / name).stat().st_size > 0


async def test_a_path_may_be_any_path_like_object(path: Path) -> None:
    """`os.fspath` returns the path, not `str`."""
    with os.scandir(path.parent) as entries:
        entry = next(entries)
    async with sqlite.connect(entry) as connection:
        assert str(path) == connection.path


async def test_a_link_may_point_to_a_new_file(tmp_path: Path) -> None:
    """The file to which a symbolic link points is created."""
    (tmp_path / "link.db").symlink_to("real.db")
    async with sqlite.connect(tmp_path / "link.db") as connection:
        await connection.execute("CREATE TABLE t (x)")
    assert [] == rows(tmp_path / "real.db")


async def test_a_database_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It exists as long as its connection, and creates no file."""
    monkeypatch.chdir(tmp_path)
    async with sqlite.connect(":memory:") as connection:
        await connection.execute("CREATE TABLE t (x)")
        await connection.transaction(insert, 1)
        assert (1,) == await connection.fetch_one("SELECT x FROM t")
    assert [] == list(tmp_path.iterdir())


async def test_pragmas_are_set_in_order(path: Path) -> None:
    """Values are strings or numbers, names may have a schema, and the last setting wins."""
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
    ("options", "message"),
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
        ({"mode": 660}, "mode=0o1224: expected permissions from 0o600 to 0o777"),
        ({"mode": 0o400}, "mode=0o400: expected permissions"),
        ({"mode": 0o066}, "mode=0o66: expected permissions"),
        ({"mode": 0o4600}, "mode=0o4600: expected permissions"),
        ({"mode": -1}, "mode=0o-1: expected permissions"),
        ({"mode": True}, "mode=0o1: expected permissions"),
        ({"mode": "600"}, "mode='600': expected permissions"),
        ({"mode": None}, "mode=None: expected permissions"),
    ],
)
async def test_an_invalid_argument_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """The error has the name and the value of the argument, and no file is created."""
    options = {"path": tmp_path / "new.db"} | options
    with pytest.raises((ValueError, TypeError), match=message):
        await sqlite.Connection.open(**options)
    assert [] == list(tmp_path.iterdir())


async def test_opening_in_a_cancelled_scope_creates_no_file(tmp_path: Path) -> None:
    """The thread that would create the file is not started."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await sqlite.Connection.open(tmp_path / "new.db")
    assert scope.cancelled_caught
    assert [] == list(tmp_path.iterdir())
