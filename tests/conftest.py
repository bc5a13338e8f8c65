"""Settings of all tests: profiles of Hypothesis, skips if a program is missing, SIGINT."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from hypothesis import HealthCheck, settings

from tests.examples.build_cache.clients import why_no_clients, why_no_compilers
from tests.faults.harness import Zygote, why_no_mount, why_no_strace
from tests.required import skip
from tests.telemetry.collector import why_no_rotel
from tests.telemetry.prometheus import why_no_prometheus

# Without a deadline, since test machines are shared and a slow example is not a failure.
COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)

settings.register_profile(
    "fast", COMMON, max_examples=100, derandomize=os.environ.get("CI") is not None
)
settings.register_profile("long", COMMON, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# A shell starts background jobs with SIGINT ignored, which the programs of the tests would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Return the process that starts child programs."""
    with Zygote(tmp_path_factory.mktemp("children")) as zygote:
        yield zygote


@pytest.fixture(scope="session")
def _missing(request: pytest.FixtureRequest) -> Callable[[str], str | None]:
    """Return a function that returns why tests with a marker cannot run here, or None."""

    def probe(marker: str) -> str | None:
        match marker:
            case "strace":
                return why_no_strace(request.getfixturevalue("zygote"))
            case "root":
                folders: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
                return why_no_mount(folders.mktemp("probe"))
            case "rotel":
                return why_no_rotel()
            case "cacheclients":
                return why_no_clients()
            case "compilers":
                return why_no_compilers()
            case _:
                return why_no_prometheus()

    return cache(probe)


@pytest.fixture(autouse=True)
def _able(request: pytest.FixtureRequest) -> None:
    """Skip a test that needs something that this machine does not have."""
    for marker in ("strace", "root", "rotel", "prometheus", "compilers", "cacheclients"):
        if request.node.get_closest_marker(marker):
            reason = request.getfixturevalue("_missing")(marker)
            if reason is not None:
                skip(marker, reason)


@pytest.fixture
def _python_handles_sigint() -> Iterator[None]:
    """Set Python's handler of SIGINT, without which Trio raises no KeyboardInterrupt.

    A shell starts background jobs with SIGINT ignored.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
