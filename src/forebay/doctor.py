"""The doctor: whether a SQLite file, and what lies beside it, needs a person.

It only reads. `forebay doctor` prints what it finds; this module is for programs.

Example:
    >>> async def alarm(path: str) -> list[str]:
    ...     report = await examine(path)
    ...     return [f.message for f in report.findings if f.verdict is Verdict.PROBLEM]
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import trio

from forebay._database import Database
from forebay._errors import SpillError
from forebay._finding import Finding, Report, Verdict
from forebay._spill import database_of, is_spill, read_spill
from forebay._table import Table
from forebay.stores._examination import Inside, examine_inside
from forebay.stores._health import Integrity, sqlite_itself

_LOGS: Final = ("-wal", "-shm", "-journal")
"""How the names of the files end that SQLite keeps beside a database."""

_LARGE_WAL: Final = 64 * 2**20
"""Bytes. SQLite checkpoints at 1,000 pages, some 4 MB: far beyond that, something holds it up."""

_LITTLE_ROOM: Final = 100 * 2**20
"""Bytes. Less than this is gone before somebody has read of it."""


async def examine(
    path: str | os.PathLike[str],
    *,
    tables: Sequence[Table[Any]] = (),
    integrity: Integrity = "quick",
    spills: Sequence[str | os.PathLike[str]] = (),
) -> Report:
    """Examine a SQLite file. Nothing is written to it; a program may be using it.

    SQLite itself may leave empty ``-wal`` and ``-shm`` files beside it, as after any reading.

    Cancelled, it ends as soon as SQLite lets go of the check that is running.

    Args:
        path: the file.
        tables: declarations to compare the tables in the file with. Those kept with dead letters
            are compared in any case.
        integrity: how thoroughly to look for damage. `quick` reads the whole file; `full`
            compares the indexes with their tables, too, which takes longer;
            `none` does not look, nor at the foreign keys.
        spills: spill files to look at, beside those in the file's folder that have ``spill`` in
            their names.

    Returns:
        What was found. That there is no such file, or no database in it, is a finding, too.

    Raises:
        ValueError: `integrity` is none of these.
    """
    if integrity not in get_args(Integrity):
        raise ValueError(f"integrity={integrity!r}: expected one of {get_args(Integrity)}")
    file = Path(path)
    found = await trio.to_thread.run_sync(_file, file)
    findings = [sqlite_itself(), found]
    inside = Inside([])
    if found.verdict is not Verdict.PROBLEM:
        inside = await examine_inside(file, tables, integrity)
    findings += inside.findings
    findings += await trio.to_thread.run_sync(lambda: list(_beside(file)))
    findings += await trio.to_thread.run_sync(lambda: list(_spills(file, spills, inside)))
    return Report(os.fsdecode(path), tuple(findings))


def _file(file: Path) -> Finding:
    """Look at the file from outside. Never open it: closing it would end this process's locks.

    https://sqlite.org/howtocorrupt.html, section 2.2.
    """

    def problem(message: str) -> Finding:
        return Finding("file", Verdict.PROBLEM, message)

    try:
        status = file.stat()
    except FileNotFoundError:
        log = file.with_name(f"{file.name}-wal")
        kept = (
            f". But there is its log {str(log)!r}, which holds what the file may lack: keep it, "
            f"and put the file back beside it"
            if log.exists()
            else ""
        )
        return problem(f"there is no file {str(file)!r}{kept}")
    except OSError as error:
        return problem(f"{str(file)!r} cannot be looked at: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return problem(f"{str(file)!r} is no regular file")
    if not os.access(file, os.R_OK):
        return problem(f"{str(file)!r} may not be read by this user")
    if status.st_nlink > 1:
        return problem(
            f"{str(file)!r} has {status.st_nlink} names (hard links): SQLite keeps a log by each, "
            f"and programs that use different ones corrupt the file; remove all names but one"
        )
    return Finding("file", Verdict.OK, f"{status.st_size:,} bytes", {"bytes": status.st_size})


def _beside(file: Path) -> Iterator[Finding]:
    """Look at the log beside the file, and at the disk that they are on."""
    try:
        log = file.with_name(f"{file.name}-wal").stat().st_size
    except OSError:
        log = 0
    values = {"bytes": log}
    if log > _LARGE_WAL:
        yield Finding(
            "wal",
            Verdict.ADVICE,
            f"the log has {log:,} bytes: a reader was, or is, open for long, so that it could not "
            f"be put into the file. It shrinks when the last program closes the file",
            values,
        )
    else:
        yield Finding("wal", Verdict.OK, f"the log has {log:,} bytes", values)
    try:
        free = shutil.disk_usage(file.parent).free
    except OSError as error:
        yield Finding("disk", Verdict.PROBLEM, f"{str(file.parent)!r}: {error.strerror}")
        return
    values = {"free_bytes": free}
    if free < max(_LITTLE_ROOM, log):
        yield Finding(
            "disk",
            Verdict.PROBLEM,
            f"{free:,} bytes are free on its disk: make room. When it is full, buffers fill up and "
            f"producers wait",
            values,
        )
    else:
        yield Finding("disk", Verdict.OK, f"{free:,} bytes are free on its disk", values)


def _spills(
    file: Path, named: Sequence[str | os.PathLike[str]], inside: Inside
) -> Iterator[Finding]:
    """Look at the spill files that are named, and at those that lie beside the database."""
    paths = dict.fromkeys([*map(Path, named), *_candidates(file)])
    here = Database.at(file, inside.id)
    for path in paths:
        database = database_of(path) if _is_readable(path) else None
        if database is not None and database.is_other(here):
            yield Finding(
                "spills",
                Verdict.OK,
                f"{str(path)!r} is of another database: {database}",
                {"path": str(path), "database": database.path},
            )
        else:
            yield _spill(path, inside.taken_in)
    if not paths:
        yield Finding("spills", Verdict.OK, "no spill files beside it")


def _candidates(file: Path) -> Iterator[Path]:
    try:
        beside = sorted(file.parent.iterdir())
    except OSError:
        return
    names = {path.name for path in beside}
    for path in beside:
        # Databases must not be opened here, no more than the file: see `_file`.
        database = path == file or f"{path.name}-wal" in names or path.name.endswith(_LOGS)
        if "spill" in path.name.lower() and not database and path.is_file() and is_spill(path):
            yield path


def _is_readable(path: Path) -> bool:
    """Whether reading it comes to an end, be it an error: not so of a pipe."""
    return path.is_file() or not path.exists()


def _spill(path: Path, taken_in: frozenset[str]) -> Finding:
    values = {"path": str(path)}
    if not _is_readable(path):
        return Finding("spills", Verdict.PROBLEM, f"{str(path)!r} is no regular file", values)
    if path.suffix == ".part":
        return Finding(
            "spills",
            Verdict.PROBLEM,
            f"{str(path)!r} was not written to its end: the program died over it. Its whole lines "
            f"are entries that are in no table",
            values,
        )
    try:
        spill = read_spill(path)
    except SpillError as error:
        return Finding("spills", Verdict.PROBLEM, str(error), values)
    except OSError as error:
        return Finding("spills", Verdict.PROBLEM, f"{str(path)!r}: {error.strerror}", values)
    entries = sum(map(len, spill.unsettled.values()))
    if spill.id in taken_in:
        return Finding(
            "spills",
            Verdict.ADVICE,
            f"{str(path)!r} is taken in: its entries are in the tables, or dead letters; remove it",
            {**values, "entries": entries, "taken_in": True},
        )
    doubt = "" if spill.database else ", if they are of this database, which it does not say"
    return Finding(
        "spills",
        Verdict.PROBLEM,
        f"{str(path)!r} has {entries:,} entries that are not in the database{doubt}: see why it "
        f"was written ({spill.reason}), then `forebay dead-letters replay DB --spill FILE`",
        {**values, "entries": entries, "taken_in": False, "reason": spill.reason},
    )


__all__ = ["Finding", "Integrity", "Report", "Verdict", "examine"]
