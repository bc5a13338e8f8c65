"""The artifacts' files: where they are, how large, how they come and go."""

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

from forebay.cache._check import checked_text, checked_texts
from forebay.cache._gate import Gate
from forebay.cache._together import Together

_log = logging.getLogger("forebay.cache")

FOLDERS = 256
"""How many folders the files are spread over."""

_THREADS = 8
"""Most threads that work on files at once."""

_CLEANUP_TIMEOUT = 10.0
"""How long, in seconds, the removal of an unfinished file may hold up a cancellation."""


@dataclass(frozen=True, slots=True)
class Fill:
    """How full something is, in bytes."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of files that were to be removed.

    Attributes:
        freed: the bytes that each key's file had; 0 where it was gone already.
        failed: why the others are still there, by key.
    """

    freed: dict[str, int]
    failed: dict[str, OSError]


class ArtifactFiles:
    """A folder with a file an artifact.

    A file's name is the SHA-256 of its key: a key may be of any length and have any character
    (a slash, two dots, a NUL), and still no two share a file, on any file system, and none is
    outside the folder.

    All calls of the file system are made in threads. Cancelled, a call still runs to its end.
    Once the cache is closed, `writing` and `remove` raise `trio.ClosedResourceError`.
    """

    def __init__(self, directory: Path, *, gate: Gate | None = None) -> None:
        """Name a folder; `prepare` creates it.

        Args:
            directory: the folder. It is for these files alone.
            gate: what closes to whoever adds files, or removes them.
        """
        self._directory = directory
        self._gate = gate or Gate()
        self._partial = directory / "partial"
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._ask_sizes: Together[str, int | None] = Together(self.sizes)

    def __repr__(self) -> str:
        return f"<forebay.cache.ArtifactFiles in {str(self._directory)!r}>"

    async def prepare(self) -> None:
        """Create the folder, and remove what a crash left unfinished in it.

        What cannot be removed there is left with a warning.

        Raises:
            OSError: the folder cannot be created, or written.
        """
        await anyio.to_thread.run_sync(self._prepare, limiter=self._threads)

    def _prepare(self) -> None:
        # Each by itself: the mode of those above the last would be the umask's.
        for folder in (self._directory, self._partial):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._partial.iterdir():
            try:
                left.unlink()
            except OSError as error:
                _log.warning("%r, left unfinished, cannot be removed: %s", str(left), error)

    def path(self, key: str) -> Path:
        """Tell where the file of a key is, or would be.

        Raises:
            TypeError: the key is no text.
            ValueError: it is empty, or has half of a surrogate pair.
        """
        digest = hashlib.sha256(checked_text("key", key).encode()).hexdigest()
        return self._directory / digest[:2] / digest

    def folders(self) -> list[Path]:
        """Name the folders that files may be in: by the first byte of their names, in order."""
        return [self._directory / f"{number:02x}" for number in range(FOLDERS)]

    async def size(self, key: str) -> int | None:
        """Tell how many bytes the file of a key has; None where there is no file to be seen.

        Tasks that ask at the same time share a call of a thread.

        Raises:
            TypeError: the key is no text.
            ValueError: it is empty, or has half of a surrogate pair.
        """
        checked_text("key", key)  # here: the others that share the call have done nothing wrong
        return await self._ask_sizes(key)

    async def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Tell the sizes of many files, as `size` does, in one call of a thread.

        Raises:
            TypeError: one of the keys is no text, or `keys` is a single text.
            ValueError: one is empty, or has half of a surrogate pair.
        """
        keys = checked_texts("keys", keys)
        return await anyio.to_thread.run_sync(self._sizes, keys, limiter=self._threads)

    def _sizes(self, keys: Sequence[str]) -> list[int | None]:
        return [_size(self.path(key)) for key in keys]

    async def remove(self, keys: Iterable[str]) -> Removal:
        """Remove the files of these keys, in one call of a thread.

        Returns:
            What became of each. That one cannot be removed does not keep the others.

        Raises:
            TypeError: one of the keys is no text, or `keys` is a single text.
            ValueError: one is empty, or has half of a surrogate pair.
        """
        self._gate.check()
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
        """Write the file of a key whole or not at all.

        Yields a path to write to. When the block ends, that file takes the place of the key's;
        when it raises or is cancelled, it is removed. Nothing is synced to the disk: a power cut
        may leave the file empty, as it may with any cache.

        Args:
            key: the artifact's key.

        Yields:
            The path of an empty file.

        Raises:
            TypeError: the key is no text.
            ValueError: it is empty, or has half of a surrogate pair.
            OSError: a file cannot be created, or not be moved into its place.
            trio.ClosedResourceError: the cache is closed, or was meanwhile; the file is removed.
        """
        self._gate.check()
        checked_text("key", key)
        part = await anyio.to_thread.run_sync(self._start, limiter=self._threads)
        try:
            yield part
            self._gate.check()
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

    async def disk(self) -> Fill:
        """Tell how full the disk is, as `df` does: without what is kept for the superuser.

        Raises:
            OSError: the file system does not tell.
        """
        usage = await anyio.to_thread.run_sync(
            shutil.disk_usage, self._directory, limiter=self._threads
        )
        return Fill(usage.used, usage.used + usage.free)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _discard(part: Path) -> None:
    with suppress(FileNotFoundError):
        part.unlink()
