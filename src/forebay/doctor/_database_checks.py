"""Checks of a SQLite file from inside, by a connection that only reads.

Each check takes the connection and yields its findings. It may raise `SQLITE_ERRORS`, which
`run_check` turns into a finding too.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from forebay._errors import SchemaError
from forebay._table.table import Table
from forebay.doctor._dead_letter_checks import check_dead_letters
from forebay.doctor._findings import Finding, Verdict
from forebay.doctor._spool_checks import check_spool, is_spool
from forebay.doctor._sqlite_errors import CORRUPT_ADVICE, finding_of
from forebay.stores.sqlite._errors import SQLITE_ERRORS
from forebay.stores.sqlite._schema import check_table
from forebay.stores.sqlite._silent_rules import silent_rules
from forebay.stores.sqlite._statements import quoted

Integrity: TypeAlias = Literal["quick", "full", "none"]

Check: TypeAlias = Callable[[sqlite3.Connection], Iterator[Finding]]

JournalMode: TypeAlias = Callable[[sqlite3.Connection], str]

_LISTED_FAULTS: Final = 10
"""The most faults that SQLite looks for, and that a finding lists."""

_FREE_PAGES: Final = 0.5
"""Share of unused pages above which VACUUM is worth its time. SQLite reuses them by itself."""

_SMALL_FILE: Final = 1_000
"""Pages of a file that needs no VACUUM."""


def all_checks(
    tables: Sequence[Table[Any]], integrity: Integrity, journal_mode: JournalMode
) -> Iterator[tuple[str, Check]]:
    """Yield the checks with their names, in the order in which the findings are printed.

    Args:
        tables: the declarations to compare the tables with.
        integrity: how thoroughly to look for damage.
        journal_mode: returns the journal mode of the file.
    """
    yield "journal", partial(_journal, journal_mode=journal_mode)
    yield "synchronous", _synchronous
    yield "pages", _pages
    if integrity != "none":
        yield "integrity", partial(_integrity, full=integrity == "full")
        yield "foreign_keys", _foreign_keys
    yield "tables", partial(_tables, tables=tables)
    yield "conflicts", _conflicts
    yield "dead_letters", check_dead_letters
    yield "spool", check_spool


def run_check(raw: sqlite3.Connection, name: str, check: Check) -> list[Finding]:
    """Run a check and return its findings; an error of SQLite is the last of them."""
    findings: list[Finding] = []
    try:
        findings.extend(check(raw))
    except SQLITE_ERRORS as error:
        findings.append(finding_of(name, error))
    return findings


def read_journal_mode(raw: sqlite3.Connection) -> str:
    """Return the journal mode of the connection."""
    return str(raw.execute("PRAGMA journal_mode").fetchone()[0])


def _journal(raw: sqlite3.Connection, *, journal_mode: JournalMode) -> Iterator[Finding]:
    mode = journal_mode(raw)
    values = {"journal_mode": mode}
    if mode == "wal":
        yield Finding("journal", Verdict.OK, "journal mode WAL", values)
    else:
        yield Finding(
            "journal",
            Verdict.ADVICE,
            f"journal mode {mode!r}: {_opened_by(raw)} will change it to WAL. If it was WAL "
            f"before, another program has changed it",
            values,
        )


def _opened_by(raw: sqlite3.Connection) -> str:
    return "open_clickhouse" if is_spool(raw) else "open_sqlite"


def _synchronous(raw: sqlite3.Connection) -> Iterator[Finding]:
    yield Finding(
        "synchronous",
        Verdict.OK,
        f"the setting `synchronous` is not stored in the file: each connection has its own. The "
        f"default of {_opened_by(raw)} is NORMAL: a power failure may lose the last transactions, "
        f"but never corrupts the file",
    )


def _pages(raw: sqlite3.Connection) -> Iterator[Finding]:
    size, pages, free = (
        raw.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "page_count", "freelist_count")
    )
    values = {"page_size": size, "pages": pages, "free_pages": free, "bytes": size * pages}
    message = f"{pages:,} pages of {size:,} bytes, {free:,} of them unused"
    if pages > _SMALL_FILE and free > _FREE_PAGES * pages:
        yield Finding(
            "pages",
            Verdict.ADVICE,
            f"{message}: VACUUM would return them to the disk; run it while no program writes",
            values,
        )
    else:
        yield Finding("pages", Verdict.OK, message, values)


def _integrity(raw: sqlite3.Connection, *, full: bool) -> Iterator[Finding]:
    pragma = "integrity_check" if full else "quick_check"
    faults = [text for (text,) in raw.execute(f"PRAGMA {pragma}({_LISTED_FAULTS})")]
    if faults == ["ok"]:
        yield Finding("integrity", Verdict.OK, f"{pragma} found no fault")
        return
    more = ", and maybe more" if len(faults) >= _LISTED_FAULTS else ""
    yield Finding(
        "integrity",
        Verdict.PROBLEM,
        f"{pragma} found {'; '.join(faults)}{more}. {CORRUPT_ADVICE}",
        {"faults": faults},
    )


def _foreign_keys(raw: sqlite3.Connection) -> Iterator[Finding]:
    broken = Counter(
        (table, parent) for table, _, parent, _ in raw.execute("PRAGMA foreign_key_check")
    )
    for (table, parent), rows in broken.items():
        yield Finding(
            "foreign_keys",
            Verdict.PROBLEM,
            f"{rows:,} rows of table {table!r} refer to rows that are missing in {parent!r}. They "
            f"were written while foreign_keys was off, which is SQLite's default. To list them, "
            f"run PRAGMA foreign_key_check({quoted(table)})",
            {"table": table, "parent": parent, "rows": rows},
        )
    if not broken:
        yield Finding("foreign_keys", Verdict.OK, "no foreign key refers to a missing row")


def _tables(raw: sqlite3.Connection, *, tables: Sequence[Table[Any]]) -> Iterator[Finding]:
    for table in tables:
        values = {"table": table.name}
        try:
            check_table(raw, table)
        except SchemaError as error:
            yield Finding("tables", Verdict.PROBLEM, str(error), {**values, "sql": error.sql})
        else:
            yield Finding("tables", Verdict.OK, f"{table.name!r} is as declared", values)
    if raw.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table'").fetchone() is None:
        yield Finding(
            "tables",
            Verdict.PROBLEM,
            "the database is empty: it has no table. If you expected tables here, check the path, "
            "before a program creates new tables in this file",
        )
    elif not tables:
        yield Finding("tables", Verdict.OK, "no declarations were given to compare the tables with")


def _conflicts(raw: sqlite3.Connection) -> Iterator[Finding]:
    rules = list(silent_rules(raw))
    for rule in rules:
        yield Finding(
            "conflicts",
            Verdict.ADVICE,
            f"{rule}: by this rule SQLite drops rows without an error, and a buffer counts them as "
            f"committed. If you do not want that, remove the rule: then a row that violates the "
            f"constraint becomes a dead letter",
        )
    if not rules:
        yield Finding("conflicts", Verdict.OK, "no table drops rows without an error")
