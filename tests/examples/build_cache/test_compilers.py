"""ccache and sccache compile with the server of examples/build_cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.build_cache.clients import Build, ccache, fills_and_hits, sccache

pytestmark = pytest.mark.compilers


@pytest.mark.parametrize("build", [ccache, sccache])
def test_a_compiler_cache_is_shared_by_machines(build: Build, tmp_path: Path) -> None:
    """Objects come from the cache on each new machine, unless they were evicted."""
    fills_and_hits(build, tmp_path)
