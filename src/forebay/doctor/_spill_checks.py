"""Checks of spill files: whether their entries are in the database."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from forebay._database import Database
from forebay._errors import SpillError, format_count
from forebay._own_files import owners_of
from forebay._spill.model import Spill
from forebay._spill.reading import is_spill, read_database, read_spill
from forebay.doctor._examination import DatabaseFindings
from forebay.doctor._findings import Finding, Verdict
from forebay.stores.sqlite._inspector import BESIDE


def check_spills(
    file: Path,
    folders: Iterable[Path],
    named: Sequence[str | os.PathLike[str]],
    found: DatabaseFindings,
) -> list[Finding]:
    """Check the spill files that are named, and those in the folders.

    Args:
        file: the database.
        folders: the folders in which a program may have left a spill.
        named: further spill files.
        found: what was found in the database.
    """
    paths = dict.fromkeys([*map(Path, named), *_candidates(file, folders)])
    here = Database.at(file, found.id)
    owners = owners_of(file)
    return [_check(path, here, owners, found.imported) for path in paths] or [
        Finding("spills", Verdict.OK, "no spill files beside it")
    ]


def _candidates(file: Path, folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        try:
            files = sorted(folder.iterdir())
        except OSError:
            continue
        names = {path.name for path in files}
        for path in files:
            # A database must not be opened here: to close it would end this process's locks on it.
            is_database = (
                path.name.endswith(BESIDE)
                or f"{path.name}-wal" in names
                or os.path.realpath(path) == str(file)
            )
            is_candidate = "spill" in path.name.lower() and not is_database
            if is_candidate and path.is_file() and is_spill(path):
                yield path


def _check(
    path: Path, here: Database, owners: Collection[int], imported: Mapping[str, int]
) -> Finding:
    database = read_database(path, owners=owners)
    if database is not None and database.differs_from(here):
        return Finding(
            "spills",
            Verdict.OK,
            f"{str(path)!r} belongs to another database: {database}",
            {"path": str(path), "database": database.path},
        )
    is_part = path.suffix == ".part"
    try:
        spill = read_spill(path, incomplete=is_part, owners=owners)
    except SpillError as error:
        return _problem(path, f"{_incomplete(path)}. {error}" if is_part else str(error))
    except OSError as error:
        return _problem(path, f"{str(path)!r}: {error.strerror}")
    return _compare(path, spill, imported.get(spill.id), is_part=is_part)


def _compare(path: Path, spill: Spill, imported: int | None, *, is_part: bool) -> Finding:
    """Compare the entries of a spill with those that were imported.

    Args:
        path: the file.
        spill: its content.
        imported: how many of its entries were imported; None if it was never imported.
        is_part: whether the file is incomplete.
    """
    entries = format_count(spill.entries, "entry")
    values = {"entries": spill.entries, "imported": imported is not None}
    if imported is not None and imported >= spill.entries:
        what = "its complete lines were" if is_part else "it was"
        return Finding(
            "spills",
            Verdict.ADVICE,
            f"{str(path)!r}: {what} imported, so its entries are in the tables or are dead "
            f"letters; remove the file",
            {"path": str(path), **values},
        )
    if imported is not None:
        return _problem(
            path,
            f"{str(path)!r} has {entries}, of which only the first {imported:,} were imported, "
            f"from an incomplete copy of the file. The others are not in the database: see "
            f"docs/spill-files.md for how to import these alone",
            **values,
        )
    doubt = "" if spill.database else ", if they belong to this database, which it does not say"
    if is_part:
        return _problem(
            path,
            f"{_incomplete(path)}. It has {entries} in complete lines, which are not in the "
            f"database{doubt}: make sure that no program is writing it, then run "
            f"`forebay dead-letters replay DB --spill FILE --incomplete`",
            **values,
        )
    return _problem(
        path,
        f"{str(path)!r} has {entries} not in the database{doubt}: fix the cause ({spill.reason}), "
        f"then run `forebay dead-letters replay DB --spill FILE`",
        **values,
        reason=spill.reason,
    )


def _incomplete(path: Path) -> str:
    return (
        f"{str(path)!r} is incomplete: its program died while it wrote the file, or is still "
        f"writing it"
    )


def _problem(path: Path, message: str, **values: object) -> Finding:
    return Finding("spills", Verdict.PROBLEM, message, {"path": str(path), **values})
