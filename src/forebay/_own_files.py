"""Files in folders that other users can write to: nothing of theirs is followed or trusted.

In a folder such as `/tmp`, another user can take the name of a file before this program does: with
a symbolic link to somewhere else, with a pipe, or with a file of their own. So a file is created
only if its name is free, and an existing one is used only if it is of the right type and of a
trusted owner. The way to the folder may have symbolic links, since an operator chose that path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

_ROOT: Final = 0
"""The id of the superuser."""

_OPEN_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
"""With O_PATH, which Linux has, also a folder that this user can write and not read is opened."""

_NO_SYNC: Final = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""What fsync fails with on a file system that does not support it."""


def trusted_owners() -> frozenset[int]:
    """Return the ids of this user and of the superuser."""
    return frozenset([os.geteuid(), _ROOT])


def owners_of(*files: str | os.PathLike[str]) -> frozenset[int]:
    """Return the ids of the owners of files. A file that does not exist is ignored."""
    owners: set[int] = set()
    for file in files:
        with suppress(OSError):
            owners.add(os.stat(file).st_uid)  # noqa: PTH116  # a str is enough
    return frozenset(owners)


def file_problem(status: os.stat_result, owners: Collection[int]) -> str | None:
    """Return why a path must not be used as a file, in words that follow the path; or None.

    Args:
        status: the status of the path itself: a symbolic link must not have been followed.
        owners: the ids of the trusted owners.
    """
    if not stat.S_ISREG(status.st_mode):
        link = stat.S_ISLNK(status.st_mode)
        return "is a symbolic link" if link else "is not a regular file"
    return owner_problem(status, owners)


def owner_problem(status: os.stat_result, owners: Collection[int]) -> str | None:
    """Return why the owner of a file is not trusted, in words that follow its path; or None."""
    if status.st_uid in owners:
        return None
    return f"belongs to user {status.st_uid}, but this process runs as user {os.geteuid()}"


@contextmanager
def opened_folder(path: str | os.PathLike[str]) -> Generator[int, None, None]:
    """Open a folder for the duration of the block, to reach files by `dir_fd`.

    Yields:
        A descriptor of the folder, which need not be readable.

    Raises:
        OSError: the path is not a folder, or cannot be opened.
    """
    folder = os.open(path, _OPEN_FOLDER)
    try:
        yield folder
    finally:
        os.close(folder)


def create_file(name: str, *, folder: int) -> int:
    """Create a file, with access for its owner only, and return its descriptor.

    Args:
        name: the name in the folder.
        folder: a descriptor of the folder.

    Raises:
        FileExistsError: the name is taken, even if it is that of a dangling symbolic link.
        OSError: the file cannot be created.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=folder)


def is_same_file(name: str, status: os.stat_result, *, folder: int) -> bool:
    """Return whether a name in a folder is still that of a file, which is not a link to it."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(found, status)


def sync_file(descriptor: int) -> str | None:
    """Flush a file to the disk. Return the doubt if its file system does not support that.

    Raises:
        OSError: the disk is full, or fails.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
        return f"its contents were not synced to the disk: {error.strerror}"
    return None


def sync_folder(folder: int) -> str | None:
    """Flush the names in a folder to the disk. Return the doubt if that fails, or None."""
    try:
        descriptor = os.open(os.curdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:  # the folder cannot be read, or the disk fails
        return f"its name was not synced to the disk: {error.strerror}"
    return None


def open_trusted(path: str | os.PathLike[str], owners: Collection[int]) -> BinaryIO:
    """Open an existing file to read it.

    Args:
        path: the file.
        owners: the ids of the trusted owners.

    Raises:
        ValueError: `file_problem` returns a problem, which is the message.
        OSError: the file cannot be opened.
    """
    # Without O_NONBLOCK, opening a pipe would wait until another program writes to it.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError:
        if os.path.islink(path):  # noqa: PTH114  # a str is enough
            raise ValueError("is a symbolic link") from None
        raise
    problem = file_problem(os.fstat(descriptor), owners)
    if problem is not None:
        os.close(descriptor)
        raise ValueError(problem)
    return open(descriptor, "rb")  # noqa: PTH123  # a descriptor
