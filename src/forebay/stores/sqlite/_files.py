"""The files of a database: whether each is still the one that was opened, and the WAL's size."""

from __future__ import annotations

import logging
import os

from forebay._errors import StoreError

_logger = logging.getLogger("forebay")


class FileIdentity:
    """A file, known by its device and inode.

    Writes to a file that was deleted or replaced succeed, and are gone with it: see
    https://sqlite.org/howtocorrupt.html, "Unlinking or renaming a database file while in use".
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._known = _identity(look(path))

    def check(self) -> os.stat_result | None:
        """Refuse to go on with another file.

        Returns:
            The state of the file; None where there was none from the beginning.

        Raises:
            StoreError: it was deleted, renamed or replaced.
        """
        found = look(self._path)
        if _identity(found) != self._known:
            happened = "deleted or renamed" if found is None else "replaced"
            raise StoreError(
                f"{self._path!r} was {happened} while it was open: what is written now may be "
                f"lost; put the file back, or restart the program"
            )
        return found


def look(path: str) -> os.stat_result | None:
    """Tell the state of a file; None where there is none."""
    # os.stat, since it is asked in each transaction, and pathlib takes as long again.
    try:
        return os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result | None) -> tuple[int, int] | None:
    return None if status is None else (status.st_dev, status.st_ino)


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
