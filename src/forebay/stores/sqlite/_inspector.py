"""Read a SQLite file that others may own, and leave no file beside it.

A connection that reads a file in WAL mode creates its `-wal` and `-shm` files if they are missing,
even if the connection is read-only, and does not remove them. If another user than the owner runs
it, the files lock the owner out of the database. So an inspector reads a file without a WAL as
immutable: without locks, and without other files. As nothing then stops a program from writing to
the file, the inspector compares the state of the file before and after each call, and repeats the
call if it has changed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, TypeVarTuple

import trio

from forebay import sqlite
from forebay._errors import StoreError
from forebay._protection import protected_context
from forebay.stores.sqlite._errors import SQLITE_ERRORS

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MAGIC: Final = b"SQLite format 3\0"

_IMMUTABLE: Final = {"immutable": "1"}

_UNLOCKED_CALLS: Final = 5
"""How often a call is repeated without locks; after that it is made with locks."""


class FileState(NamedTuple):
    """What shows that a file was written to: another file, size or time, or a WAL beside it."""

    device: int
    inode: int
    size: int
    modified_ns: int
    has_wal: bool

    @classmethod
    def of(cls, file: Path) -> FileState:
        status = file.stat()
        return cls(
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            beside(file, "-wal").exists(),
        )


class _StaleError(Exception):
    """The file changed while it was read without locks."""


class Inspector:
    """A connection that only reads, and leaves no file beside the database.

    Args:
        path: the database.
        busy_timeout: how long SQLite waits for a program with an exclusive lock, in seconds.
        set_up: called with each connection that it opens.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        busy_timeout: float,
        set_up: Callable[[sqlite3.Connection], Any] | None = None,
    ) -> None:
        self.path = os.fsdecode(path)
        self._file = Path(os.path.realpath(path))
        self._busy_timeout = busy_timeout
        self._set_up = set_up
        self._state: FileState | None = None
        self._parameters: Mapping[str, str] = {}
        self._connection: sqlite.Connection | None = None

    @property
    def immutable(self) -> bool:
        """Whether the file is read as immutable: it is in WAL mode, and has no WAL now."""
        return self._parameters is _IMMUTABLE

    async def open(self, *, without_locks: bool = True) -> sqlite.Connection:
        """Open the connection, unless it is open.

        Args:
            without_locks: whether to read a file without a WAL as immutable.

        Raises:
            OSError: the file cannot be read.
            StoreError: to read the file, SQLite would create a file of this user beside it.
            sqlite3.Error: SQLite cannot open the file.
        """
        if self._connection is None:
            self._state, self._parameters = await trio.to_thread.run_sync(self._look)
            if self.immutable and not without_locks:
                self._parameters = {}
            self._connection = await sqlite.Connection.open(
                self.path,
                readonly=True,
                busy_timeout=self._busy_timeout,
                uri_parameters=self._parameters,
            )
            if self._set_up is not None:
                await self._connection.run(self._set_up)
        return self._connection

    async def run(self, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts) -> T:
        """Call a function with the connection and `args`, in a worker thread.

        It is called again if the file changed while it was read without locks. So it may only
        read, and return what it found.

        Raises:
            BaseException: the exception of `fn`.
            OSError: the file is gone.
        """
        calls = 0
        while True:
            calls += 1
            connection = await self.open(without_locks=calls <= _UNLOCKED_CALLS)
            try:
                return await connection.run(self._call, fn, *args)
            except _StaleError:
                await self.aclose()

    def _call(
        self, raw: sqlite3.Connection, fn: Callable[[sqlite3.Connection, *Ts], T], *args: *Ts
    ) -> T:
        try:
            result = fn(raw, *args)
        except SQLITE_ERRORS as error:
            # Pages that do not fit together, since another program was writing, may be the cause.
            if self._is_stale():
                raise _StaleError from error
            raise
        if self._is_stale():
            raise _StaleError
        return result

    def _is_stale(self) -> bool:
        """Whether the file changed since it was opened as immutable."""
        return self.immutable and self._state != FileState.of(self._file)

    async def fetch_all(
        self, sql: str, parameters: sqlite.Parameters = ()
    ) -> list[tuple[Any, ...]]:
        """Run a query and return all its rows."""
        return await self.run(_fetch_all, sql, parameters)

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.aclose()
            self._connection = None

    def _look(self) -> tuple[FileState, Mapping[str, str]]:
        return FileState.of(self._file), _uri_parameters(self._file)


@protected_context
async def open_inspector(
    path: str | os.PathLike[str],
    *,
    busy_timeout: float,
    set_up: Callable[[sqlite3.Connection], Any] | None = None,
) -> AsyncGenerator[Inspector, None]:
    """Open an `Inspector` for the length of an `async with` block.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file cannot be read.
        StoreError: to read the file, SQLite would create a file of this user beside it.
        sqlite3.Error: SQLite cannot open the file.
    """
    inspector = Inspector(path, busy_timeout=busy_timeout, set_up=set_up)
    try:
        await inspector.open()  # so that errors come before the block
        yield inspector
    finally:
        await inspector.aclose()


BESIDE: Final = ("-wal", "-shm", "-journal")
"""The suffixes of the files that SQLite keeps beside a database."""


def beside(file: Path, suffix: str) -> Path:
    """Return the path of a file that SQLite keeps beside a database, such as its `-wal`."""
    return Path(f"{file}{suffix}")  # also for the root folder, which has no name


def _uri_parameters(file: Path) -> Mapping[str, str]:
    """Return how to open a file so that SQLite creates no file of this user beside it."""
    if beside(file, "-wal").exists():
        if not beside(file, "-shm").exists() and not _creates_for_owner(file):
            raise StoreError(
                f"{str(file)!r} has a -wal file, but no -shm file. To read it, SQLite would create "
                f"one, which would belong to this user and lock the owner of the database out. "
                f"Read the database as its owner, or read a copy of both files"
            )
        return {}
    if not beside(file, "-journal").exists() and _is_in_wal_mode(file):
        return _IMMUTABLE
    return {}


def _creates_for_owner(file: Path) -> bool:
    """Whether files that this process creates beside a database can be used by its owner.

    SQLite gives the files that root creates to the owner of the database.
    """
    return os.name != "posix" or os.geteuid() in (0, file.stat().st_uid)


def _is_in_wal_mode(file: Path) -> bool:
    """Whether the header of a file says that it is in WAL mode. False if that cannot be known.

    To close the file would end this process's locks on it (https://sqlite.org/howtocorrupt.html,
    section 2.2). So it is not opened if this process has it open already.
    """
    try:
        if _is_open_here(file):
            return False
        with file.open("rb") as opened:
            header = opened.read(20)
    except OSError:
        return False
    return header.startswith(_MAGIC) and 2 in header[18:20]


def _is_open_here(file: Path) -> bool:
    """Whether this process has a descriptor of a file; True if the system does not say."""
    if os.name != "posix":  # pragma: no cover  # the tests run on Linux
        return False
    status = file.stat()
    try:
        descriptors = list(Path("/dev/fd").iterdir())  # on Linux, a link to /proc/self/fd
    except OSError:
        return True
    for descriptor in descriptors:
        with suppress(OSError):  # the descriptor of the listing itself is closed by now
            if os.path.samestat(os.fstat(int(descriptor.name)), status):
                return True
    return False


def _fetch_all(
    raw: sqlite3.Connection, sql: str, parameters: sqlite.Parameters
) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = raw.execute(sql, parameters).fetchall()
    return rows
