"""What all tests have in common: how long Hypothesis searches."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# The machines that run this are shared: a slow example is no failure.
COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)

settings.register_profile(
    "fast", COMMON, max_examples=100, derandomize=os.environ.get("CI") is not None
)
settings.register_profile("long", COMMON, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
