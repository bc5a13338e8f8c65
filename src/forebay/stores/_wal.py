"""The write-ahead log beside the file: its size, and a warning when it only grows."""

from __future__ import annotations

import logging
import os

_logger = logging.getLogger("forebay")


class Wal:
    """The WAL of one file.

    SQLite uses it again from its start once all is copied into the file, which a reader that
    stays open prevents: https://sqlite.org/wal.html#avoiding_excessively_large_wal_files.
    """

    def __init__(self, path: str, *, warn_at: int) -> None:
        self._database = path
        self._path = f"{path}-wal"
        self._warn_at = warn_at

    def size(self) -> int | None:
        """Tell the size of the WAL, in bytes; None where there is none now."""
        try:
            return os.stat(self._path).st_size  # noqa: PTH116  # a path is a str here
        except FileNotFoundError:
            return None

    def watch(self) -> None:
        """Log a warning when the WAL has passed its limit, and again each time it has doubled."""
        size = self.size() or 0
        if size > self._warn_at:
            _logger.warning(
                "the WAL of %r has grown to %.0f MiB: look for a reader that stays open, which "
                "keeps SQLite from using it again; commits go on meanwhile",
                self._database,
                size / 2**20,
            )
            self._warn_at = 2 * size
