"""The three tables of a build cache: their rows, their rules and their SQL.

Every time is an integer: microseconds since 1970-01-01T00:00:00 UTC. Integers compare and sort
exactly, and no time zone can get in.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

from forebay import Keep, Max, SqliteStore, Table

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
    """How many attempts have failed."""
    next_attempt_at: int
    """Before this time the transfer is not tried again. 0: it has not failed yet."""


# A later write of a key replaces all but the time of the first one.
KEY_VALUE_ENTRIES: Final = Table(
    KeyValueEntry, name="key_value_entries", key="key", merge={"inserted_at": Keep}
)
# The last access never goes back: a clock that was set back makes no artifact in use the oldest.
CAS_ARTIFACTS: Final = Table(
    CasArtifact,
    name="cas_artifacts",
    key="key",
    merge={"inserted_at": Keep, "last_accessed_at": Max},
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
        next_attempt_at INTEGER NOT NULL DEFAULT 0,
        UNIQUE (type, key)
    )
    """,
)

_INDEXES: Final = (
    # For eviction. The key makes the order of artifacts with one time certain, so that a batch
    # can start where the one before ended.
    """
    CREATE INDEX IF NOT EXISTS cas_artifacts_last_accessed_at
    ON cas_artifacts (last_accessed_at, key)
    """,
    # The last column is for the transfers that are put off: however many, none of their rows is
    # read to pass them over.
    """
    CREATE INDEX IF NOT EXISTS s3_transfers_queue
    ON s3_transfers (type, inserted_at, id, next_attempt_at)
    """,
)


class Executes(Protocol):
    """What executes SQL: a `sqlite3.Connection`."""

    def execute(self, sql: str, parameters: Sequence[str | int] = (), /) -> object:
        """Execute one statement."""
        ...


async def prepare(store: SqliteStore) -> None:
    """Create the tables and their indexes, where they are not there yet.

    Args:
        store: the file.

    Raises:
        SchemaError: there is a table of one of the names already, and it is another one.
        sqlite3.Error: what SQLite answered.
    """
    await store.run(_execute_all, _SCHEMA)
    # Before the indexes: SQLite would only say that it knows no column of such a name.
    await store.prepare(TABLES)
    await store.run(_execute_all, _INDEXES)


def _execute_all(raw: Executes, statements: Sequence[str]) -> None:
    for statement in statements:
        raw.execute(statement)
