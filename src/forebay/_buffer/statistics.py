"""`BufferStatistics`: the counts of one buffer at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BufferStatistics:
    """The state of one buffer at one moment.

    `accepted == committed + superseded + dead_lettered + pending`, always.
    """

    accepted: int
    """Entries accepted since the buffer opened."""
    committed: int
    """Entries whose own operation was committed."""
    superseded: int
    """Entries merged into a later entry of their key, and that entry is settled."""
    dead_lettered: int
    """Entries whose operation the table refused. They are in the dead letters."""
    pending: int
    """Entries accepted and not settled, including those of the flush in progress."""
    capacity: int
    """How many entries may be pending."""
    waiting: int
    """Tasks that wait for room in the buffer."""
    flushes: int
    """Transactions committed."""
    retries: int
    """Attempts to flush that followed a failed attempt at the same batch."""
    oldest_age: float
    """The age of the oldest pending entry, in seconds; 0.0 if none is pending."""
    flush_p50: float
    """The median duration of the last 256 committed flushes, in seconds; 0.0 before the first."""
    flush_p99: float
    """The 99th percentile of these durations, in seconds; 0.0 before the first flush."""
    last_error: str | None
    """The error of the last attempt, such as ``SQLITE_BUSY: database is locked``, while a flush is
    being retried or the buffer is suspended; otherwise None."""
    suspended: bool
    """Whether the buffer waits until somebody removes the cause of `last_error`. Only a buffer with
    `BufferOptions(on_failure="suspend")` does."""
    spool_entries: int
    """Rows that are committed to the store's spool, and that its database has not acknowledged; 0
    if the store has no spool."""
    spool_oldest_age: float
    """How long the oldest of these rows has waited, in seconds; 0.0 if there is none."""
