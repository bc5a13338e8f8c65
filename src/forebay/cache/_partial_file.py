"""`PartialFile`: a file that is being written, and becomes the file of an artifact."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from forebay.cache._folder import create_file, make_folder, opened_folder, remove_file

PARTIAL: Final = "partial"
"""The subfolder of files that are being written."""


class PartialFile:
    """A file in the subfolder `partial`. All methods access the disk: call them in a thread."""

    def __init__(self, folder: Path) -> None:
        """Choose a name that nobody can guess for the file, without creating it.

        Args:
            folder: the subfolder `partial` of the folder of the artifacts.
        """
        self._folder = folder
        self._name = secrets.token_hex(16)

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self._folder / self._name

    def create(self) -> int:
        """Create the file, empty, and return a descriptor to write to it.

        Raises:
            OSError: the file cannot be created.
        """
        with (
            opened_folder(self._folder.parent) as parent,
            opened_folder(self._folder, parent=parent) as partial,
        ):
            return create_file(self._name, folder=partial)

    def move(self, subfolder: Path, name: str) -> None:
        """Make it a file in another subfolder, and replace the file that is there.

        Raises:
            OSError: the file cannot be moved.
        """
        with (
            opened_folder(self._folder.parent) as parent,
            opened_folder(self._folder, parent=parent) as partial,
        ):
            self._move(parent, partial, subfolder, name)

    def _move(self, parent: int, partial: int, subfolder: Path, name: str) -> None:
        try:
            self._move_into(partial, parent, subfolder, name)
        except FileNotFoundError:  # the first file of this subfolder
            make_folder(subfolder, parent=parent)
            self._move_into(partial, parent, subfolder, name)

    def _move_into(self, partial: int, parent: int, subfolder: Path, name: str) -> None:
        with opened_folder(subfolder, parent=parent) as folder:
            os.replace(self._name, name, src_dir_fd=partial, dst_dir_fd=folder)

    def write(
        self, content: bytes | bytearray, modified_ns: int, subfolder: Path, name: str
    ) -> None:
        """Create the file with this content and modification time, and move it, in one call.

        Raises:
            OSError: the file cannot be written or moved. It does not exist then.
        """
        with (
            opened_folder(self._folder.parent) as parent,
            opened_folder(self._folder, parent=parent) as partial,
        ):
            descriptor = create_file(self._name, folder=partial)
            try:
                try:
                    write_all(descriptor, content)
                    os.utime(descriptor, ns=(modified_ns, modified_ns))
                finally:
                    os.close(descriptor)
                self._move(parent, partial, subfolder, name)
            except BaseException:
                with suppress(OSError):
                    os.unlink(self._name, dir_fd=partial)
                raise

    def discard(self) -> None:
        """Remove the file if it exists.

        Raises:
            OSError: the file cannot be removed.
        """
        with (
            suppress(FileNotFoundError),
            opened_folder(self._folder.parent) as parent,
            opened_folder(self._folder, parent=parent) as partial,
        ):
            remove_file(self._name, folder=partial)


def write_all(descriptor: int, data: bytes | bytearray) -> None:
    """Write all bytes to a file."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
