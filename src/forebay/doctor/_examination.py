"""The examination of a SQLite file from inside, by a connection that only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import trio

from forebay._table.table import Table
from forebay.doctor import _checks as health
from forebay.doctor._checks import Integrity
from forebay.doctor._findings import Finding, Verdict
from forebay.sqlite import connect
from forebay.stores.sqlite._database_id import read_id
from forebay.stores.sqlite._errors import SQLITE_ERRORS
from forebay.stores.sqlite._spill_import import imported_entries

_LOCK_TIMEOUT: Final = 5.0
"""Seconds to wait for a program that has the file for itself."""

_STEPS: Final = 1_000_000
"""Steps of SQLite's machine, some milliseconds, after which a check looks for cancellation."""


class Inside(NamedTuple):
    """What a connection finds.

    Attributes:
        findings: the results of its checks.
        id: the database's own id; None where it has none, or cannot be read.
        imported: the ids of the spills that were taken in, and how many entries of each.
    """

    findings: list[Finding]
    id: str | None = None
    imported: Mapping[str, int] = MappingProxyType({})


async def examine_inside(file: Path, tables: Sequence[Table[Any]], integrity: Integrity) -> Inside:
    """Give what a connection finds; what it cannot find is a finding as well."""
    findings: list[Finding] = []
    try:
        async with connect(file, readonly=True, busy_timeout=_LOCK_TIMEOUT) as connection:
            await connection.run(_let_cancel)
            # The first reading tells whether it is a database at all.
            await connection.fetch_one("SELECT count(*) FROM sqlite_schema")
            for name, check in health.checks(tables, integrity):
                findings += await connection.run(health.run, name, check)
            known = await connection.run(read_id)
            return Inside(findings, known, await connection.run(imported_entries))
    except SQLITE_ERRORS as error:
        return Inside([*findings, health.failed("database", error)])
    except OSError as error:  # it went away meanwhile
        return Inside([*findings, Finding("database", Verdict.PROBLEM, str(error))])


def _let_cancel(raw: sqlite3.Connection) -> None:
    # What it raises ends the statement; the next call of the connection then raises Cancelled.
    raw.set_progress_handler(trio.from_thread.check_cancelled, _STEPS)
