"""One process a folder: the lock that says so."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from forebay import StoreError


@contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Have the folder for oneself, for the time of the block.

    The kernel lets go of it when the process dies, however it does.

    Raises:
        StoreError: somebody has it.
        OSError: the lock's file cannot be created, or its file system knows no locks.
    """
    handle = os.open(folder / "cache.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"the cache in {os.fspath(folder)!r} is open already, in this process or another; "
                f"one at a time: end that one first, or open another folder"
            ) from None
        try:
            yield
        finally:
            # Not by closing alone: a fork of this process has the same lock.
            fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)
