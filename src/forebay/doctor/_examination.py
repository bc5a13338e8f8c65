"""The examination of a SQLite file from inside, by a connection that only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import trio

from forebay._errors import StoreError
from forebay._table.table import Table
from forebay.doctor import _database_checks as checks
from forebay.doctor._database_checks import Integrity
from forebay.doctor._findings import Finding, Verdict
from forebay.doctor._sqlite_errors import finding_of
from forebay.stores.sqlite._database_id import read_id
from forebay.stores.sqlite._errors import SQLITE_ERRORS
from forebay.stores.sqlite._format_table import check_database_format
from forebay.stores.sqlite._inspector import open_inspector
from forebay.stores.sqlite._spill_import import imported_entries

_LOCK_TIMEOUT: Final = 5.0
"""Seconds to wait for a program with an exclusive lock on the file."""

_STEPS: Final = 1_000_000
"""Steps of SQLite's virtual machine, some milliseconds, between two looks for cancellation."""


_OF_FOREBAY: Final = frozenset({"dead_letters", "spool"})
"""The checks that read tables of forebay, whose format must be known."""


class DatabaseFindings(NamedTuple):
    """What was found inside a database.

    Attributes:
        findings: the results of the checks.
        id: the id of the database; None if it has none, or cannot be read.
        imported: how many entries were imported from each spill, by the ids of the spills.
    """

    findings: list[Finding]
    id: str | None = None
    imported: Mapping[str, int] = MappingProxyType({})


async def examine_database(
    file: Path, tables: Sequence[Table[Any]], integrity: Integrity
) -> DatabaseFindings:
    """Return what is found inside a file. If it cannot be opened, that is a finding too."""
    findings: list[Finding] = []
    try:
        async with open_inspector(
            file, busy_timeout=_LOCK_TIMEOUT, set_up=_let_cancel
        ) as inspector:
            # This query fails if the file is not a database.
            await inspector.fetch_all("SELECT count(*) FROM sqlite_schema")

            def journal_mode(raw: sqlite3.Connection) -> str:
                # An immutable file is in WAL mode, though SQLite says something else.
                return "wal" if inspector.immutable else checks.read_journal_mode(raw)

            newer = await inspector.run(_format_problem, str(file))
            for name, check in checks.all_checks(tables, integrity, journal_mode):
                if newer is None or name not in _OF_FOREBAY:
                    findings += await inspector.run(checks.run_check, name, check)
            if newer is not None:
                # What its tables say is not known, so neither are the spills that were imported.
                return DatabaseFindings([*findings, Finding("format", Verdict.PROBLEM, newer)])
            return DatabaseFindings(
                findings,
                await inspector.run(read_id),
                await inspector.run(imported_entries),
            )
    except SQLITE_ERRORS as error:
        return DatabaseFindings([*findings, finding_of("database", error)])
    except (OSError, StoreError) as error:
        return DatabaseFindings([*findings, Finding("database", Verdict.PROBLEM, str(error))])


def _format_problem(raw: sqlite3.Connection, path: str) -> str | None:
    try:
        check_database_format(raw, path)
    except StoreError as error:
        return str(error)
    return None


def _let_cancel(raw: sqlite3.Connection) -> None:
    # If the handler raises, SQLite interrupts the statement. The next call of the connection then
    # raises Cancelled.
    raw.set_progress_handler(trio.from_thread.check_cancelled, _STEPS)
