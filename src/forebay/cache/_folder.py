"""The folder of a cache: opened without following links, and used by one process at a time.

Other users may be able to write to the folder. So each folder in it is opened by its descriptor,
its owner is checked, and its files are reached through that descriptor: no symbolic link leads
the cache out of its folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from forebay import StoreError

_ROOT: Final = 0
"""The id of the superuser."""

_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_FILES: Final = ("cache.lock", "cache.db", "cache.db-wal", "cache.db-shm", "cache.db-journal")
"""The files beside the folder `artifacts`. Spills are not among them: they are only listed here,
and written under names that are free."""


class UnsafePathError(OSError):
    """A path of the cache is a symbolic link, is of the wrong kind, or belongs to another user."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(errno.EPERM, reason, os.fspath(path))

    def __reduce__(self) -> tuple[type[UnsafePathError], tuple[Path, str], dict[str, object]]:
        return type(self), (Path(self.filename), self.strerror or ""), self.__dict__

    def __str__(self) -> str:
        return f"{self.filename!r} {self.strerror}"


def _symbolic_link(path: Path) -> UnsafePathError:
    return UnsafePathError(
        path,
        "is a symbolic link, which the cache does not follow: remove it, or use another folder",
    )


def _check_owner(path: Path, owner: int, *, allowed: tuple[int, ...] = ()) -> None:
    user = os.geteuid()
    if owner not in (user, *allowed):
        raise UnsafePathError(
            path,
            f"belongs to user {owner}, but this process runs as user {user}: "
            f"remove it, change its owner, or use another folder",
        )


@contextmanager
def opened_folder(path: Path, *, parent: int | None = None) -> Generator[int, None, None]:
    """Open a folder of this user for the duration of the block, without following a link.

    Args:
        path: the folder.
        parent: the descriptor of the folder that holds it; None to look the whole path up.

    Yields:
        A descriptor of the folder.

    Raises:
        UnsafePathError: the path is a symbolic link or a file, or belongs to another user.
        OSError: the folder does not exist or cannot be opened.
    """
    folder = _open(path, parent)
    try:
        _check_owner(path, os.fstat(folder).st_uid)
        yield folder
    finally:
        os.close(folder)


def _open(path: Path, parent: int | None) -> int:
    try:
        return os.open(path if parent is None else path.name, _OPEN_FOLDER, dir_fd=parent)
    except OSError as error:
        error.filename = os.fspath(path)
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
            if path.is_symlink():
                raise _symbolic_link(path) from None
            raise UnsafePathError(
                path, "is not a folder: remove it, or use another folder"
            ) from None
        raise


def make_folder(path: Path, *, parent: int) -> None:
    """Create a folder if its name is free, with access for its owner only.

    Args:
        path: the folder.
        parent: the descriptor of the folder that holds it.
    """
    with suppress(FileExistsError):
        os.mkdir(path.name, mode=0o700, dir_fd=parent)


def create_file(name: str, *, folder: int) -> int:
    """Create an empty file in a folder, with access for its owner only.

    Returns:
        A descriptor to write to the file.

    Raises:
        FileExistsError: the name is taken, even if only by a dangling link.
        OSError: the file cannot be created.
    """
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)


def open_file(name: str, *, folder: int) -> tuple[int, os.stat_result] | None:
    """Open a regular file in a folder for reading, without following a link.

    Returns:
        A descriptor and the status of the file; None if there is no regular file of this name.

    Raises:
        OSError: the file cannot be opened.
    """
    # Without O_NONBLOCK, opening a pipe would wait for its writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EMLINK, errno.ENXIO):
            return None
        raise
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status
    os.close(descriptor)
    return None


def remove_file(name: str, *, folder: int) -> int:
    """Remove a file or a link from a folder.

    Returns:
        The bytes that this frees: the size of a regular file, otherwise 0.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: it cannot be removed, or is a folder.
    """
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    os.unlink(name, dir_fd=folder)
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def file_status(directory: Path, name: str) -> os.stat_result | None:
    """Return the status of an artifact's file, or None if there is no regular file at its path.

    This opens nothing, so it works without free file descriptors.

    Args:
        directory: the folder of the artifacts.
        name: the name of the file, whose first two characters are the name of its subfolder.
    """
    folder = f"{directory}{os.sep}{name[:2]}"
    try:
        # A link in place of a folder is not followed.
        if not all(stat.S_ISDIR(os.lstat(path).st_mode) for path in (directory, folder)):
            return None
        status = os.lstat(f"{folder}{os.sep}{name}")
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def create_root(directory: str | os.PathLike[str]) -> Path:
    """Create the folder of a cache if it does not exist, and check whose it is.

    The path itself may be a symbolic link of this user or of the superuser.

    Returns:
        The absolute path of the folder, without symbolic links.

    Raises:
        StoreError: the folder, or a symbolic link to it, belongs to another user.
        OSError: the folder cannot be created.
    """
    path = Path(os.path.abspath(os.fsdecode(directory)))  # noqa: PTH100  # resolves no link
    try:
        with suppress(FileNotFoundError):
            _check_owner(path, path.lstat().st_uid, allowed=(_ROOT,))
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        root = Path(os.path.realpath(path))
        _check_owner(root, root.stat().st_uid, allowed=(_ROOT,))
    except UnsafePathError as error:
        raise StoreError(str(error)) from None
    return root


@contextmanager
def locked_root(root: Path) -> Generator[None, None, None]:
    """Lock the folder of a cache for this process, for the duration of the block.

    Checks the files in it, and creates those that SQLite would create through a link of another
    user. The kernel releases the lock when the process ends, even if it is killed.

    Raises:
        StoreError: the folder is locked already, or one of its files is a symbolic link, is not
            a regular file, or belongs to another user.
        OSError: a file cannot be created, or the file system does not support locks.
    """
    with ExitStack() as opened:
        folder = _open(root, None)
        opened.callback(os.close, folder)
        try:
            for name in _FILES:
                _check_file(root / name, folder)
            handle = _open_or_create(root / "cache.lock", folder)
        except UnsafePathError as error:
            raise StoreError(str(error)) from None
        opened.callback(os.close, handle)
        opened.enter_context(_locked(handle, root))
        # SQLite would create the database, but may follow a link that was put there meanwhile.
        with suppress(FileExistsError):
            os.close(create_file("cache.db", folder=folder))
        yield


def _check_file(path: Path, folder: int) -> None:
    """Check that a name is free, or that of a regular file of this user."""
    try:
        status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode):
        raise _symbolic_link(path)
    _check_owner(path, status.st_uid)
    if not stat.S_ISREG(status.st_mode):
        raise UnsafePathError(path, "is not a regular file: remove it, or use another folder")


def _open_or_create(path: Path, folder: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(path.name, flags, 0o600, dir_fd=folder)
    except OSError as error:
        _check_file(path, folder)  # the name was free a moment ago
        error.filename = os.fspath(path)
        raise
    try:
        _check_owner(path, os.fstat(handle).st_uid)
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextmanager
def _locked(handle: int, root: Path) -> Generator[None, None, None]:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(
            f"the cache in {os.fspath(root)!r} is open already, in this process or another; "
            f"only one at a time may use it: close that one first, or open another folder"
        ) from None
    try:
        yield
    finally:
        # Closing the file is not enough, since a fork of this process shares the lock.
        fcntl.flock(handle, fcntl.LOCK_UN)
