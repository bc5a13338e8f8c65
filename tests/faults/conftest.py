"""Folders on special disks, for the tests of faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.harness import mounted


@pytest.fixture
def fast_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if the system has one, for tests that open hundreds of databases.

    They inject failures of system calls, which do not depend on the kind of disk.
    """
    memory = Path("/dev/shm")  # noqa: S108  # the test makes a new folder in it
    if not memory.is_dir():
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as folder:
        yield folder


@pytest.fixture
def sticky() -> Iterator[Path]:
    """A folder in which all users may create files, but remove only their own, as `/tmp`."""
    with TemporaryDirectory() as temporary:
        outer = Path(temporary)
        outer.chmod(0o755)
        sticky = outer / "sticky"
        sticky.mkdir()
        sticky.chmod(0o1777)
        yield sticky


@pytest.fixture
def target() -> Iterator[Path]:
    """A file elsewhere that all users may write to."""
    with TemporaryDirectory() as temporary:
        Path(temporary).chmod(0o755)
        target = Path(temporary) / "target"
        target.write_text("precious")
        target.chmod(0o666)
        yield target
