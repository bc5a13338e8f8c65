"""`forebay.doctor.examine`: all checks of a file, which is only read."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from forebay import open_buffers, open_sqlite
from forebay.doctor import (
    Finding,
    Verdict,
    _database_checks,
    _examination,
    _sqlite_errors,
    examine,
)
from tests.doctor.site import HITS, execute, found, problem

CHECKS = (
    "file journal synchronous pages integrity foreign_keys tables conflicts dead_letters wal disk "
    "spills sqlite"
)


async def test_a_sound_file_has_no_problem(path: Path) -> None:
    """Each check has its finding."""
    report = await examine(path, tables=[HITS], integrity="full")
    assert report.healthy
    assert str(path) == report.path
    assert CHECKS.split() == [finding.check for finding in report.findings]
    assert {Verdict.OK} == {f.verdict for f in report.findings if f.check != "sqlite"}
    assert "integrity_check found no fault" in [finding.message for finding in report.findings]


def keep(_path: Path) -> None:
    """Leave the file as the last program closed it."""


def leave_wal(path: Path) -> None:
    """Leave a WAL with a transaction, as a program does that was killed."""
    copies = [path.with_name("copy.db"), path.with_name("copy.db-wal")]
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DELETE FROM hits WHERE count = 1")
        raw.commit()
        shutil.copy(path, copies[0])
        shutil.copy(path.with_name("site.db-wal"), copies[1])
    for copy in copies:
        copy.rename(path.with_name(copy.name.replace("copy", "site")))


def use_rollback_journal(path: Path) -> None:
    execute(path, "PRAGMA journal_mode = delete")


@pytest.mark.parametrize("prepare", [keep, leave_wal, use_rollback_journal])
async def test_the_file_is_not_changed(path: Path, prepare: Callable[[Path], None]) -> None:
    """Neither its bytes nor its time. No file is created beside it, but for an `-shm` to a WAL."""
    prepare(path)
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder(path)}
    assert (await examine(path, integrity="full")).healthy
    after = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder(path)}
    if prepare is leave_wal:
        after.pop("site.db-shm")
    assert before == after


def folder(path: Path) -> list[Path]:
    return list(path.parent.iterdir())


async def test_a_file_in_use_can_be_examined(path: Path) -> None:
    """The doctor and a program that writes do not disturb each other."""
    async with open_sqlite(path) as store, open_buffers(store, HITS) as buffers:
        await buffers[HITS].write(("/new", 1))
        assert (await examine(path)).healthy
        await buffers[HITS].write(("/newer", 1))


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 0), True),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
async def test_the_wal_reset_bug_is_known_by_the_version_of_sqlite(
    path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], expected: bool
) -> None:
    """It is only advice, since two connections rarely write at the same moment."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    [finding] = await found(path, "sqlite", integrity="none")
    assert (Verdict.ADVICE if expected else Verdict.OK) is finding.verdict
    assert expected == ("WAL-reset bug" in finding.message)


async def test_integrity_is_one_of_three(path: Path) -> None:
    """Any other value is refused."""
    with pytest.raises(ValueError, match="integrity='slow'"):
        await examine(path, integrity="slow")  # type: ignore[arg-type]


async def test_a_file_with_an_exclusive_lock_is_a_problem(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be examined now."""
    monkeypatch.setattr(_examination, "_LOCK_TIMEOUT", 0.01)
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA locking_mode = exclusive")
        raw.execute("BEGIN EXCLUSIVE")
        finding = await problem(path, "database")
    assert "SQLITE_BUSY" == finding.values["error_code"]
    assert "examine it again" in finding.message


async def test_a_transaction_that_must_be_rolled_back_is_a_problem(path: Path) -> None:
    """A program died in it, in another journal mode. A reader may not roll it back."""
    use_rollback_journal(path)
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA cache_size = 1")
        raw.execute("BEGIN")
        raw.execute("UPDATE hits SET count = -1")
        shutil.copy(path, copy)
        shutil.copy(path.with_name("site.db-journal"), copy.with_name("copy.db-journal"))
    finding = await problem(copy, "database")
    assert "SQLITE_READONLY_ROLLBACK" == finding.values["error_code"]
    assert "A program died in the middle of a transaction" in finding.message


@pytest.mark.parametrize(
    ("name", "expected", "unexpected"),
    [
        ("SQLITE_READONLY", "may not", "died"),
        ("SQLITE_READONLY_DIRECTORY", "may not write to the folder", "died"),
        ("SQLITE_READONLY_CANTLOCK", "may not", "died"),
        ("SQLITE_READONLY_CANTINIT", "may not", "died"),
        ("SQLITE_READONLY_ROLLBACK", "died", "may not"),
        ("SQLITE_READONLY_RECOVERY", "died", "may not"),
        ("SQLITE_CANTOPEN_ISDIR", "may not read", "died"),
        ("SQLITE_IOERR_READ", "The disk failed", "may not"),
        ("SQLITE_CORRUPT_INDEX", "The file is corrupt", "disk"),
    ],
)
def test_the_advice_depends_on_the_extended_code(name: str, expected: str, unexpected: str) -> None:
    """SQLITE_READONLY has several causes."""
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode, error.sqlite_errorname = getattr(sqlite3, name), name
    message = _sqlite_errors.finding_of("database", error).message
    assert expected in message
    assert unexpected not in message


async def test_a_check_that_fails_does_not_end_the_others(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is a finding, after those that it had yielded."""

    def pages(raw: sqlite3.Connection) -> Iterator[Finding]:
        yield Finding("pages", Verdict.OK, "so far")
        raw.execute("no SQL")

    monkeypatch.setattr(_database_checks, "_pages", pages)
    findings = await found(path, "pages")
    assert [Verdict.OK, Verdict.PROBLEM] == [finding.verdict for finding in findings]
    assert "SQLITE_ERROR" == findings[1].values["error_code"]
    assert [Verdict.OK] == [f.verdict for f in await found(path, "integrity")]


async def test_an_examination_can_be_cancelled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a statement that would never end."""
    scope = trio.CancelScope()

    def pages(raw: sqlite3.Connection) -> Iterator[Finding]:
        trio.from_thread.run_sync(scope.cancel)
        raw.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT sum(i) FROM n"
        )
        yield Finding("pages", Verdict.OK, "not reached")

    monkeypatch.setattr(_database_checks, "_pages", pages)
    with scope:
        await examine(path)
    assert scope.cancelled_caught
