"""What the tests of faults have in common: child programs, and what this machine lets one do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.harness import Zygote, mounted, why_no_mount, why_no_strace


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """What starts child programs."""
    with Zygote(tmp_path_factory.mktemp("children")) as zygote:
        yield zygote


@pytest.fixture(scope="session")
def _missing(
    zygote: Zygote, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str | None]:
    folder = tmp_path_factory.mktemp("probe")
    probes = {"strace": lambda: why_no_strace(zygote), "root": lambda: why_no_mount(folder)}
    return cache(lambda marker: probes[marker]())


@pytest.fixture(autouse=True)
def _able(request: pytest.FixtureRequest) -> None:
    """Skip a test that is marked with what this machine does not have."""
    for marker in ("strace", "root"):
        if request.node.get_closest_marker(marker):
            reason = request.getfixturevalue("_missing")(marker)
            if reason is not None:
                pytest.skip(f"{marker}: {reason}")


@pytest.fixture
def fast_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one, for tests that open hundreds of databases.

    Their faults are those of system calls, which a disk in memory has too.
    """
    memory = Path("/dev/shm")  # noqa: S108  # a folder of our own is made in it
    if not memory.is_dir():
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as folder:
        yield folder
