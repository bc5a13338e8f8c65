"""SQLite's error codes on an error that adds information."""

from __future__ import annotations

import sqlite3


def copy_code(source: sqlite3.Error, target: sqlite3.Error) -> None:
    """Copy SQLite's error code and its name from one error to another."""
    # Errors that `sqlite3` raises by itself, such as ProgrammingError, have no code.
    for name in ("sqlite_errorcode", "sqlite_errorname"):
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))
