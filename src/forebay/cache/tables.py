"""The three tables of a build cache: their rows, their rules and their SQL.

Every time is an integer: microseconds since 1970-01-01T00:00:00 UTC. Integers compare and sort
exactly, and no time zone can get in.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias

from forebay import Keep, Table

Clock: TypeAlias = Callable[[], int]
"""What tells the time: microseconds since 1970-01-01T00:00:00 UTC."""


def utc_now() -> int:
    """Tell the time by the system's clock, in microseconds since 1970-01-01T00:00:00 UTC."""
    return time.time_ns() // 1_000


class TransferType(enum.StrEnum):
    """Which way an artifact goes."""

    UPLOAD = "upload"
    """From the local disk to the object storage."""
    DOWNLOAD = "download"
    """From the object storage to the local disk."""


class KeyValueEntry(NamedTuple):
    """A row of `key_value_entries`: what one build action produced."""

    key: str
    json_payload: str
    last_accessed_at: int
    inserted_at: int
    updated_at: int


class CasArtifact(NamedTuple):
    """A row of `cas_artifacts`: what is known of one artifact, a file on the local disk."""

    key: str
    size_bytes: int | None
    last_accessed_at: int
    inserted_at: int
    updated_at: int


class S3Transfer(NamedTuple):
    """A row of `s3_transfers`: an artifact that is to be copied."""

    id: str
    type: str
    account_handle: str
    project_handle: str
    artifact_type: str
    key: str
    inserted_at: int
    attempts: int


# A later write of a key replaces all but the time of the first one.
KEY_VALUE_ENTRIES: Final = Table(
    KeyValueEntry, name="key_value_entries", key="key", merge={"inserted_at": Keep}
)
CAS_ARTIFACTS: Final = Table(
    CasArtifact, name="cas_artifacts", key="key", merge={"inserted_at": Keep}
)
# A transfer that is queued stays as it is: to queue it again does nothing.
S3_TRANSFERS: Final = Table(
    S3Transfer, name="s3_transfers", key=("type", "key"), merge=Keep, delete_by="id"
)

TABLES: Final = (KEY_VALUE_ENTRIES, CAS_ARTIFACTS, S3_TRANSFERS)

_SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS key_value_entries (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        json_payload TEXT NOT NULL,
        last_accessed_at INTEGER NOT NULL,
        inserted_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS cas_artifacts (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        size_bytes INTEGER,
        last_accessed_at INTEGER NOT NULL,
        inserted_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    )
    """,
    # For eviction. The key makes the order of artifacts with one time certain, so that a batch
    # can start where the one before ended.
    """
    CREATE INDEX IF NOT EXISTS cas_artifacts_last_accessed_at
    ON cas_artifacts (last_accessed_at, key)
    """,
    """
    CREATE TABLE IF NOT EXISTS s3_transfers (
        id TEXT NOT NULL PRIMARY KEY,
        type TEXT NOT NULL CHECK (type IN ('upload', 'download')),
        account_handle TEXT NOT NULL,
        project_handle TEXT NOT NULL,
        artifact_type TEXT NOT NULL,
        key TEXT NOT NULL,
        inserted_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        UNIQUE (type, key)
    )
    """,
    """
    CREATE INDEX IF NOT EXISTS s3_transfers_queue ON s3_transfers (type, inserted_at, id)
    """,
)


class Executes(Protocol):
    """What executes SQL: a `sqlite3.Connection`."""

    def execute(self, sql: str, /) -> object:
        """Execute one statement."""
        ...


def create_tables(raw: Executes) -> None:
    """Create the tables and their indexes, where they are not there yet.

    For `SqliteStore.run`, which calls it in one transaction.

    Args:
        raw: a connection to the file.

    Raises:
        sqlite3.Error: what SQLite answered.
    """
    for statement in _SCHEMA:
        raw.execute(statement)
