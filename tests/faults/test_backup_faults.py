"""A backup that meets a fault: its name has the complete copy, or what was there before."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from tests.faults.harness import Fault, Zygote, read

ROWS = 60
"""Rows of 1 KB. So few that a kill at each write to the copy takes some seconds only."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of some pages."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = wal").close()
        raw.execute("CREATE TABLE t (a)").close()
        raw.executemany("INSERT INTO t VALUES (hex(zeroblob(500)))", [()] * ROWS).close()
    return path


def back_up(
    zygote: Zygote, path: Path, copy: Path, *faults: Fault, overwrite: bool = False
) -> tuple[list[str], int]:
    """Run the program to its end, and return its lines and its exit status."""
    arguments = [path, copy, "overwrite"] if overwrite else [path, copy]
    with zygote.run("backing_up.py", *arguments, faults=faults, after="open") as child:
        child.send("leave")
        lines = child.lines()
        return lines, child.wait()


def is_complete(copy: Path) -> bool:
    assert [("ok",)] == read(copy, "PRAGMA integrity_check")
    return [(ROWS,)] == read(copy, "SELECT count(*) FROM t")


def parts(copy: Path) -> list[Path]:
    return list(copy.parent.glob(f"{copy.name}*.part"))


@pytest.mark.strace
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("call", ["openat", "pwrite64", "fsync", "linkat", "renameat", "unlinkat"])
def test_a_kill_leaves_the_whole_copy_or_what_was_there(
    zygote: Zygote, path: Path, tmp_path: Path, call: str, overwrite: bool
) -> None:
    """At every call of several system calls."""
    for n in count(1):
        copy = tmp_path / f"copy{n}.db"
        if overwrite:
            copy.write_text("old")
        fault = Fault(path, call, "signal=KILL", str(n), files=())
        lines, status = back_up(zygote, path, copy, fault, overwrite=overwrite)
        if status == 0:
            assert ["done"] == lines
            assert is_complete(copy)
            assert [] == parts(copy)
            # A copy gets its name by a link, or by a rename if it replaces a file.
            assert n > 1 or call == ("linkat" if overwrite else "renameat")
            break
        assert -9 == status
        if copy.exists() and (not overwrite or copy.read_bytes() != b"old"):
            assert is_complete(copy)
        assert [(ROWS,)] == read(path, "SELECT count(*) FROM t")


@pytest.mark.strace
@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "ENOSYS"])
def test_a_file_system_without_hard_links(
    zygote: Zygote, path: Path, tmp_path: Path, error: str
) -> None:
    """The file gets its name by a rename."""
    copy = tmp_path / "copy.db"
    fault = Fault(tmp_path, "linkat", f"error={error}", "1", files=())
    assert (["done"], 0) == back_up(zygote, path, copy, fault)
    assert is_complete(copy)
    assert [] == parts(copy)


@pytest.mark.strace
@pytest.mark.parametrize(
    ("call", "error", "kind"),
    [
        ("pwrite64", "ENOSPC", "StoreError"),
        ("pwrite64", "EIO", "StoreError"),
        ("fsync", "EIO", "OSError"),
        ("linkat", "EACCES", "PermissionError"),
        ("linkat", "EEXIST", "FileExistsError"),
    ],
)
def test_a_copy_that_cannot_be_written_is_removed(
    zygote: Zygote, path: Path, tmp_path: Path, call: str, error: str, kind: str
) -> None:
    """The error says why."""
    copy = tmp_path / "copy.db"
    fault = Fault(tmp_path, call, f"error={error}", "1", files=())
    lines, status = back_up(zygote, path, copy, fault)
    assert 0 == status
    assert lines[0].startswith(kind)
    assert not copy.exists()
    assert [] == parts(copy)


@pytest.mark.strace
@pytest.mark.parametrize(("error", "when"), [("EINVAL", "1"), ("EIO", "2")])
def test_a_copy_that_may_not_survive_a_power_failure(
    zygote: Zygote, path: Path, tmp_path: Path, error: str, when: str
) -> None:
    """The file system does not support fsync, or that of the folder fails: a warning says so."""
    copy = tmp_path / "copy.db"
    fault = Fault(tmp_path, "fsync", f"error={error}", when, files=())
    lines, status = back_up(zygote, path, copy, fault)
    assert ("done", 0) == (lines[-1], status)
    assert lines[0].startswith(f"WARNING: a power failure may damage the backup {str(copy)!r}")
    assert is_complete(copy)


@pytest.mark.root
def test_a_backup_to_a_full_disk(zygote: Zygote, path: Path, small_disk: Path) -> None:
    """The database is larger than the disk."""
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("INSERT INTO t VALUES (zeroblob(2000000))").close()
    lines, status = back_up(zygote, path, small_disk / "copy.db")
    assert 0 == status
    assert "StoreError" in lines[0]
    assert "SQLITE_FULL" in lines[0]
    assert [] == list(small_disk.iterdir())
