"""The doctor: check a SQLite file, and the files beside it, for problems.

It only reads. The command `forebay doctor` prints its findings; this module is for programs.

Example:
    >>> async def alarm(path: str) -> list[str]:
    ...     report = await examine(path)
    ...     return [f.message for f in report.findings if f.verdict is Verdict.PROBLEM]
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import trio

from forebay._table.table import Table
from forebay.doctor._database_checks import Integrity
from forebay.doctor._examination import DatabaseFindings, examine_database
from forebay.doctor._file_checks import check_disk, check_file, check_wal
from forebay.doctor._findings import Finding, HealthReport, Verdict
from forebay.doctor._spill_checks import check_spills
from forebay.doctor._sqlite_version import check_sqlite_version


async def examine(
    path: str | os.PathLike[str],
    *,
    tables: Sequence[Table[Any]] = (),
    integrity: Integrity = "quick",
    spills: Sequence[str | os.PathLike[str]] = (),
) -> HealthReport:
    """Examine a SQLite file. A program may be using it meanwhile.

    It writes nothing, and leaves no file beside the database. If the path is a symbolic link, the
    files beside the real file are examined.

    Cancelled, it ends as soon as SQLite interrupts the check that runs.

    Args:
        path: the file.
        tables: declarations to compare the tables in the file with. The declarations that are
            stored with dead letters are compared in any case.
        integrity: how thoroughly to look for damage. `quick` reads the whole file; `full` also
            compares each index with its table, which takes longer; `none` skips this check and
            that of the foreign keys.
        spills: spill files to check. Those beside the file that have ``spill`` in their names are
            checked in any case.

    Returns:
        The findings. If the file is missing, or is not a database, that is a finding too.

    Raises:
        ValueError: `integrity` is none of the three.
    """
    if integrity not in get_args(Integrity):
        raise ValueError(f"integrity={integrity!r}: expected one of {get_args(Integrity)}")
    file, folders = await trio.to_thread.run_sync(_resolve, Path(path))
    found = await trio.to_thread.run_sync(check_file, file)
    findings = [found]
    database = DatabaseFindings([])
    if found.verdict is not Verdict.PROBLEM:
        database = await examine_database(file, tables, integrity)
    findings += database.findings
    findings += await trio.to_thread.run_sync(lambda: [check_wal(file), check_disk(file)])
    findings += await trio.to_thread.run_sync(check_spills, file, folders, spills, database)
    findings.append(check_sqlite_version())
    return HealthReport(os.fsdecode(path), tuple(findings))


def _resolve(path: Path) -> tuple[Path, list[Path]]:
    """Return the real file of a path, and the folders in which its spill files may be.

    SQLite resolves symbolic links, and keeps its other files beside the real one. A program keeps a
    spill beside the path that it knows.
    """
    file = Path(os.path.realpath(path))
    folders = [path.parent]
    if os.path.realpath(path.parent) != str(file.parent):
        folders.append(file.parent)
    return file, folders


__all__ = ["Finding", "HealthReport", "Integrity", "Verdict", "examine"]
