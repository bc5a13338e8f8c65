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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import trio

from forebay._database import Database
from forebay._errors import SpillError, format_count
from forebay._spill import is_spill, read_database, read_spill
from forebay._table.table import Table
from forebay.doctor._checks import Integrity, sqlite_itself
from forebay.doctor._examination import Inside, examine_inside
from forebay.doctor._findings import Finding, HealthReport, Verdict

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
) -> HealthReport:
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
    return HealthReport(os.fsdecode(path), tuple(findings))


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
        database = read_database(path) if _is_readable(path) else None
        if database is not None and database.differs_from(here):
            yield Finding(
                "spills",
                Verdict.OK,
                f"{str(path)!r} is of another database: {database}",
                {"path": str(path), "database": database.path},
            )
        else:
            yield _spill(path, inside.imported)
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


def _spill(path: Path, imported: Mapping[str, int]) -> Finding:
    def problem(message: str, **more: object) -> Finding:
        return Finding("spills", Verdict.PROBLEM, message, {"path": str(path), **more})

    if not _is_readable(path):
        return problem(f"{str(path)!r} is no regular file")
    part = path.suffix == ".part"
    told = (
        f"{str(path)!r} was not written to its end: the program died over it, or is writing it yet"
    )
    try:
        spill = read_spill(path, incomplete=part)
    except SpillError as error:
        return problem(f"{told}. {error}" if part else str(error))
    except OSError as error:
        return problem(f"{str(path)!r}: {error.strerror}")
    known = imported.get(spill.id)
    values = {"entries": spill.entries, "imported": known is not None}
    if known is not None and known >= spill.entries:
        what = "its whole lines are" if part else "it is"
        return Finding(
            "spills",
            Verdict.ADVICE,
            f"{str(path)!r}: {what} taken in, its entries are in the tables, or dead letters; "
            f"remove it",
            {"path": str(path), **values},
        )
    if known is not None:
        return problem(
            f"{str(path)!r} has {format_count(spill.entries, 'entry')}, and only the first "
            f"{known:,} of them were taken in, from a file of it that was not whole. "
            f"The others are not in the database: see docs/operations.md, on spill files, for "
            f"how to take in these alone",
            **values,
        )
    doubt = "" if spill.database else ", if they are of this database, which it does not say"
    if part:
        return problem(
            f"{told}. It has {format_count(spill.entries, 'entry')} in whole lines, which are "
            f"not in the database{doubt}: when no program writes it any more, "
            f"`forebay dead-letters replay DB --spill FILE --incomplete`",
            **values,
        )
    return problem(
        f"{str(path)!r} has {format_count(spill.entries, 'entry')} not in the database{doubt}: "
        f"see why it was written ({spill.reason}), then "
        f"`forebay dead-letters replay DB --spill FILE`",
        **values,
        reason=spill.reason,
    )


__all__ = ["Finding", "HealthReport", "Integrity", "Verdict", "examine"]
