"""The schema of the tables: created at the first opening, and upgraded from earlier versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from forebay import SqliteStore
from forebay.cache._outbox import TRIGGERS
from forebay.cache.tables import TABLES, Executes

_KEY_VALUE_ENTRIES: Final = """
    CREATE TABLE IF NOT EXISTS key_value_entries (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        payload BLOB NOT NULL,
        size_bytes INTEGER NOT NULL,
        written_at INTEGER NOT NULL,
        last_accessed_at INTEGER NOT NULL,
        inserted_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    )
    """

_CAS_ARTIFACTS: Final = """
    CREATE TABLE IF NOT EXISTS cas_artifacts (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        size_bytes INTEGER,
        last_accessed_at INTEGER NOT NULL,
        inserted_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        stored_at INTEGER,
        sha256 TEXT,
        metadata TEXT,
        upload TEXT,
        uploaded_sha256 TEXT
    )
    """

_S3_TRANSFERS: Final = """
    CREATE TABLE IF NOT EXISTS s3_transfers (
        id TEXT NOT NULL PRIMARY KEY,
        type TEXT NOT NULL CHECK (type IN ('upload', 'download', 'delete')),
        account_handle TEXT NOT NULL,
        project_handle TEXT NOT NULL,
        artifact_type TEXT NOT NULL,
        key TEXT NOT NULL,
        inserted_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        next_attempt_at INTEGER NOT NULL DEFAULT 0,
        sha256 TEXT NOT NULL DEFAULT '',
        UNIQUE (type, key, sha256)
    )
    """

_INDEXES: Final = (
    # For eviction. The key makes the order of artifacts with the same time definite, so that a
    # batch can continue where the previous one ended.
    """
    CREATE INDEX IF NOT EXISTS cas_artifacts_last_accessed_at
    ON cas_artifacts (last_accessed_at, key)
    """,
    # It has all columns that eviction reads, which are much smaller than the payloads.
    """
    CREATE INDEX IF NOT EXISTS key_value_entries_last_accessed_at
    ON key_value_entries (last_accessed_at, key, size_bytes)
    """,
    # The last column lets the index skip delayed transfers without reading their rows.
    """
    CREATE INDEX IF NOT EXISTS s3_transfers_queue
    ON s3_transfers (type, inserted_at, id, next_attempt_at)
    """,
)


_UPGRADES: Final = {
    # Its payload was a text, and SQLite would convert bytes to one.
    "key_value_entries": (
        {"key", "json_payload", "last_accessed_at", "inserted_at", "updated_at"},
        (
            "ALTER TABLE main.key_value_entries RENAME TO key_value_entries_before",
            _KEY_VALUE_ENTRIES,
            """
            INSERT INTO main.key_value_entries
            SELECT id, key, json_payload, length(CAST(json_payload AS BLOB)), updated_at,
                last_accessed_at, inserted_at, updated_at
            FROM main.key_value_entries_before
            """,
            "DROP TABLE main.key_value_entries_before",
        ),
    ),
    "cas_artifacts": (
        {"key", "size_bytes", "last_accessed_at", "inserted_at", "updated_at"},
        (
            "ALTER TABLE main.cas_artifacts ADD COLUMN stored_at INTEGER",
            "ALTER TABLE main.cas_artifacts ADD COLUMN sha256 TEXT",
            "ALTER TABLE main.cas_artifacts ADD COLUMN metadata TEXT",
            "ALTER TABLE main.cas_artifacts ADD COLUMN upload TEXT",
            "ALTER TABLE main.cas_artifacts ADD COLUMN uploaded_sha256 TEXT",
        ),
    ),
    # Its key had no SHA-256.
    "s3_transfers": (
        {
            *("type", "account_handle", "project_handle", "artifact_type", "key"),
            *("inserted_at", "attempts", "next_attempt_at"),
        },
        (
            "ALTER TABLE main.s3_transfers RENAME TO s3_transfers_before",
            _S3_TRANSFERS,
            "INSERT INTO main.s3_transfers SELECT *, '' FROM main.s3_transfers_before",
            "DROP TABLE main.s3_transfers_before",
        ),
    ),
}
"""By table: the columns beside `id` that it had in version 0.1, and what brings it up to date."""


async def prepare(store: SqliteStore) -> None:
    """Create the tables, indexes and triggers that do not exist yet, and upgrade earlier tables.

    Args:
        store: the database.

    Raises:
        SchemaError: a table of one of these names exists and has other columns.
        sqlite3.Error: SQLite failed to create or upgrade something; nothing is upgraded.
    """
    await store.run(_execute_all, (_KEY_VALUE_ENTRIES, _CAS_ARTIFACTS, _S3_TRANSFERS))
    await store.run(_upgrade)
    # Checked before the indexes are created, since its error explains more than SQLite's.
    await store.prepare(TABLES)
    await store.run(_execute_all, (*_INDEXES, *TRIGGERS))


def _execute_all(raw: Executes, statements: Sequence[str]) -> None:
    for statement in statements:
        raw.execute(statement)


def _upgrade(raw: Executes) -> None:
    """Bring tables of version 0.1 up to date. Leave any other table as it is."""
    for table, (before, statements) in _UPGRADES.items():
        columns = {name for _, name, *_ in raw.execute(f"PRAGMA main.table_info({table})")}
        if columns == before | {"id"}:
            _execute_all(raw, statements)
