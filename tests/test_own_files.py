"""Whether the disk has a file and its name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from forebay._own_files import sync_file, sync_folder


def test_a_file_that_cannot_be_synced_is_in_doubt(tmp_path: Path) -> None:
    """A pipe stands for a file system without sync. Other errors are raised."""
    with (tmp_path / "a").open("wb") as file:
        assert sync_file(file.fileno()) is None
    inward, outward = os.pipe()
    try:
        assert "its contents were not synced to the disk: Invalid argument" == sync_file(outward)
    finally:
        os.close(inward)
        os.close(outward)
    with pytest.raises(OSError, match="Bad file descriptor"):
        sync_file(outward)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a file system of Linux")
def test_a_name_that_cannot_be_synced_is_in_doubt(tmp_path: Path) -> None:
    """/proc stands for a file system whose folders cannot be synced."""
    for path, doubt in (
        (tmp_path, None),
        (Path("/proc"), "its name was not synced to the disk: Invalid argument"),
    ):
        folder = os.open(path, os.O_RDONLY)
        try:
            assert doubt == sync_folder(folder)
        finally:
            os.close(folder)
