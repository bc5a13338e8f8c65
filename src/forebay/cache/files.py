"""`ArtifactFiles`: the artifacts' files on the local disk."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from forebay.cache._arguments import checked_text, checked_texts
from forebay.cache._disk_threads import DiskThreads
from forebay.cache._folder import file_status, make_folder, opened_folder, remove_file
from forebay.cache._open_file import OpenFile, close
from forebay.cache._partial_file import PARTIAL, PartialFile
from forebay.cache._upload import Upload
from forebay.cache._workers import CloseGuard

_log = logging.getLogger("forebay.cache")

SUBFOLDERS = 256
"""The number of subfolders of the other files."""

_SUBFOLDERS = [f"{number:02x}" for number in range(SUBFOLDERS)]
"""Their names: the first byte of the names of their files."""

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
        freed: the size of each removed file in bytes, by key; 0 if the file did not exist or was
            a symbolic link.
        failed: the errors of the files that could not be removed, by key.
    """

    freed: dict[str, int]
    failed: dict[str, OSError]


class ArtifactFiles:
    """A folder with one file per artifact.

    The name of a file is the SHA-256 of its key. So a key may have any length and any characters
    (a slash, two dots, a NUL); still no two keys share a file on any file system, and no file is
    outside the folder.

    Symbolic links are not followed, and folders of other users are not used. Only regular files
    count.

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
        self._partial = directory / PARTIAL
        self._subfolders = {name: directory / name for name in _SUBFOLDERS}
        self._threads = DiskThreads()

    def __repr__(self) -> str:
        return f"<forebay.cache.ArtifactFiles in {str(self._directory)!r}>"

    def guarded(self, guard: CloseGuard) -> ArtifactFiles:
        """Return these files with another guard, and with the same threads."""
        guarded = copy.copy(self)
        guarded._guard = guard  # noqa: SLF001  # a copy of this class
        return guarded

    async def prepare(self) -> None:
        """Create the folder, check its subfolders, and remove unfinished files of a crash.

        A file that cannot be removed is logged as a warning.

        Raises:
            OSError: the folder cannot be created or read. The folder or a subfolder is a symbolic
                link, or belongs to another user.
        """
        await self._threads.run(self._prepare)

    def _prepare(self) -> None:
        with suppress(FileExistsError):
            self._directory.mkdir(parents=True, mode=0o700)
        with opened_folder(self._directory) as parent:
            make_folder(self._partial, parent=parent)
            for name in _SUBFOLDERS:
                with suppress(FileNotFoundError), self._opened(name, parent):
                    pass
            with self._opened(PARTIAL, parent) as partial:
                for name in os.listdir(partial):  # noqa: PTH208  # Path takes no descriptor
                    try:
                        remove_file(name, folder=partial)
                    except OSError as error:
                        path = str(self._partial / name)
                        _log.warning("unfinished file %r cannot be removed: %s", path, error)

    @contextmanager
    def _opened(self, name: str, parent: int) -> Generator[int, None, None]:
        with opened_folder(self._directory / name, parent=parent) as folder:
            yield folder

    def path(self, key: str) -> Path:
        """Return the path of a key's file, whether the file exists or not.

        Raises:
            TypeError: the key is not a str.
            ValueError: the key is empty or has half of a surrogate pair.
        """
        subfolder, name = self.place_of(key)
        return subfolder / name

    def place_of(self, key: str) -> tuple[Path, str]:
        """Return the subfolder of a key's file, and the file's name, as `path` does."""
        name = _name(key)
        return self._subfolders[name[:2]], name

    def subfolders(self) -> list[int]:
        """Return the numbers of the `SUBFOLDERS` that exist; called in a thread.

        Raises:
            OSError: the folder cannot be read, is a symbolic link, or belongs to another user.
        """
        with opened_folder(self._directory) as folder:
            names = set(os.listdir(folder))  # noqa: PTH208  # Path takes no descriptor
        return [number for number, name in enumerate(_SUBFOLDERS) if name in names]

    @contextmanager
    def opened_subfolder(self, number: int) -> Generator[tuple[int, Path], None, None]:
        """Open one of the `SUBFOLDERS`, in the calling thread, for the duration of the block.

        Args:
            number: the first byte of the names of the subfolder's files.

        Yields:
            A descriptor of the subfolder, and its path.

        Raises:
            FileNotFoundError: the subfolder does not exist.
            OSError: the subfolder cannot be opened, is a symbolic link, or belongs to another
                user.
        """
        name = _SUBFOLDERS[number]
        with opened_folder(self._directory) as parent, self._opened(name, parent) as folder:
            yield folder, self._directory / name

    async def size(self, key: str) -> int | None:
        """Return the size of a key's file in bytes, or None if the file cannot be found.

        Tasks that call this at the same time share a call of a thread.

        Raises:
            TypeError: the key is not a str.
            ValueError: the key is empty or has half of a surrogate pair.
        """
        status = await self.status(key)
        return None if status is None else status.st_size

    async def status(self, key: str) -> os.stat_result | None:
        """Return the status of a key's file, or None if the file cannot be found.

        Tasks that call this at the same time share a call of a thread.

        Raises:
            TypeError: the key is not a str.
            ValueError: the key is empty or has half of a surrogate pair.
        """
        name = _name(key)
        return await self._threads.run_short(lambda: file_status(self._directory, name))

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
        return await self._threads.run(lambda: self._remove(keys))

    def _remove(self, keys: Iterable[str]) -> Removal:
        removal = Removal({}, {})
        for subfolder, names in _by_subfolder(keys).items():
            try:
                with (
                    opened_folder(self._directory) as parent,
                    self._opened(subfolder, parent) as folder,
                ):
                    self._remove_from(folder, names, removal)
            except FileNotFoundError:
                removal.freed.update(dict.fromkeys(names.values(), 0))
            except OSError as error:
                removal.failed.update(dict.fromkeys(names.values(), error))
        return removal

    def _remove_from(self, folder: int, names: Mapping[str, str], removal: Removal) -> None:
        for name, key in names.items():
            try:
                removal.freed[key] = remove_file(name, folder=folder)
            except FileNotFoundError:
                removal.freed[key] = 0
            except OSError as error:
                error.filename = str(self.path(key))
                removal.failed[key] = error

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
        partial = PartialFile(self._partial)
        await self._threads.run(lambda: os.close(partial.create()))
        try:
            yield partial.path
            self._guard.check_open()
            await self._threads.run(lambda: partial.move(*self.place_of(key)))
        except BaseException:
            with trio.move_on_after(_CLEANUP_TIMEOUT, shield=True):
                await self._threads.run(partial.discard)
            raise

    @asynccontextmanager
    async def scratch(self) -> AsyncGenerator[Path, None]:
        """Create a temporary file for the duration of the block.

        Yields:
            The path of an empty file, which is removed when the block ends.

        Raises:
            OSError: the file cannot be created.
        """
        partial = PartialFile(self._partial)
        await self._threads.run(lambda: os.close(partial.create()))
        try:
            yield partial.path
        finally:
            with trio.move_on_after(_CLEANUP_TIMEOUT, shield=True):
                await self._threads.run(partial.discard)

    async def chunks(self, path: Path) -> AsyncGenerator[bytes, None]:
        """Read a file that `scratch` created, in pieces of 1 MiB.

        Args:
            path: the file.

        Yields:
            The bytes of the file.

        Raises:
            OSError: the file cannot be read.
        """
        file = await self._threads.run(lambda: path.open("rb", buffering=0))
        with file:
            while chunk := await self._threads.run(lambda: file.read(2**20)):
                yield chunk

    def upload(self) -> Upload:
        """Return a new upload, whose content can become the file of a key."""
        return Upload(self._partial, self._threads)

    async def open(self, key: str, *, with_content: bool) -> OpenFile | None:
        """Open the file of a key for reading, in a call of a thread that concurrent tasks share.

        Args:
            key: the artifact's key.
            with_content: whether to read it as well, if it has at most 64 KiB.

        Returns:
            The file, or None if there is no regular file.

        Raises:
            TypeError: the key is not a str.
            ValueError: the key is empty or has half of a surrogate pair.
            OSError: the file cannot be opened.
        """
        place = self.place_of(key)
        return await self._threads.run_short(
            lambda: OpenFile.open(*place, with_content=with_content), close
        )

    async def has_content(self, file: OpenFile, sha256: str, modified_ns: int) -> bool:
        """Return whether an open file has this SHA-256, in one call of a thread.

        Args:
            file: the file.
            sha256: as for `OpenFile.has_content`.
            modified_ns: as for `OpenFile.has_content`.

        Raises:
            OSError: the file cannot be read.
        """
        return await self._threads.run(lambda: file.has_content(sha256, modified_ns))

    async def disk_usage(self) -> Usage:
        """Return the usage of the disk as `df` shows it, without the blocks reserved for root.

        Raises:
            OSError: the file system does not report its usage.
        """
        return await self._threads.run(self._disk_usage)

    def _disk_usage(self) -> Usage:
        with opened_folder(self._directory) as folder:
            usage = shutil.disk_usage(folder)
        return Usage(usage.used, usage.used + usage.free)


def _name(key: str) -> str:
    return hashlib.sha256(checked_text("key", key).encode()).hexdigest()


def _by_subfolder(keys: Iterable[str]) -> Mapping[str, dict[str, str]]:
    """Return the keys by the names of their files, and these by their subfolders."""
    subfolders: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for key in keys:
        name = _name(key)
        subfolders[name[:2]][name] = key
    return subfolders
