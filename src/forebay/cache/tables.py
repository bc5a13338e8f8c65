"""The three tables of a build cache: their rows and merge rules.

Every time is an integer, in microseconds since 1970-01-01T00:00:00 UTC. Integers compare and sort
exactly, and have no time zone.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from forebay import Keep, Max, Table

Clock: TypeAlias = Callable[[], int]
"""Returns the time, in microseconds since 1970-01-01T00:00:00 UTC."""


def utc_now() -> int:
    """Return the system's time, in microseconds since 1970-01-01T00:00:00 UTC."""
    return time.time_ns() // 1_000


class TransferType(enum.StrEnum):
    """What is to be done with an artifact or a project in the object storage."""

    UPLOAD = "upload"
    """From the local disk to the object storage."""
    DOWNLOAD = "download"
    """From the object storage to the local disk."""
    DELETE = "delete"
    """Delete all objects of a project. Its `key` is ``account/project/``."""


class KeyValueEntry(NamedTuple):
    """A row of `key_value_entries`: the artifacts that one build action produced."""

    key: str
    payload: str | bytes
    """A list of values as JSON, or bytes."""
    size_bytes: int
    """The size of the payload in bytes, of its UTF-8 if it is a text."""
    written_at: int
    """The time of the value. Of two values of a key, the one with the later time may stay."""
    last_accessed_at: int
    inserted_at: int
    updated_at: int


class CasArtifact(NamedTuple):
    """A row of `cas_artifacts`: the size and last access of one artifact's file, and its content.

    The last three columns are None if the file was not written by `CacheArtifacts.store`.
    """

    key: str
    size_bytes: int | None
    last_accessed_at: int
    inserted_at: int
    updated_at: int
    stored_at: int | None = None
    """The modification time of the file. A file with another one is not the file of this row."""
    sha256: str | None = None
    """The SHA-256 of the content, in lower-case hexadecimal digits."""
    metadata: str | None = None
    """The texts that were stored with the artifact, as a JSON object; None if there are none."""
    upload: str | None = None
    """The request of an upload, as the triggers of the table read it; None if there is none."""
    uploaded_sha256: str | None = None
    """The SHA-256 of the content in the object storage; None if it is not known."""


class S3Transfer(NamedTuple):
    """A row of `s3_transfers`: an artifact to copy, or a project whose objects to delete."""

    id: str
    type: str
    account_handle: str
    project_handle: str
    artifact_type: str
    key: str
    inserted_at: int
    attempts: int
    """How many attempts failed."""
    next_attempt_at: int
    """The transfer is not tried before this time; 0 before its first failure."""
    sha256: str = ""
    """The SHA-256 of the content to upload, in hexadecimal digits; empty if it does not matter."""


# A later write of a key replaces everything except the time of the first one.
KEY_VALUE_ENTRIES: Final = Table(
    KeyValueEntry, name="key_value_entries", key="key", merge={"inserted_at": Keep}
)
# The last access never decreases: otherwise a clock that is set back would make an artifact in use
# the first one to evict.
CAS_ARTIFACTS: Final = Table(
    CasArtifact,
    name="cas_artifacts",
    key="key",
    merge={"inserted_at": Keep, "last_accessed_at": Max, "uploaded_sha256": Keep},
)
# Queueing a transfer that is queued already has no effect.
S3_TRANSFERS: Final = Table(
    S3Transfer, name="s3_transfers", key=("type", "key", "sha256"), merge=Keep, delete_by="id"
)

TABLES: Final = (KEY_VALUE_ENTRIES, CAS_ARTIFACTS, S3_TRANSFERS)


class Executes(Protocol):
    """The part of `sqlite3.Connection` that executes SQL."""

    def execute(
        self, sql: str, parameters: Sequence[str | int] = (), /
    ) -> Iterable[tuple[Any, ...]]:
        """Execute one statement, and return the rows of its result."""
        ...


def checked_tables(tables: Sequence[Table[Any]]) -> tuple[Table[Any], ...]:
    """Check the further tables of a program, and return them.

    Raises:
        TypeError: one of them is not a table.
        ValueError: two have the same name, or one has the name of a table of the cache.
    """
    checked = tuple(tables)
    for each in checked:
        if not isinstance(each, Table):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"tables must be forebay.Table objects, got {each!r}")
    taken = {each.name.lower() for each in TABLES}
    for each in checked:
        if each.name.lower() in taken:
            raise ValueError(
                f"tables has a table {each.name!r}, but there is another one with this name "
                f"(SQLite ignores case); give it a name of its own. The cache has the tables "
                f"{', '.join(own.name for own in TABLES)}"
            )
        taken.add(each.name.lower())
    return checked
