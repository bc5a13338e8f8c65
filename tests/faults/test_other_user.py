"""Another user than the owner reads a database: no file is left that would lock the owner out."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio

import forebay
from tests.faults.harness import Zygote

OWNER, OTHER = 12_345, 54_321


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can reach and write to; pytest's are root's alone."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o777)
        yield folder


def make(path: Path, left: tuple[str, ...] = (), journal_mode: str = "wal") -> Path:
    """Make a database of the owner with a dead letter, which every user can read.

    Args:
        path: the file.
        left: suffixes of the files that a killed program has left beside it.
        journal_mode: its journal mode.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute(f"PRAGMA journal_mode = {journal_mode}")
        raw.execute("PRAGMA wal_autocheckpoint = 0")
        raw.execute(
            "CREATE TABLE forebay_dead_letters (id INTEGER PRIMARY KEY AUTOINCREMENT, buffer,"
            " operation, entry, declaration, error_code, error, failed_at, attempts,"
            " history DEFAULT '[]')"
        )
        raw.execute(
            "INSERT INTO forebay_dead_letters VALUES"
            " (1, 'visits', 'write', '{}', '{}', 'SQLITE_X', 'refused', 1.0, 1, '[]')"
        )
        crashed = ("", *left) if left else ()
        for suffix in crashed:
            shutil.copy(f"{path}{suffix}", f"{path}{suffix}.copy")
    for suffix in crashed:
        Path(f"{path}{suffix}.copy").rename(f"{path}{suffix}")
    for file in path.parent.glob(f"{path.name}*"):
        file.chmod(0o644)
        os.chown(file, OWNER, OWNER)
    return path


def files(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {
        file.name: (file.stat().st_uid, file.stat().st_mode, file.stat().st_size)
        for file in folder.iterdir()
    }


def read_as(zygote: Zygote, user: int, path: Path, warm_up: Path) -> list[tuple[int, str]]:
    with zygote.run("reading_as.py", user, make(warm_up), path) as child:
        lines = child.lines()
        assert 0 == child.wait(), child.errors()
    return [tuple(json.loads(line)) for line in lines]


def database_problems(output: str) -> list[Any]:
    findings = json.loads(output)["findings"]
    return [f for f in findings if f["check"] == "database" and f["verdict"] == "problem"]


@pytest.mark.root
@pytest.mark.parametrize("writable", [True, False], ids=["writable folder", "read-only folder"])
@pytest.mark.parametrize(
    ("left", "journal_mode"), [((), "wal"), (("-wal", "-shm"), "wal"), ((), "delete")]
)
def test_the_database_is_read_and_no_file_is_left(
    zygote: Zygote,
    tmp_path: Path,
    folder: Path,
    writable: bool,
    left: tuple[str, ...],
    journal_mode: str,
) -> None:
    """By `doctor`, `list` and `show`, in every journal mode, and with the files of a crash."""
    path = make(folder / "site.db", left, journal_mode)
    folder.chmod(0o777 if writable else 0o755)
    before = files(folder)
    (code, report), listed, shown = read_as(zygote, OTHER, path, tmp_path / "warm.db")
    assert before == files(folder)
    assert [1, 0, 0] == [code, listed[0], shown[0]]  # the letter is a problem
    assert [] == database_problems(report)
    [journal] = [f for f in json.loads(report)["findings"] if f["check"] == "journal"]
    assert journal_mode == journal["values"]["journal_mode"]
    assert "refused" in listed[1]
    assert "refused" in shown[1]


@pytest.mark.root
@pytest.mark.parametrize("writable", [True, False], ids=["writable folder", "read-only folder"])
def test_a_wal_without_its_shm_is_read_by_the_owner_alone(
    zygote: Zygote, tmp_path: Path, folder: Path, writable: bool
) -> None:
    """SQLite would have to create it: as another user's, it would lock the owner out."""
    path = make(folder / "site.db", ("-wal",))
    folder.chmod(0o777 if writable else 0o755)
    before = files(folder)
    (_, report), listed, _ = read_as(zygote, OTHER, path, tmp_path / "warm.db")
    assert before == files(folder)
    [problem] = database_problems(report)
    assert "Read the database as its owner" in problem["message"]
    assert 2 == listed[0]
    assert "Read the database as its owner" in listed[1]
    folder.chmod(0o777)
    _, listed, _ = read_as(zygote, OWNER, path, tmp_path / "again.db")
    assert (0, True) == (listed[0], "refused" in listed[1])


def drop_wal_read_permission(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").chmod(0o600)


def drop_read_permission(path: Path) -> None:
    path.chmod(0o600)


@pytest.mark.root
@pytest.mark.parametrize(
    ("drop", "check", "expected"),
    [
        (drop_wal_read_permission, "database", "run the doctor as the owner of the file"),
        (drop_read_permission, "file", "is not readable for this user"),
    ],
)
def test_a_missing_permission_is_not_taken_for_a_crash(
    zygote: Zygote,
    tmp_path: Path,
    folder: Path,
    drop: Callable[[Path], None],
    check: str,
    expected: str,
) -> None:
    """The finding says that this user may not read the files."""
    path = make(folder / "site.db", ("-wal", "-shm"))
    drop(path)
    before = files(folder)
    (code, report), *_ = read_as(zygote, OTHER, path, tmp_path / "warm.db")
    assert before == files(folder)
    [problem] = [f for f in json.loads(report)["findings"] if f["verdict"] == "problem"]
    assert (1, check) == (code, problem["check"])
    assert expected in problem["message"]
    assert "died" not in problem["message"]


@pytest.mark.root
def test_a_backup_replaces_no_file_of_another_user(folder: Path) -> None:
    """Not of the superuser either, although the folder is everybody's."""
    target = folder / "copy.db"
    target.write_text("mine")

    async def back_up() -> None:
        async with forebay.open_sqlite(folder / "a.db") as store:
            with pytest.raises(FileExistsError):
                await store.backup(target, overwrite=True)

    os.seteuid(OTHER)
    try:
        trio.run(back_up)
    finally:
        os.seteuid(0)
    assert target.read_text() == "mine"
