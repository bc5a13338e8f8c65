"""Copy a database to a new file, while programs write to it: one snapshot, or no file at all."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

import trio

from forebay._errors import StoreError
from forebay._own_files import (
    create_file,
    file_problem,
    is_same_file,
    opened_folder,
    sync_file,
    sync_folder,
)
from forebay.stores.sqlite._errors import LOCKED, SQLITE_ERRORS, code_name, failure_code
from forebay.stores.sqlite._inspector import BESIDE, beside, open_inspector

_logger = logging.getLogger(__name__)

_PAGES_PER_STEP: Final = 1024
"""Between two steps, some milliseconds each, a cancelled backup ends."""

_EXISTS: Final = "exists already; overwrite=True, or --overwrite, replaces it"

_NO_LINKS: Final = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK)
"""What link fails with on a file system that does not support hard links."""


@trio.lowlevel.enable_ki_protection
async def back_up(
    database: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    overwrite: bool,
    busy_timeout: float,
    check: Callable[[], object] = lambda: None,
) -> int:
    """Copy a database to a new file. See `SqliteStore.backup`.

    Args:
        database: the database. It is only read.
        path: the file to create, which may be relative to the current folder.
        overwrite: whether it may replace an existing file.
        busy_timeout: how long SQLite waits for a program with an exclusive lock, in seconds.
        check: called in a thread, at the start and before the file gets its name. If it raises, no
            file gets the name.

    Returns:
        The size of the file in bytes.

    Raises:
        ValueError: the path is that of the database or of a file beside it.
        OSError: one of the files cannot be read or written, or `path` exists.
        StoreError: SQLite cannot read the database, or the disk is full.
        sqlite3.OperationalError: the database stayed locked.
    """
    target = os.path.join(os.getcwd(), os.fsdecode(path))  # noqa: PTH109, PTH118  # keeps a last slash

    def begin() -> _NewFile:
        check()
        return _NewFile(target, os.fsdecode(database), overwrite)

    file = await trio.to_thread.run_sync(begin)
    try:
        try:
            async with open_inspector(database, busy_timeout=busy_timeout) as inspector:
                await inspector.run(_copy, file.part)
        except SQLITE_ERRORS as error:
            if failure_code(error) in LOCKED:
                raise
            raise StoreError(
                f"{os.fsdecode(database)!r} could not be copied to {target!r}: {error} "
                f"({code_name(error)}); no copy was made"
            ) from error
        return await trio.to_thread.run_sync(file.publish, check)
    finally:
        with trio.CancelScope(shield=True):  # it only closes and removes a file
            await trio.to_thread.run_sync(file.close)


def _copy(raw: sqlite3.Connection, part: Path) -> None:
    with closing(sqlite3.connect(f"{part.as_uri()}?mode=rw", uri=True)) as copy:
        # A copy that is not completed is removed, and a complete one is synced by `publish`.
        copy.execute("PRAGMA journal_mode = off").close()
        copy.execute("PRAGMA synchronous = off").close()
        raw.execute("BEGIN")
        try:
            # This begins the read. Without it, a write between two steps would begin the copy anew.
            raw.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            raw.backup(copy, pages=_PAGES_PER_STEP, progress=_let_cancel)
        finally:
            if raw.in_transaction:
                raw.execute("ROLLBACK").close()


def _let_cancel(_code: int, _remaining: int, _pages: int) -> None:
    trio.from_thread.check_cancelled()


class _NewFile:
    """A file with a temporary name beside the path that it gets when it is complete.

    Attributes:
        part: its path until then. Only its owner can read it.
    """

    def __init__(self, path: str, database: str, overwrite: bool) -> None:
        folder, self._name = os.path.split(path)
        if self._name in ("", os.curdir, os.pardir):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._path = Path(os.path.realpath(folder), self._name)
        self._overwrite = overwrite
        source = Path(os.path.realpath(database))
        if self._path in (source, *(beside(source, suffix) for suffix in BESIDE)):
            raise ValueError(f"path={path!r} is the database or a file of it; choose another path")
        self._check_path()
        self.part = self._path.with_name(f"{self._name}.{secrets.token_hex(4)}.part")
        with ExitStack() as stack:
            self._folder = stack.enter_context(opened_folder(self._path.parent))
            self._descriptor = create_file(self.part.name, folder=self._folder)
            stack.callback(os.close, self._descriptor)
            self._opened = stack.pop_all()

    def publish(self, check: Callable[[], object]) -> int:
        """Give the file its name, once it is on the disk and `check` has returned.

        Returns:
            The size of the file in bytes.

        Raises:
            OSError: the disk fails, or the name is taken.
        """
        status = os.fstat(self._descriptor)
        if not is_same_file(self.part.name, status, folder=self._folder):
            raise OSError(errno.EPERM, "another program replaced the file", str(self.part))
        doubt = sync_file(self._descriptor)
        check()
        self._check_path()
        self._rename()
        doubt = doubt or sync_folder(self._folder)
        if doubt is not None:
            _logger.warning("a power failure may damage the backup %r: %s", str(self._path), doubt)
        return status.st_size

    def close(self) -> None:
        """Remove the file, unless it is published."""
        with suppress(OSError):
            os.unlink(self.part.name, dir_fd=self._folder)
        self._opened.close()

    def _check_path(self) -> None:
        """Check that nothing that must stay has the path, and no log that SQLite would apply.

        Raises:
            OSError: something has.
        """
        with suppress(FileNotFoundError):
            status = self._path.lstat()
            problem = file_problem(status, {os.geteuid()}) if self._overwrite else _EXISTS
            if problem is not None:
                raise FileExistsError(errno.EEXIST, f"it {problem}", str(self._path))
        for end in ("-wal", "-journal"):
            log = beside(self._path, end)
            if os.path.lexists(log):
                raise FileExistsError(
                    errno.EEXIST,
                    f"SQLite would apply this file to the backup {self._name!r}; if no program "
                    f"uses the database that it belongs to, move both away",
                    str(log),
                )

    def _rename(self) -> None:
        names = self.part.name, self._name
        if not self._overwrite:
            try:
                # Unlike a rename, this cannot replace a file that has taken the name meanwhile.
                os.link(*names, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            except FileExistsError:
                raise FileExistsError(errno.EEXIST, f"it {_EXISTS}", str(self._path)) from None
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                return  # `close` removes the other name
        os.replace(*names, src_dir_fd=self._folder, dst_dir_fd=self._folder)
