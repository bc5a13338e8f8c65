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
    """A file in the subfolder `partial`. All methods access the disk: call them in a thread.

    Attributes:
        path: the path of the file, whose name nobody can guess.
    """

    def __init__(self, directory: Path) -> None:
        """Choose a name for the file, without creating it.

        Args:
            directory: the folder of the artifacts.
        """
        self._directory = directory
        self.path = directory / PARTIAL / secrets.token_hex(16)

    def create(self) -> int:
        """Create the file, empty, and return a descriptor to write to it.

        Raises:
            OSError: the file cannot be created.
        """
        with (
            opened_folder(self._directory) as parent,
            opened_folder(self.path.parent, parent=parent) as partial,
        ):
            return create_file(self.path.name, folder=partial)

    def move(self, path: Path) -> None:
        """Make it the file at a path in another subfolder, and replace the file that is there.

        Raises:
            OSError: the file cannot be moved.
        """
        with opened_folder(self._directory) as parent:
            make_folder(path.parent, parent=parent)
            with (
                opened_folder(self.path.parent, parent=parent) as partial,
                opened_folder(path.parent, parent=parent) as folder,
            ):
                os.replace(self.path.name, path.name, src_dir_fd=partial, dst_dir_fd=folder)

    def discard(self) -> None:
        """Remove the file if it exists.

        Raises:
            OSError: the file cannot be removed.
        """
        with (
            suppress(FileNotFoundError),
            opened_folder(self._directory) as parent,
            opened_folder(self.path.parent, parent=parent) as partial,
        ):
            remove_file(self.path.name, folder=partial)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes to a file."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
