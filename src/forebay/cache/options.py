"""`CacheOptions`: how much a cache keeps, and how often its workers run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forebay import OptionsError, RetryPolicy
from forebay.cache._check import LARGEST, LATEST

_BACKOFF = RetryPolicy(initial_delay=5.0, max_delay=300.0)
_RETRY = RetryPolicy(initial_delay=10.0, multiplier=4.0, max_delay=6 * 3600.0)

_LONGEST_DELAY = LATEST // 2_000_000
"""In seconds; half of the longest, since jitter may add to a delay."""


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """The options of a cache, checked on construction. Durations are in seconds.

    Attributes:
        memory_bytes: how much memory the values kept for `KeyValueStore.get` may take, in bytes;
            at least 0, which keeps none.
        time_to_live: how long such a value is kept after it was written or read from the file;
            above 0.
        touch_interval: how long a read of a key marks no further access of it; at least 0.
        budget_bytes: how many bytes all artifacts together may have; at least 1. None for no
            such bound: then it is the fill of the disk they are on that counts.
        high_watermark: the part of the budget, or of the disk, from which artifacts are evicted;
            above `target` and at most 1.
        target: the part down to which they are then evicted; at least 0.
        eviction_interval: the pause between two looks at the fill; above 0. With `math.inf`,
            artifacts are evicted by `Evictor.run_once` only.
        transfer_interval: the pause between two runs of the transfer worker; above 0. With
            `math.inf`, it runs by `TransferWorker.run_once` only.
        transfer_batch: how many transfers are taken from the table at a time; at least 1.
        transfer_concurrency: how many of them are under way at once; at least 1.
        transfer_attempts: how often a transfer that fails is tried in all; at least 1.
        transfer_retry: how long such a transfer is put off: the delay after its first, its
            second… failure. With the defaults it is given up some 5 to 10 hours after the first.
            Its `max_attempts` means nothing here: it is `transfer_attempts`.
        transfer_timeout: how long one attempt may take; above 0.
        transfer_backoff: how much longer the pause is after runs that the storage turned away:
            the delay after the first, the second… in a row in which nothing was done. Its
            `max_attempts` means nothing here, since such transfers stay until they are done.
        stop_timeout: how long, when the cache is closed, the transfers under way may take to
            end; at least 0, and finite.

    Raises:
        OptionsError: a value is of the wrong type or out of its range.
    """

    memory_bytes: int = 64 * 2**20
    time_to_live: float = 7 * 24 * 3600.0
    touch_interval: float = 60.0
    budget_bytes: int | None = None
    high_watermark: float = 0.85
    target: float = 0.75
    eviction_interval: float = 60.0
    transfer_interval: float = 5.0
    transfer_batch: int = 500
    transfer_concurrency: int = 50
    transfer_attempts: int = 8
    transfer_retry: RetryPolicy = _RETRY
    transfer_timeout: float = 300.0
    transfer_backoff: RetryPolicy = _BACKOFF
    stop_timeout: float = 30.0

    def __post_init__(self) -> None:
        """Check the values."""
        number = (int, float)
        for name in ("time_to_live", "eviction_interval", "transfer_interval", "transfer_timeout"):
            self._check(name, number, "a number of seconds above 0, or infinity", lambda s: s > 0)
        self._check("touch_interval", number, "a number of seconds of at least 0", lambda s: s >= 0)
        self._check(
            "stop_timeout",
            number,
            "a finite number of seconds of at least 0",
            lambda s: 0 <= s < math.inf,
        )
        self._check(
            "memory_bytes",
            (int,),
            "a whole number from 0 to 2**63 - 1",
            lambda n: 0 <= n <= LARGEST,
        )
        positive = "a whole number from 1 to 2**63 - 1"
        for name in ("transfer_batch", "transfer_concurrency", "transfer_attempts"):
            self._check(name, (int,), positive, lambda n: 1 <= n <= LARGEST)
        if self.budget_bytes is not None:
            self._check("budget_bytes", (int,), f"{positive}, or None", lambda n: 1 <= n <= LARGEST)
        self._check("target", number, "a part, from 0 to 1", lambda part: 0 <= part <= 1)
        self._check(
            "high_watermark",
            number,
            f"a part above target ({self.target}) and at most 1",
            lambda part: self.target < part <= 1,
        )
        for name in ("transfer_retry", "transfer_backoff"):
            self._check(
                name,
                (RetryPolicy,),
                f"a RetryPolicy with a max_delay of at most {_LONGEST_DELAY:.0f} seconds",
                lambda policy: policy.max_delay <= _LONGEST_DELAY,
            )

    def _check(
        self, name: str, kinds: tuple[type, ...], expected: str, holds: Callable[[Any], bool]
    ) -> None:
        value = getattr(self, name)
        # NaN is in no range: no comparison with it holds. A bool is an int to Python alone.
        if isinstance(value, bool) or not isinstance(value, kinds) or not holds(value):
            raise OptionsError(f"{name} = {value!r}: expected {expected}")
