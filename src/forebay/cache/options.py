"""`CacheOptions`: how much a cache keeps, and how often its workers run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from forebay import OptionRange, Options, OptionsError, RetryPolicy
from forebay.cache._arguments import MAX_INTEGER, MAX_TIME

_LONGEST_DELAY = MAX_TIME // 2_000_000
"""The longest delay of a retry, in seconds. It is half of `MAX_TIME`, which is in microseconds."""


_SIZE = OptionRange("a whole number from 0 to 2**63 - 1", lambda n: 0 <= n <= MAX_INTEGER)
_COUNT = OptionRange("a whole number from 1 to 2**63 - 1", lambda n: 1 <= n <= MAX_INTEGER)
_INTERVAL = OptionRange("a number of seconds above 0, or infinity", lambda s: s > 0)
_TIMEOUT = OptionRange("a finite number of seconds of at least 0", lambda s: 0 <= s < math.inf)
_FRACTION = OptionRange("a fraction from 0 to 1", lambda part: 0 <= part <= 1)
_RETRY = OptionRange(
    f"a RetryPolicy with a max_delay of at most {_LONGEST_DELAY:.0f} seconds",
    lambda policy: policy.max_delay <= _LONGEST_DELAY,
)


_TRANSFER_RETRY = RetryPolicy(initial_delay=10.0, multiplier=4.0, max_delay=6 * 3600.0)
_TRANSFER_BACKOFF = RetryPolicy(initial_delay=5.0, max_delay=300.0)


@dataclass(frozen=True, kw_only=True)
class CacheOptions(Options):
    """The options of a cache, checked on construction. Durations are in seconds.

    Attributes:
        memory_bytes: the memory for the values that `KeyValueStore.get` keeps, in bytes; at least
            0, which keeps none.
        time_to_live: how long a value is kept in memory after it was written or read from the
            database; above 0.
        touch_interval: the shortest time between two recorded accesses of a key, of values and of
            artifacts alike; at least 0, and finite.
        known_artifacts: how many artifacts' rows are kept in memory, about 1 KB each, so that
            opening such an artifact does not read the database; at least 1.
        key_value_max_age: how long a value of `KeyValueStore` is kept after its last recorded
            access; above `touch_interval`. `math.inf` means forever.
        key_value_budget_bytes: the total size of all values of `KeyValueStore`, in bytes; at least
            1. None means no limit.
        budget_bytes: the total size of all artifacts, in bytes; at least 1. None: the usage of
            the disk counts instead.
        high_watermark: the fraction of a budget, or of the disk, from which artifacts and values
            are evicted; above `target` and at most 1.
        target: the fraction down to which they are evicted; at least 0.
        eviction_interval: the pause between two checks of the usage; above 0. With `math.inf`,
            only `Evictor.run_once` and `KeyValueEvictor.run_once` evict, and only
            `DatabaseVacuum.run_once` shrinks the database.
        transfer_interval: the pause between two runs of the transfer worker; above 0. With
            `math.inf`, it runs only by `TransferWorker.run_once`.
        transfer_batch: how many transfers are read from the table at a time; at least 1.
        transfer_concurrency: how many transfers are in progress at once; at least 1.
        transfer_attempts: after how many failed attempts a transfer is dropped; at least 1.
        transfer_retry: the delay after the first, second, … failed attempt of a transfer. With
            the defaults, a transfer is dropped about 5 to 10 hours after its first failure. Its
            `max_attempts` is ignored, since `transfer_attempts` is the limit.
        transfer_timeout: the time limit of one attempt; above 0. `math.inf` means no limit.
        read_through_timeout: how long a reader waits for an artifact that has to be fetched from
            the object storage; above 0, and at most `math.inf`.
        transfer_backoff: by how much the pause grows after the first, second, … run in a row that
            the storage ended without any transfer done. Its `max_attempts` is ignored, since
            these transfers stay queued until they are done.
        stop_timeout: how long the transfers in progress may take to end when the cache is closed;
            at least 0, and finite.

    Raises:
        OptionsError: a value is of the wrong type or out of its range.
    """

    memory_bytes: Annotated[int, _SIZE] = 64 * 2**20
    time_to_live: Annotated[float, _INTERVAL] = 7 * 24 * 3600.0
    touch_interval: Annotated[float, _TIMEOUT] = 60.0
    key_value_max_age: Annotated[float, _INTERVAL] = 30 * 24 * 3600.0
    key_value_budget_bytes: Annotated[int, _COUNT] | None = None
    known_artifacts: Annotated[int, _COUNT] = 65_536
    budget_bytes: Annotated[int, _COUNT] | None = None
    high_watermark: Annotated[float, _FRACTION] = 0.85
    target: Annotated[float, _FRACTION] = 0.75
    eviction_interval: Annotated[float, _INTERVAL] = 60.0
    transfer_interval: Annotated[float, _INTERVAL] = 5.0
    transfer_batch: Annotated[int, _COUNT] = 500
    transfer_concurrency: Annotated[int, _COUNT] = 50
    transfer_attempts: Annotated[int, _COUNT] = 8
    transfer_retry: Annotated[RetryPolicy, _RETRY] = _TRANSFER_RETRY
    transfer_timeout: Annotated[float, _INTERVAL] = 300.0
    read_through_timeout: Annotated[float, _INTERVAL] = 30.0
    transfer_backoff: Annotated[RetryPolicy, _RETRY] = _TRANSFER_BACKOFF
    stop_timeout: Annotated[float, _TIMEOUT] = 30.0

    def __post_init__(self) -> None:
        """Check each value by the annotation of its field, and those that depend on another."""
        super().__post_init__()
        if self.key_value_max_age <= self.touch_interval:
            raise OptionsError(
                f"key_value_max_age = {self.key_value_max_age!r}: expected a number of seconds "
                f"above touch_interval, which is {self.touch_interval!r}, since accesses within "
                f"it are not recorded"
            )
        if self.target >= self.high_watermark:
            raise OptionsError(
                f"high_watermark = {self.high_watermark!r}: expected a fraction above target, "
                f"which is {self.target!r}"
            )
