"""The SQLite store: one connection that writes, and several that read beside it."""

from __future__ import annotations

from forebay.stores.sqlite._maintenance import CheckpointMode, CheckpointResult
from forebay.stores.sqlite._opening import Synchronous, open_sqlite
from forebay.stores.sqlite._store import SqliteStore

__all__ = [
    "CheckpointMode",
    "CheckpointResult",
    "SqliteStore",
    "Synchronous",
    "open_sqlite",
]
