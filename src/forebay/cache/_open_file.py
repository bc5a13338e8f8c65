"""`OpenFile`: the file of an artifact, open for reading. Its functions access the disk."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from forebay.cache._folder import open_file, opened_folder

_SMALL: Final = 64 * 1024
"""Up to how many bytes a file is read when it is opened."""


class FileStatus(NamedTuple):
    """What the file system, or a caller, knows of a file."""

    size: int | None
    """None: there is no file."""
    modified_ns: int | None
    """None: it is not known."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that is open for reading, with its size and modification time."""

    file: io.FileIO
    size: int
    modified_ns: int
    content: bytes | None
    """The whole content, if it was asked for and has at most 64 KiB."""

    @property
    def status(self) -> FileStatus:
        """The size and the modification time."""
        return FileStatus(self.size, self.modified_ns)

    @classmethod
    def open(cls, subfolder: Path, name: str, *, with_content: bool) -> OpenFile | None:
        """Open a file in a subfolder of the folder of the artifacts.

        Args:
            subfolder: the subfolder.
            name: the name of the file.
            with_content: whether to read a small file.

        Returns:
            The file, or None if there is no regular file of this name.

        Raises:
            OSError: the file cannot be opened or read.
        """
        try:
            with (
                opened_folder(subfolder.parent) as parent,
                opened_folder(subfolder, parent=parent) as folder,
            ):
                opened = open_file(name, folder=folder)
        except FileNotFoundError:
            return None
        if opened is None:
            return None
        descriptor, status = opened
        file = io.FileIO(descriptor)
        content = None
        try:
            if with_content and status.st_size <= _SMALL:
                content = os.pread(descriptor, status.st_size, 0)
        except BaseException:
            file.close()
            raise
        return cls(file, status.st_size, status.st_mtime_ns, content)

    def has_content(self, sha256: str, modified_ns: int) -> bool:
        """Return whether the file has this SHA-256.

        Args:
            sha256: the SHA-256, in hexadecimal digits.
            modified_ns: the modification time that the file gets if it has this SHA-256, in
                nanoseconds since 1970.

        Raises:
            OSError: the file cannot be read.
        """
        if hashlib.file_digest(self.file, "sha256").hexdigest() != sha256:
            return False
        self.file.seek(0)
        with suppress(OSError):  # the next reader compares the content again
            os.utime(self.file.fileno(), ns=(modified_ns, modified_ns))
        return True


def close(opened: OpenFile | None) -> None:
    """Close a file, if there is one."""
    if opened is not None:
        opened.file.close()
