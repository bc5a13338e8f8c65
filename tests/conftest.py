"""What all tests have in common: how long Hypothesis searches, and what this machine lacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from hypothesis import HealthCheck, settings

from tests.faults.harness import Zygote, why_no_mount, why_no_strace
from tests.telemetry.collector import why_no_rotel
from tests.telemetry.prometheus import why_no_prometheus

# The machines that run this are shared: a slow example is no failure.
COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)

settings.register_profile(
    "fast", COMMON, max_examples=100, derandomize=os.environ.get("CI") is not None
)
settings.register_profile("long", COMMON, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Starts child programs."""
    with Zygote(tmp_path_factory.mktemp("children")) as zygote:
        yield zygote


@pytest.fixture(scope="session")
def _missing(request: pytest.FixtureRequest) -> Callable[[str], str | None]:
    """Return what tells why a marked test cannot run here; None where it can."""

    def probe(marker: str) -> str | None:
        match marker:
            case "strace":
                return why_no_strace(request.getfixturevalue("zygote"))
            case "root":
                folders: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
                return why_no_mount(folders.mktemp("probe"))
            case "rotel":
                return why_no_rotel()
            case _:
                return why_no_prometheus()

    return cache(probe)


@pytest.fixture(autouse=True)
def _able(request: pytest.FixtureRequest) -> None:
    """Skip a test that is marked with something that this machine does not have."""
    for marker in ("strace", "root", "rotel", "prometheus"):
        if request.node.get_closest_marker(marker):
            reason = request.getfixturevalue("_missing")(marker)
            if reason is not None:
                pytest.skip(f"{marker}: {reason}")
