"""The calls of a store that maintain its file: back it up, shrink it, empty its log."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import trio

from forebay import sqlite
from forebay._owner import Owner
from forebay.stores.sqlite._backup import back_up
from forebay.stores.sqlite._errors import store_errors
from forebay.stores.sqlite._files import DatabaseFiles
from forebay.stores.sqlite._waiting import retry_while_locked

CheckpointMode: TypeAlias = Literal["PASSIVE", "FULL", "RESTART", "TRUNCATE"]

_BUSY_TIMEOUT: Final = 0.05
"""How long SQLite waits for a lock in a thread, in seconds. The longer wait is in Trio."""

_STEPS: Final = 10_000
"""Steps of SQLite's virtual machine between two looks for cancellation."""


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """What a checkpoint has done.

    Attributes:
        busy: whether a reader kept the checkpoint from finishing, or another program made one at
            the same time. ``PASSIVE`` waits for no reader, and so reports none.
        wal_pages: the number of pages in the write-ahead log, which is 0 after a complete
            ``TRUNCATE``. None if another program made a checkpoint.
        copied_pages: how many of these pages are in the database file too. All of them are, unless
            a reader still needs the file as it was. None if another program made a checkpoint.
    """

    busy: bool
    wal_pages: int | None
    copied_pages: int | None


class Maintenance:
    """The calls of `SqliteStore` that maintain its file."""

    path: str
    _owner: Owner
    _writer: sqlite.Connection
    _files: DatabaseFiles

    async def backup(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Copy the database to a new file, while the buffers go on.

        The copy is one snapshot: what was committed when the copying began. It is made on a
        connection of its own, so no flush waits for it. Meanwhile SQLite cannot reuse the
        write-ahead log, which grows by everything that is written.

        Only the owner of the copy can read it (mode 0600). It has a temporary name beside `path`,
        which ends in ``.part``, until it is complete and on the disk. If the call is cancelled or
        fails, that file is removed, and what was at `path` stays as it was.

        Args:
            path: the file to create, in an existing folder.
            overwrite: whether the copy replaces an existing file, once it is complete. A symbolic
                link, and a file of another user, are never replaced. No program may use the
                database that is replaced.

        Raises:
            FileExistsError: `path` exists, or may not be replaced; or there is a write-ahead log or
                a journal of another database with that name, which SQLite would apply to the copy.
            OSError: the file cannot be created: its folder does not exist, or the permission is
                missing.
            ValueError: `path` is the database itself, or a file beside it.
            StoreError: the disk is full, the database cannot be read, or it was deleted or
                replaced.
            trio.ClosedResourceError: the store is closed.
            RuntimeError: this thread or process is not the one that opened the store.
        """
        self._owner.check()
        if self._writer.statistics().state is not sqlite.ConnectionState.OPEN:
            raise trio.ClosedResourceError(f"the store {self.path!r} is closed")
        await retry_while_locked(
            lambda: back_up(
                self.path,
                path,
                overwrite=overwrite,
                busy_timeout=_BUSY_TIMEOUT,
                check=self._files.check,
            )
        )

    async def vacuum(self) -> None:
        """Rebuild the database file, so that it contains no free pages.

        It takes the writer's turn: buffers and `run` wait until it has ended, which may take
        minutes, and reads go on. It needs free disk space of up to twice the size of the file,
        since the rebuilt database is written to a temporary file and then to the write-ahead log.
        The file shrinks with the next checkpoint. Rowids may change in tables without an INTEGER
        PRIMARY KEY.

        While another process holds the write lock, this waits for it. If the task is cancelled, the
        VACUUM is interrupted, and the database stays as it is.

        Raises:
            StoreError: the disk is full, or the file cannot be written, or was deleted or replaced.
            trio.ClosedResourceError: the store is closed.
            RuntimeError: this thread or process is not the one that opened the store.
        """
        self._owner.check()
        with store_errors(self.path):
            await retry_while_locked(lambda: self._writer.run(self._vacuum))

    def _vacuum(self, raw: sqlite3.Connection) -> None:
        with self._files.checked():
            # If the handler raises, SQLite interrupts the statement.
            raw.set_progress_handler(trio.from_thread.check_cancelled, _STEPS)
            try:
                raw.execute("VACUUM").close()
            except sqlite3.OperationalError:
                trio.from_thread.check_cancelled()
                raise
            finally:
                raw.set_progress_handler(None, 0)

    async def checkpoint(self, mode: CheckpointMode = "TRUNCATE") -> CheckpointResult:
        """Copy the write-ahead log into the database file, in the writer's turn.

        SQLite does this by itself, with ``PASSIVE``, whenever the log exceeds 1,000 pages. Call it
        to shrink the log, or before the file is moved.

        A reader that began before the last commits keeps SQLite from copying these. Then the
        result says `busy`, what can be copied is copied, and nothing is lost: call it again later.
        If the task is cancelled while it waits for its turn, nothing is done; after that,
        cancellation waits until the checkpoint has ended.

        Args:
            mode: ``PASSIVE`` copies what it can without waiting. The others wait up to
                `busy_timeout` for readers: ``FULL`` copies everything, ``RESTART`` also lets the
                next commit begin the log anew, and ``TRUNCATE`` also empties the log's file. See
                https://sqlite.org/pragma.html#pragma_wal_checkpoint.

        Raises:
            StoreError: the disk is full or fails, or the file was deleted or replaced.
            ValueError: there is no such mode.
            trio.ClosedResourceError: the store is closed.
            RuntimeError: this thread or process is not the one that opened the store.
        """
        self._owner.check()
        if mode not in get_args(CheckpointMode):
            raise ValueError(f"mode={mode!r}: expected one of {get_args(CheckpointMode)}")
        with store_errors(self.path):
            return await self._writer.run(self._checkpoint, mode)

    def _checkpoint(self, raw: sqlite3.Connection, mode: str) -> CheckpointResult:
        with self._files.checked():
            [(busy, *pages)] = raw.execute(f"PRAGMA main.wal_checkpoint({mode})").fetchall()
        wal_pages, copied_pages = [None if number < 0 else number for number in pages]
        return CheckpointResult(bool(busy), wal_pages, copied_pages)
