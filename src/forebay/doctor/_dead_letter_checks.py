"""Checks of dead letters: how many there are, and whether they can be replayed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from forebay._errors import SchemaError, StoreError
from forebay._table.json_format import decode_declaration, decode_operation
from forebay._table.table import Table
from forebay.dead_letters._model import DeadLetter
from forebay.doctor._findings import Finding, Verdict
from forebay.doctor._spool_checks import is_spool
from forebay.stores.sqlite import _dead_letter_table as letter_table
from forebay.stores.sqlite._schema import check_table

_LISTED: Final = 10
"""The most letters that a finding lists."""


def check_dead_letters(raw: sqlite3.Connection) -> Iterator[Finding]:
    """Check the dead letters: any is a problem."""
    counts: list[Any] = []
    if raw.execute(letter_table.EXISTS).fetchone() is not None:
        counts = raw.execute(*letter_table.count()).fetchall()
    if not counts:
        yield Finding("dead_letters", Verdict.OK, "no dead letters")
        return
    for buffer, code, count, oldest, newest in counts:
        yield Finding(
            "dead_letters",
            Verdict.PROBLEM,
            f"{count:,} of table {buffer!r} with {code}: look at them with "
            f"`forebay dead-letters list`, fix the cause, then replay or purge them",
            {
                "buffer": buffer,
                "error_code": code,
                "count": count,
                "oldest": oldest,
                "newest": newest,
            },
        )
    yield from _of_changed_tables(raw)
    yield from _damaged(raw)


def _of_changed_tables(raw: sqlite3.Connection) -> Iterator[Finding]:
    """Find letters that cannot be replayed, since their table differs from its declaration."""
    if is_spool(raw):
        return  # their tables are in ClickHouse
    for (declaration,) in raw.execute(letter_table.DECLARATIONS).fetchall():
        try:
            check_table(raw, decode_declaration(declaration))
        except ValueError:
            continue  # it is damaged: see `_damaged`
        except SchemaError as error:
            yield Finding(
                "dead_letters",
                Verdict.PROBLEM,
                f"some cannot be replayed: {error}",
                {"declaration": declaration},
            )


def _damaged(raw: sqlite3.Connection) -> Iterator[Finding]:
    """Find letters that cannot be decoded. A replay skips them."""
    tables: dict[str, Table[Any]] = {}
    damaged: dict[int, str] = {}
    for row in raw.execute(f"{letter_table.SELECT} ORDER BY id"):
        try:
            letter = DeadLetter.from_row(row)
            if letter.declaration not in tables:
                tables[letter.declaration] = decode_declaration(letter.declaration)
            decode_operation(tables[letter.declaration], letter.entry)
        except (StoreError, ValueError) as error:
            damaged[row[0]] = f"{row[0]}: {error}"
    if damaged:
        yield Finding(
            "dead_letters",
            Verdict.PROBLEM,
            f"{len(damaged):,} were changed and can be neither read nor replayed: correct or purge "
            f"them. {'; '.join(list(damaged.values())[:_LISTED])}",
            {"unreadable": list(damaged)},
        )
