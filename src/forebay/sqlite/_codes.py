"""SQLite's error codes, carried over to an error that says more."""

from __future__ import annotations

import sqlite3


def copy_code(source: sqlite3.Error, target: sqlite3.Error) -> None:
    # Errors that `sqlite3` raises by itself, such as ProgrammingError, bear no code.
    for name in ("sqlite_errorcode", "sqlite_errorname"):
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))
