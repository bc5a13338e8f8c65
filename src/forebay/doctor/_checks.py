"""What a connection that only reads can tell of the health of a SQLite file.

Each check takes the connection and gives its findings. It may raise `SQLITE_ERRORS`, which are
findings as well: `failed` words them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from forebay._errors import SchemaError, StoreError
from forebay._table.json_format import decode_declaration, decode_operation
from forebay._table.table import Table
from forebay.dead_letters._model import DeadLetter
from forebay.doctor._findings import Finding, Verdict
from forebay.stores.sqlite import _dead_letter_table as dead_letters
from forebay.stores.sqlite._errors import SQLITE_ERRORS, code_name, failure_code
from forebay.stores.sqlite._schema import check_table
from forebay.stores.sqlite._silent_rules import silent_rules
from forebay.stores.sqlite._statements import quoted

Integrity: TypeAlias = Literal["quick", "full", "none"]

Check: TypeAlias = Callable[[sqlite3.Connection], Iterator[Finding]]

_MOST: Final = 10
"""Faults that a finding lists; there may be one a row."""

_CORRUPT: Final = (
    "The file is corrupt. Stop the programs that write to it, keep a copy, then restore a backup, "
    "or see https://sqlite.org/recovery.html"
)

_ADVICE: Final = {
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_NOTADB: "It is another kind of file, or encrypted, or its first page is lost",
    sqlite3.SQLITE_BUSY: "Another program has it for itself: look again when that has ended",
    sqlite3.SQLITE_CANTOPEN: "See who may read the file, and write to its folder: a reader of a "
    "file in WAL mode needs the -wal and -shm files beside it, or leave to create them",
    sqlite3.SQLITE_READONLY: "A program died in the middle of a transaction; the next one that "
    "may write to the file will roll it back",
    sqlite3.SQLITE_IOERR: "The disk, or what is between, fails: see the system's log",
}

_FREE_PAGES: Final = 0.5
"""Share of unused pages at which VACUUM is worth its time; SQLite uses them again by itself."""


def wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Tell whether a version of SQLite can corrupt a file in WAL mode.

    https://sqlite.org/wal.html#walresetbug: in 3.7.0 and later, mended in 3.51.3 and, for those
    who stay on older branches, in 3.50.7 and 3.44.6.
    """
    mended = (
        version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    )
    return version >= (3, 7) and not mended


def sqlite_itself() -> Finding:
    """Compare the version of SQLite that this Python has with known faults."""
    version = sqlite3.sqlite_version
    values = {"version": version}
    if not wal_reset_bug(sqlite3.sqlite_version_info):
        message = f"this Python's SQLite {version} has no known fault"
        return Finding("sqlite", Verdict.OK, message, values)
    return Finding(
        "sqlite",
        Verdict.ADVICE,
        f"this Python's SQLite {version} has the WAL-reset bug: very rarely, two connections that "
        f"write or checkpoint at the same moment corrupt the file. A store of forebay is one such "
        f"connection: let no second program, and no second process, write to the file; or upgrade "
        f"to 3.51.3 (https://sqlite.org/wal.html#walresetbug)",
        values,
    )


def checks(tables: Sequence[Table[Any]], integrity: Integrity) -> Iterator[tuple[str, Check]]:
    """Give the checks, by their names, in the order in which they are useful to read."""
    yield "journal", _journal
    yield "synchronous", _synchronous
    yield "pages", _pages
    if integrity != "none":
        yield "integrity", partial(_integrity, full=integrity == "full")
        yield "foreign_keys", _foreign_keys
    yield "tables", partial(_tables, tables=tables)
    yield "conflicts", _conflicts
    yield "dead_letters", _dead_letters


def run(raw: sqlite3.Connection, name: str, check: Check) -> list[Finding]:
    """Give the findings of a check, an error among them."""
    findings: list[Finding] = []
    try:
        findings.extend(check(raw))
    except SQLITE_ERRORS as error:
        findings.append(failed(name, error))
    return findings


def failed(check: str, error: Exception) -> Finding:
    """Word an error that SQLite raised in a check."""
    code = failure_code(error)
    advice = _ADVICE.get(code, "") if code is not None else ""
    return Finding(
        check, Verdict.PROBLEM, f"{error}. {advice}".strip(), {"error_code": code_name(error)}
    )


def _journal(raw: sqlite3.Connection) -> Iterator[Finding]:
    (mode,) = raw.execute("PRAGMA journal_mode").fetchone()
    values = {"journal_mode": mode}
    if mode == "wal":
        yield Finding("journal", Verdict.OK, "journal mode WAL", values)
    else:
        yield Finding(
            "journal",
            Verdict.ADVICE,
            f"journal mode {mode!r}: open_sqlite will change it to WAL. Where it was WAL before, "
            f"another program has changed it",
            values,
        )


def _synchronous(_raw: sqlite3.Connection) -> Iterator[Finding]:
    yield Finding(
        "synchronous",
        Verdict.OK,
        "synchronous is not kept in the file, each connection has its own. open_sqlite sets NORMAL "
        "unless it is told otherwise: a power cut may take the last transactions, and the file "
        "stays sound",
    )


def _pages(raw: sqlite3.Connection) -> Iterator[Finding]:
    size, pages, free = (
        raw.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "page_count", "freelist_count")
    )
    values = {"page_size": size, "pages": pages, "free_pages": free, "bytes": size * pages}
    message = f"{pages:,} pages of {size:,} bytes, {free:,} of them unused"
    if pages > 1_000 and free > _FREE_PAGES * pages:
        yield Finding(
            "pages",
            Verdict.ADVICE,
            f"{message}: VACUUM would give the room back, while nobody writes",
            values,
        )
    else:
        yield Finding("pages", Verdict.OK, message, values)


def _integrity(raw: sqlite3.Connection, *, full: bool) -> Iterator[Finding]:
    pragma = "integrity_check" if full else "quick_check"
    faults = [text for (text,) in raw.execute(f"PRAGMA {pragma}({_MOST})")]
    if faults == ["ok"]:
        yield Finding("integrity", Verdict.OK, f"{pragma} found no fault")
    else:
        yield Finding(
            "integrity",
            Verdict.PROBLEM,
            f"{pragma} found {_listed(faults)}. {_CORRUPT}",
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
            f"{rows:,} rows of {table!r} refer to rows of {parent!r} that are not there: they came "
            f"in while foreign_keys was off, which is SQLite's default. "
            f"PRAGMA foreign_key_check({quoted(table)}) names them",
            {"table": table, "parent": parent, "rows": rows},
        )
    if not broken:
        yield Finding("foreign_keys", Verdict.OK, "every foreign key has its row")


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
            "this is an empty database, without a table: if one is expected here, look for where "
            "it went, before a program fills this file in its place",
        )
    elif not tables:
        yield Finding("tables", Verdict.OK, "no declarations were given to compare the tables with")


def _conflicts(raw: sqlite3.Connection) -> Iterator[Finding]:
    rules = list(silent_rules(raw))
    for rule in rules:
        yield Finding(
            "conflicts",
            Verdict.ADVICE,
            f"{rule}: SQLite drops rows by it without an error, and a buffer counts them as "
            f"committed. Where that is not meant, take the rule out: a constraint that fails makes "
            f"a dead letter",
        )
    if not rules:
        yield Finding("conflicts", Verdict.OK, "no table drops rows in silence")


def _dead_letters(raw: sqlite3.Connection) -> Iterator[Finding]:
    if raw.execute(dead_letters.EXISTS).fetchone() is None:
        counts: Sequence[Any] = ()
    else:
        counts = raw.execute(*dead_letters.count()).fetchall()
    for buffer, code, count, oldest, newest in counts:
        yield Finding(
            "dead_letters",
            Verdict.PROBLEM,
            f"{count:,} of {buffer!r} with {code}: see `forebay dead-letters list`, mend the "
            f"cause, then replay or purge them",
            {
                "buffer": buffer,
                "error_code": code,
                "count": count,
                "oldest": oldest,
                "newest": newest,
            },
        )
    if not counts:
        yield Finding("dead_letters", Verdict.OK, "no dead letters")
    else:
        yield from _declarations(raw)
        yield from _unreadable(raw)


def _declarations(raw: sqlite3.Connection) -> Iterator[Finding]:
    """Tell which dead letters could not be replayed into the tables as they are."""
    for (declaration,) in raw.execute(dead_letters.DECLARATIONS).fetchall():
        try:
            check_table(raw, decode_declaration(declaration))
        except ValueError:
            continue  # such a letter cannot be read at all: see `_unreadable`
        except SchemaError as error:
            yield Finding(
                "dead_letters",
                Verdict.PROBLEM,
                f"some cannot be replayed: {error}",
                {"declaration": declaration},
            )


def _unreadable(raw: sqlite3.Connection) -> Iterator[Finding]:
    """Tell which dead letters are not as forebay wrote them, so that a replay skips them."""
    tables: dict[str, Table[Any]] = {}
    broken: dict[int, str] = {}
    for row in raw.execute(f"{dead_letters.SELECT} ORDER BY id"):
        try:
            letter = DeadLetter.from_row(row)
            if letter.declaration not in tables:
                tables[letter.declaration] = decode_declaration(letter.declaration)
            decode_operation(tables[letter.declaration], letter.entry)
        except (StoreError, ValueError) as error:
            broken[row[0]] = f"{row[0]}: {error}"
    if broken:
        yield Finding(
            "dead_letters",
            Verdict.PROBLEM,
            f"{len(broken):,} cannot be read, nor replayed, since somebody changed them: correct "
            f"or purge them. {'; '.join(list(broken.values())[:_MOST])}",
            {"unreadable": list(broken)},
        )


def _listed(faults: Sequence[str]) -> str:
    more = ", and maybe more" if len(faults) >= _MOST else ""
    return "; ".join(faults) + more
