"""Clients that npm and apt install build with the server of examples/build_cache.

`nox -s cache-clients` installs those of npm, and runs those of apt that are installed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.examples.build_cache.clients import (
    Build,
    bazel,
    fills_and_hits,
    gradle,
    moon,
    nx,
    rush,
    turborepo,
)

pytestmark = pytest.mark.cacheclients

OF_APT = [build for build in (bazel, gradle) if shutil.which(build.__name__)]


@pytest.mark.parametrize("build", [turborepo, nx, moon, rush, *OF_APT])
def test_a_build_is_shared_by_machines(build: Build, tmp_path: Path) -> None:
    """Results come from the cache on each new machine, unless they were evicted."""
    fills_and_hits(build, tmp_path)
