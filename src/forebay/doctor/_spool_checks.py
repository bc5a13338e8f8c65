"""Checks of a spool: what waits for ClickHouse, since when, and why."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Final

from forebay._errors import format_count
from forebay._format import SPOOL_ID
from forebay.doctor._findings import Finding, Verdict

_OLD: Final = 600.0
"""After how many seconds in the spool a row is a problem."""


def is_spool(raw: sqlite3.Connection) -> bool:
    """Return whether a database is a spool."""
    [application_id] = raw.execute("PRAGMA main.application_id").fetchone()
    return bool(application_id == SPOOL_ID)


def check_spool(raw: sqlite3.Connection) -> Iterator[Finding]:
    """Check what waits in a spool. Yield nothing if the file is another database."""
    if not is_spool(raw):
        return
    # The package of the store is large, and most programs that import forebay do not need it.
    from forebay.stores.clickhouse import _spool_table as rows  # noqa: PLC0415

    sizes = rows.sizes(raw)
    if not sizes:
        yield Finding("spool", Verdict.OK, "nothing waits for ClickHouse")
    now = time.time()
    for table, size in sorted(sizes.items()):
        age = max(0.0, now - (now if size.oldest is None else size.oldest))
        [oldest] = rows.select(raw, buffer=table, limit=1)
        values = {
            "table": table,
            "blocks": size.blocks,
            "rows": size.entries,
            "bytes": size.bytes,
            "oldest_age": age,
            "error_code": oldest.error_code,
        }
        waiting = (
            f"{format_count(size.entries, 'row')} of table {table!r} not delivered to ClickHouse, "
            f"the oldest for {age:,.0f} s"
        )
        if age > _OLD:
            why = "" if oldest.error_code is None else f"; the last error is {oldest.error_code}"
            yield Finding(
                "spool",
                Verdict.PROBLEM,
                f"{waiting}{why}: look at them with `forebay spool list`, and start the program, "
                f"or deliver them with `forebay spool retry`",
                values,
            )
        else:
            yield Finding("spool", Verdict.OK, waiting, values)
