"""What happens to tests that need a program which this machine does not have."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

VARIABLE = "TESTS_REQUIRE"
"""The environment variable with markers, such as `clickhouse,strace`, of tests to execute."""


def skip(marker: str, reason: str) -> NoReturn:
    """Skip a test with a marker, or fail if the run must execute it, as the gate must."""
    if marker in os.environ.get(VARIABLE, "").split(","):
        pytest.fail(f"{VARIABLE} has {marker}, but {reason}", pytrace=False)
    pytest.skip(f"{marker}: {reason}")
