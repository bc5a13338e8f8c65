"""`DatabaseVacuum`: gives the free space in the database file back to the file system."""

from __future__ import annotations

from functools import partial
from typing import Final

import trio

from forebay import SqliteStore
from forebay.cache._arguments import check_timeout
from forebay.cache._workers import CloseGuard, run_at_intervals
from forebay.cache.tables import Executes

_SECONDS: Final = 1.0
"""How long a run takes by default."""

_SLICE: Final = 256
"""How many pages one transaction frees. It takes some milliseconds, for which flushes wait."""

_START: Final = 0.2
"""The share of free pages in the file from which a run frees them. Rows that are added later need
some of them."""

_END: Final = 0.1
"""The share of free pages at which a run ends."""


class DatabaseVacuum:
    """Shrinks the database file after rows were deleted, in short transactions.

    SQLite keeps the pages of deleted rows in the file, and uses them for new rows. A run moves
    pages from the end of the file into free ones, and cuts the file off. Flushes wait for one
    transaction of 256 pages at most.

    A database that was created by an earlier version stays as large as it is, until it was rebuilt
    once: see the documentation of the cache.
    """

    def __init__(
        self, store: SqliteStore, *, interval: float, guard: CloseGuard | None = None
    ) -> None:
        """Set the database. `open_cache` does this.

        Args:
            store: the database.
            interval: the pause between two runs, in seconds.
            guard: makes `run_once` raise once the cache is closed.
        """
        self._store = store
        self._interval = interval
        self._guard = guard or CloseGuard()
        self._copied = True
        """Whether the file itself has become smaller by all pages that were freed."""

    async def run(self, stopping: trio.Event) -> None:
        """Shrink the file at every interval until stopped, for at most a second each time.

        A run that fails is logged as a warning, and the next one tries again.

        Args:
            stopping: set this event to make the worker end after the transaction in progress.
        """
        run = partial(self._run, _SECONDS)
        await run_at_intervals("vacuum", run, stopping, self._interval)

    async def run_once(self, max_seconds: float = _SECONDS) -> int:
        """Shrink the file if more than a fifth of it is free, until a tenth of it is.

        While another process has locked the database, this waits for it, up to `max_seconds`.
        Cancelled, it ends after the transaction in progress.

        Args:
            max_seconds: after how long to begin no more transactions; at least 0, or infinity.

        Returns:
            By how many bytes the database has become smaller.

        Raises:
            TypeError: `max_seconds` is not a number.
            ValueError: `max_seconds` is less than 0.
            trio.ClosedResourceError: the cache is closed.
            sqlite3.Error: the database cannot be written.
        """
        self._guard.check_open()
        check_timeout("max_seconds", max_seconds)
        return await self._run(max_seconds, trio.Event())

    async def _run(self, max_seconds: float, stopping: trio.Event) -> int:
        freed = 0
        deadline = trio.current_time() + max_seconds
        with trio.move_on_at(deadline):
            least = _START
            while (
                trio.current_time() < deadline
                and not stopping.is_set()
                and await self._share() > least
                and (slice_bytes := await self._store.run(_free_pages))
            ):
                freed += slice_bytes
                least = _END
        if freed or not self._copied:
            # The file shrinks when the write-ahead log is copied into it. While a reader needs the
            # file as it was, that is not possible: then the next run copies it.
            result = await self._store.checkpoint("PASSIVE")
            self._copied = result.wal_pages is not None and result.wal_pages == result.copied_pages
        return freed

    async def _share(self) -> float:
        """Return the share of free pages; 0 if the file cannot shrink."""
        [(mode, free, count)] = await self._store.fetch_all(
            "SELECT * FROM pragma_auto_vacuum, pragma_freelist_count, pragma_page_count"
        )
        return free / count if mode else 0.0


def _free_pages(raw: Executes) -> int:
    """Free some pages, and return their total size in bytes."""
    [(before,)] = raw.execute("PRAGMA main.page_count")
    for _ in range(_SLICE):
        # Python executes one step of the statement, which frees one page, whatever its argument is.
        raw.execute("PRAGMA main.incremental_vacuum(1)")
    [(after,)] = raw.execute("PRAGMA main.page_count")
    [(size,)] = raw.execute("PRAGMA main.page_size")
    return int((before - after) * size)
