"""Check whether this Python's SQLite has a bug that can corrupt a database."""

from __future__ import annotations

import sqlite3

from forebay.doctor._findings import Finding, Verdict


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Return whether a version of SQLite can corrupt a file in WAL mode.

    https://sqlite.org/wal.html#walresetbug: the bug is in 3.7.0 and later. It is fixed in 3.51.3
    and, for users of older branches, in 3.50.7 and 3.44.6.
    """
    fixed = (
        version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    )
    return version >= (3, 7) and not fixed


def check_sqlite_version() -> Finding:
    """Compare the version of SQLite with the known bugs."""
    version = sqlite3.sqlite_version
    values = {"version": version}
    if not has_wal_reset_bug(sqlite3.sqlite_version_info):
        return Finding("sqlite", Verdict.OK, f"SQLite {version} has no known bug", values)
    return Finding(
        "sqlite",
        Verdict.ADVICE,
        f"SQLite {version} has the WAL-reset bug: let only one process write to the file, or "
        f"upgrade to 3.51.3: https://sqlite.org/wal.html#walresetbug",
        values,
    )
