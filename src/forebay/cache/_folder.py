"""The folder of a cache, which one process at a time may use."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from forebay import StoreError


@contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Lock a folder for this process, for the duration of the block.

    The kernel releases the lock when the process ends, even if it is killed.

    Raises:
        StoreError: the folder is locked already.
        OSError: the lock file cannot be created, or its file system does not support locks.
    """
    handle = os.open(folder / "cache.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"the cache in {os.fspath(folder)!r} is open already, in this process or another; "
                f"only one at a time may use it: close that one first, or open another folder"
            ) from None
        try:
            yield
        finally:
            # Closing the file is not enough, since a fork of this process shares the lock.
            fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)
