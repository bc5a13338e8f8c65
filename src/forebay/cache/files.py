"""`ArtifactFiles`: the artifacts' files on the local disk."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import trio

from forebay.cache._arguments import checked_text, checked_texts
from forebay.cache._call_batcher import CallBatcher
from forebay.cache._workers import CloseGuard

_log = logging.getLogger("forebay.cache")

FOLDERS = 256
"""The number of folders that the files are spread over."""

_THREADS = 8
"""The maximum number of threads that access files at once."""

_CLEANUP_TIMEOUT = 10.0
"""How long the removal of an unfinished file may delay a cancellation, in seconds."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How many bytes of a disk or of a budget are used."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Removal:
    """What happened to files that were to be removed.

    Attributes:
        freed: the size of each removed file in bytes, by key; 0 if the file did not exist.
        failed: the errors of the files that could not be removed, by key.
    """

    freed: dict[str, int]
    failed: dict[str, OSError]


class ArtifactFiles:
    """A folder with one file per artifact.

    The name of a file is the SHA-256 of its key. So a key may have any length and any characters
    (a slash, two dots, a NUL); still no two keys share a file on any file system, and no file is
    outside the folder.

    All calls of the file system run in threads. Cancelled, a call that has begun runs to its end.
    `writing` and `remove` raise `trio.ClosedResourceError` once the cache is closed.
    """

    def __init__(self, directory: Path, *, guard: CloseGuard | None = None) -> None:
        """Set the folder, without creating it. `prepare` does.

        Args:
            directory: the folder, which must hold nothing else.
            guard: makes `writing` and `remove` raise once the cache is closed.
        """
        self._directory = directory
        self._guard = guard or CloseGuard()
        self._partial = directory / "partial"
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._batched_sizes: CallBatcher[str, int | None] = CallBatcher(self.sizes)

    def __repr__(self) -> str:
        return f"<forebay.cache.ArtifactFiles in {str(self._directory)!r}>"

    async def prepare(self) -> None:
        """Create the folder, and remove unfinished files that a crash left in it.

        A file that cannot be removed is logged as a warning.

        Raises:
            OSError: the folder cannot be created or read.
        """
        await anyio.to_thread.run_sync(self._prepare, limiter=self._threads)

    def _prepare(self) -> None:
        # One by one, since mkdir applies the mode only to the last folder of a path.
        for folder in (self._directory, self._partial):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for unfinished in self._partial.iterdir():
            try:
                unfinished.unlink()
            except OSError as error:
                _log.warning("unfinished file %r cannot be removed: %s", str(unfinished), error)

    def path(self, key: str) -> Path:
        """Return the path of a key's file, whether the file exists or not.

        Raises:
            TypeError: the key is not a str.
            ValueError: the key is empty or has half of a surrogate pair.
        """
        digest = hashlib.sha256(checked_text("key", key).encode()).hexdigest()
        return self._directory / digest[:2] / digest

    def folders(self) -> list[Path]:
        """Return the folders that files may be in, in the order of the first byte of the names."""
        return [self._directory / f"{number:02x}" for number in range(FOLDERS)]

    async def size(self, key: str) -> int | None:
        """Return the size of a key's file in bytes, or None if the file cannot be found.

        Tasks that call this at the same time share a call of a thread.

        Raises:
            TypeError: the key is not a str.
            ValueError: the key is empty or has half of a surrogate pair.
        """
        checked_text("key", key)  # before the key joins a batch, so that only this caller fails
        return await self._batched_sizes(key)

    async def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Return the sizes of many files, as `size` does, in one call of a thread.

        Raises:
            TypeError: a key is not a str, or `keys` is a single str.
            ValueError: a key is empty or has half of a surrogate pair.
        """
        keys = checked_texts("keys", keys)
        return await anyio.to_thread.run_sync(self._sizes, keys, limiter=self._threads)

    def _sizes(self, keys: Sequence[str]) -> list[int | None]:
        return [_size(self.path(key)) for key in keys]

    async def remove(self, keys: Iterable[str]) -> Removal:
        """Remove the files of these keys, in one call of a thread.

        Returns:
            What happened to each file. A file that cannot be removed does not affect the others.

        Raises:
            TypeError: a key is not a str, or `keys` is a single str.
            ValueError: a key is empty or has half of a surrogate pair.
        """
        self._guard.check_open()
        keys = checked_texts("keys", keys)
        return await anyio.to_thread.run_sync(self._remove, keys, limiter=self._threads)

    def _remove(self, keys: Iterable[str]) -> Removal:
        removal = Removal({}, {})
        for key in keys:
            path = self.path(key)
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                removal.freed[key] = 0
            except OSError as error:
                removal.failed[key] = error
            else:
                removal.freed[key] = size
        return removal

    @asynccontextmanager
    async def writing(self, key: str) -> AsyncGenerator[Path, None]:
        """Write the whole file of a key, or leave it unchanged.

        Yields the path of a temporary file. When the block ends, this file replaces the key's
        file; when the block raises or is cancelled, it is removed. The file is not synced to the
        disk: after a power failure it may be empty.

        Args:
            key: the artifact's key.

        Yields:
            The path of an empty file.

        Raises:
            TypeError: the key is not a str.
            ValueError: the key is empty or has half of a surrogate pair.
            OSError: a file cannot be created or moved.
            trio.ClosedResourceError: the cache is closed, or was closed during the block; the
                temporary file is removed.
        """
        self._guard.check_open()
        checked_text("key", key)
        part = await anyio.to_thread.run_sync(self._start, limiter=self._threads)
        try:
            yield part
            self._guard.check_open()
            await anyio.to_thread.run_sync(self._finish, part, key, limiter=self._threads)
        except BaseException:
            with trio.move_on_after(_CLEANUP_TIMEOUT, shield=True):
                await anyio.to_thread.run_sync(_discard, part, limiter=self._threads)
            raise

    def _start(self) -> Path:
        handle, name = tempfile.mkstemp(dir=self._partial)
        os.close(handle)
        return Path(name)

    def _finish(self, part: Path, key: str) -> None:
        path = self.path(key)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        part.replace(path)

    async def disk_usage(self) -> Usage:
        """Return the usage of the disk as `df` shows it, without the blocks reserved for root.

        Raises:
            OSError: the file system does not report its usage.
        """
        usage = await anyio.to_thread.run_sync(
            shutil.disk_usage, self._directory, limiter=self._threads
        )
        return Usage(usage.used, usage.used + usage.free)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _discard(part: Path) -> None:
    with suppress(FileNotFoundError):
        part.unlink()
