"""The write-ahead log beside the file: whether it is the same still, and whether it only grows."""

from __future__ import annotations

import logging

from forebay.stores._identity import FileIdentity, look

_logger = logging.getLogger("forebay")


class Wal:
    """The WAL of one file, to be made when there is one, on a connection that stays open.

    SQLite removes it only when the last connection closes, and makes another only when the first
    one opens. It uses it again from its start once all is copied into the file, which a reader that
    stays open prevents: https://sqlite.org/wal.html#avoiding_excessively_large_wal_files.
    """

    def __init__(self, path: str, *, warn_at: int) -> None:
        self._database = path
        self._path = f"{path}-wal"
        self._identity = FileIdentity(self._path)
        self._warn_at = warn_at

    def size(self) -> int | None:
        """Tell the size of the WAL, in bytes; None where there is none now."""
        status = look(self._path)
        return None if status is None else status.st_size

    def check(self) -> None:
        """Refuse to go on with another WAL, and log a warning when this one has grown.

        The warning comes when it has passed its limit, and again each time it has doubled.

        Raises:
            StoreError: it was deleted, renamed or replaced.
        """
        status = self._identity.check()
        if status is not None and status.st_size > self._warn_at:
            _logger.warning(
                "the WAL of %r has grown to %.0f MiB: look for a reader that stays open, which "
                "keeps SQLite from using it again; commits go on meanwhile",
                self._database,
                status.st_size / 2**20,
            )
            self._warn_at = 2 * status.st_size
