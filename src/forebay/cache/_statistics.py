"""`CacheStatistics`: the state of a cache at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forebay import BufferStatistics
from forebay.cache.artifact import ArtifactStatistics
from forebay.cache.evictor import EvictorStatistics
from forebay.cache.files import Usage
from forebay.cache.key_values import KeyValueStatistics
from forebay.cache.read_through import ReadThroughStatistics
from forebay.cache.transfer_worker import TransferStatistics


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """The state of a cache at one moment."""

    buffers: Mapping[str, BufferStatistics]
    """The state of each buffer, by the name of its table."""
    artifacts: ArtifactStatistics
    """The use of the artifacts."""
    key_values: KeyValueStatistics
    """The use of the key-values."""
    evictor: EvictorStatistics
    """The work of the evictor of artifacts."""
    key_value_evictor: EvictorStatistics
    """The work of the evictor of key-values."""
    usage: Usage | None
    """The size of the artifacts and their budget, or the usage of the disk, as the evictor found it
    last; None before its first run."""
    key_value_bytes: int | None
    """The size of the key-values, as their evictor found it last; None before its first run."""
    key_value_budget_bytes: int | None
    """The budget of the key-values; None without one."""
    transfers: TransferStatistics | None
    """The work of the transfer worker; None without an object storage."""
    queued_transfers: Mapping[str, int]
    """The number of queued transfers by type, as the transfer worker found it last; empty before
    its first run, and without an object storage."""
    read_through: ReadThroughStatistics | None
    """What was fetched for readers; None without an object storage."""

    @property
    def pending(self) -> int:
        """The number of pending entries in all buffers."""
        return sum(buffer.pending for buffer in self.buffers.values())
