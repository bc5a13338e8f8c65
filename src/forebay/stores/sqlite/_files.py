"""The files of an open database: check that they are still the files that were opened."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar, TypeVarTuple

from forebay._errors import StoreError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_logger = logging.getLogger(__name__)


def use_wal(raw: sqlite3.Connection, path: str) -> None:
    """Let a database use WAL mode.

    Raises:
        StoreError: the file does not allow it.
    """
    mode = raw.execute("PRAGMA main.journal_mode = wal").fetchone()[0]
    if mode != "wal":
        raise StoreError(
            f"{path!r} stays in journal mode {mode!r}, but the store needs WAL mode, in which "
            f"readers do not wait for the writer; network file systems do not support it, so "
            f"move the file to a local disk"
        )


class DatabaseFiles:
    """The database file, its write-ahead log and its shared memory.

    Create it while a connection is open in WAL mode, so that all three files exist.
    """

    def __init__(self, path: str, *, wal_warning: int) -> None:
        self._database = FileIdentity(path)
        self._wal = Wal(path, warn_at=wal_warning)
        self._shared_memory = FileIdentity(f"{path}-shm")

    def wal_size(self) -> int | None:
        """Return the size of the write-ahead log in bytes, or None if there is no such file."""
        return self._wal.size()

    def check(self) -> None:
        """Check the files now.

        A transaction checks them before COMMIT, since a database that replaced this one could find
        the transaction in its log.

        Raises:
            StoreError: a file was deleted, renamed or replaced.
        """
        self._database.check()
        self._wal.check()
        # If it is gone, the next program that opens the database shares no locks with this one.
        self._shared_memory.check()

    @contextmanager
    def checked(self) -> Generator[None, None, None]:
        """Check the files before and after a block, also if it fails.

        Raises:
            StoreError: a file was deleted, renamed or replaced.
        """
        self.check()
        try:
            yield
        finally:
            self.check()

    def guard(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function that checks the files in its transactions; check them if it fails, too.

        Returns:
            The result of the function.

        Raises:
            StoreError: a file was deleted, renamed or replaced. What the function committed before
                it failed may be lost too.
            BaseException: the exception of the function.
        """
        try:
            return function(*args)
        except StoreError:
            raise
        except Exception:
            self.check()
            raise


class FileIdentity:
    """A file, identified by its device and inode.

    Writes to a file that was deleted or replaced succeed, and are lost with it: see
    https://sqlite.org/howtocorrupt.html, "Unlinking or renaming a database file while in use".
    """

    def __init__(self, path: str) -> None:
        self._path = path
        status = _status(path)
        self._device = None if status is None else status.st_dev
        self._inode = None if status is None else status.st_ino

    def check(self) -> os.stat_result | None:
        """Check that the path still leads to the same file.

        Returns:
            The status of the file, or None if it has never existed.

        Raises:
            StoreError: the file was deleted, renamed or replaced.
        """
        status = _status(self._path)
        if status is None:
            if self._inode is None:
                return None
            happened = "deleted or renamed"
        elif status.st_ino == self._inode and status.st_dev == self._device:
            return status
        else:
            happened = "replaced"
        raise StoreError(
            f"{self._path!r} was {happened} while it was open: rows written now may be lost; "
            f"put the original file back, or restart the program"
        )


def _status(path: str) -> os.stat_result | None:
    # os.stat, because each transaction calls it, and pathlib takes twice as long.
    try:
        return os.stat(path)  # noqa: PTH116  # faster, see above
    except FileNotFoundError:
        return None


class Wal:
    """The write-ahead log of a database.

    SQLite deletes it when the last connection closes, and creates it when the first one opens.
    Once every page of it is copied into the database, SQLite writes it again from its start; a
    reader that stays open prevents this:
    https://sqlite.org/wal.html#avoiding_excessively_large_wal_files.
    """

    def __init__(self, database: str, *, warn_at: int) -> None:
        self._database = database
        self._path = f"{database}-wal"
        self._identity = FileIdentity(self._path)
        self._limit = warn_at
        self._warn_at = warn_at

    def size(self) -> int | None:
        """Return the size of the file in bytes, or None if there is no such file."""
        status = _status(self._path)
        return None if status is None else status.st_size

    def check(self) -> None:
        """Check that the file is still the same, and log a warning when it has grown.

        The warning is logged when the file exceeds its limit, and again each time it doubles.
        After a checkpoint has truncated the file, this starts again.

        Raises:
            StoreError: the file was deleted, renamed or replaced.
        """
        status = self._identity.check()
        if status is None:
            return
        if status.st_size > self._warn_at:
            _logger.warning(
                "the WAL of %r has grown to %.0f MiB: a reader that stays open prevents SQLite "
                "from reusing it; find that reader and close it. Commits continue meanwhile",
                self._database,
                status.st_size / 2**20,
            )
            self._warn_at = 2 * status.st_size
        elif self._warn_at > self._limit:
            self._warn_at = min(self._warn_at, max(self._limit, 2 * status.st_size))
