"""`KnownArtifacts`: the rows of artifacts in memory, and which files they describe."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cachetools import LRUCache

from forebay import Buffer
from forebay.cache._open_file import FileStatus
from forebay.cache._row_reads import RowRead, RowReads
from forebay.cache.artifact import Artifact
from forebay.cache.tables import CasArtifact


@dataclass(slots=True)
class KnownArtifact:
    """The row of an artifact: what is in the table, or will be."""

    artifact: Artifact
    size: int | None
    """The size in the row; None if there was no file."""
    accessed_at: int
    """The last access that was recorded."""

    @classmethod
    def from_row(cls, row: CasArtifact) -> KnownArtifact:
        """Return what a row says."""
        metadata = {} if row.metadata is None else json.loads(row.metadata)
        artifact = Artifact(row.key, row.size_bytes or 0, row.sha256, metadata, row.stored_at)
        return cls(artifact, row.size_bytes, row.last_accessed_at)

    def describes(self, file: FileStatus) -> bool:
        """Return whether a file has the content of this row, as far as the row says."""
        return self.artifact.stored_at is None or self.agrees(file)

    def agrees(self, file: FileStatus) -> bool:
        """Return whether the row need not be written again for a file."""
        stored_at = self.artifact.stored_at
        return self.size == file.size and (
            stored_at is None or file.modified_ns is None or stored_at * 1_000 == file.modified_ns
        )


class KnownArtifacts:
    """The rows of artifacts that were used last."""

    def __init__(self, buffer: Buffer[CasArtifact], count: int) -> None:
        """Set the buffer of the rows.

        Args:
            buffer: the buffer.
            count: how many rows are kept in memory.
        """
        self._buffer = buffer
        self._rows: LRUCache[str, KnownArtifact] = LRUCache(count)
        self._reads = RowReads(RowRead)

    def get(self, key: str) -> KnownArtifact | None:
        """Return the row of an artifact if it is in memory."""
        return self._rows.get(key)

    async def load(self, key: str) -> KnownArtifact | None:
        """Return the row of an artifact, pending or committed, and keep it in memory."""
        with self._reads.reading(key) as read:
            row = await self._buffer.get(key)
        if row is None:
            return None
        known = KnownArtifact.from_row(row)
        if read.latest:
            self._rows[key] = known
        return known

    def remember(self, known: KnownArtifact) -> None:
        """Keep the new row of an artifact."""
        self._reads.changed(known.artifact.key)
        self._rows[known.artifact.key] = known

    def forget(self, key: str) -> None:
        """Remove the row of an artifact from memory, since it is being changed or deleted."""
        self._reads.changed(key)
        self._rows.pop(key, None)

    def forget_all(self) -> None:
        """Remove all rows from memory, since they were changed in the table."""
        self._reads.all_changed()
        self._rows.clear()

    def keys(self, prefix: str) -> dict[str, None]:
        """Return the keys in memory that begin with a prefix."""
        return {key: None for key in self._rows if key.startswith(prefix)}
