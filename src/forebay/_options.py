"""The options of a buffer: `BufferOptions`, and `RetryPolicy` for the waits between attempts."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias, get_args

from forebay._option_rules import OptionRange, Options

COUNT = OptionRange("a whole number from 1 to 2**63 - 1", lambda n: 1 <= n < 2**63)
LIMIT = OptionRange("a whole number from 0 to 2**63 - 1", lambda n: 0 <= n < 2**63)
DELAY = OptionRange("a finite number of seconds above 0", lambda s: 0 < s < math.inf)
TIMEOUT = OptionRange("a finite number of seconds of at least 0", lambda s: 0 <= s < math.inf)
INTERVAL = OptionRange("a number of seconds of at least 0, or infinity", lambda s: s >= 0)
FACTOR = OptionRange("a finite number of at least 1", lambda f: 1 <= f < math.inf)
FRACTION = OptionRange("a number from 0 to 1", lambda f: 0 <= f <= 1)

# Not the module's generator: a program that seeds that one gets all its numbers.
JITTER: Final = random.Random()  # noqa: S311  # jitter is not a secret
"""The random numbers for `RetryPolicy.delay`."""

OnFailure: TypeAlias = Literal["stop", "suspend"]
ON_FAILURE = OptionRange('"stop" or "suspend"', lambda name: name in get_args(OnFailure))


@dataclass(frozen=True, kw_only=True)
class RetryPolicy(Options):
    """How long to wait between the attempts of a flush that a retry may complete.

    This is capped exponential backoff with jitter, after Marc Brooker, "Exponential Backoff And
    Jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/. Each wait
    is longer than the one before by a factor, up to a limit. A part of each wait is random, so
    that programs that wait for the same lock do not retry at the same moment. A `jitter` of 0.5 is
    "equal jitter" in the article, 1 is "full jitter".

    Attributes:
        initial_delay: the wait after the first attempt, in seconds; above 0.
        multiplier: the factor from one wait to the next; at least 1.
        max_delay: the longest wait, in seconds; above 0. It also limits the first wait, so it may
            be less than `initial_delay`.
        jitter: the fraction of each wait that is random, from 0 (every wait is exact) to 1.
        max_attempts: the number of attempts per batch, the first one included; at least 1, which
            means no retry. None means no limit.

    Raises:
        OptionsError: a value has the wrong type or is out of its range.
    """

    initial_delay: Annotated[float, DELAY] = 0.05
    multiplier: Annotated[float, FACTOR] = 2.0
    max_delay: Annotated[float, DELAY] = 2.0
    jitter: Annotated[float, FRACTION] = 0.5
    max_attempts: Annotated[int, COUNT] | None = None

    def delay(self, attempt: int, random: float) -> float:
        """Return how long to wait after a failed attempt.

        Args:
            attempt: the number of the failed attempt, counted from 1.
            random: a random number of at least 0 and below 1, as `random.random()` returns. With
                0 the wait has its full length; the larger the number, the shorter the wait.

        Returns:
            The wait in seconds, above 0 and at most `max_delay`.

        Raises:
            ValueError: an argument is out of its range.
        """
        if attempt < 1:
            raise ValueError(f"attempt = {attempt!r}: expected a whole number of at least 1")
        if not 0 <= random < 1:
            raise ValueError(f"random = {random!r}: expected at least 0 and less than 1")
        try:
            full = min(self.max_delay, self.initial_delay * self.multiplier ** (attempt - 1))
        except OverflowError:
            full = self.max_delay
        return full * (1 - self.jitter * random)


@dataclass(frozen=True, kw_only=True)
class BufferOptions(Options):
    """How many entries a buffer holds, when it flushes, and what it does if a flush fails.

    Attributes:
        capacity: the maximum number of pending entries, those of the flush in progress included;
            at least 1. While it is reached, `enqueue` waits.
        capacity_bytes: the maximum size of the pending entries in memory, in bytes; at least 1.
            None means no limit.
        batch_size: the maximum number of rows per transaction; at least 1. See
            `effective_batch_size` for a `capacity` that is smaller.
        flush_interval: how long the first pending entry waits for others that share its
            transaction, in seconds; at least 0. With `math.inf` the buffer flushes only when it
            is full, on request, and when it drains.
        drain_timeout: how long a closing buffer may take to settle its entries, in seconds; at
            least 0, and finite.
        dead_letters_per_minute: how many refused entries may become dead letters per minute. One
            more stops or suspends the buffer, since so many mean a fault of the program. At least
            0. None means no limit.
        on_failure: what happens if a flush fails and a retry cannot help: there is no such table
            or column, the database is read-only, the table refuses too many rows, or
            `retry.max_attempts` is reached. With `"stop"` the buffer stops, and its `open_buffers`
            block ends with a `FlushError`. With `"suspend"` the buffer keeps its entries, tries
            again every `retry.max_delay` seconds (60 s after too many refused rows), checks the
            table before each attempt, and goes on once somebody has removed the cause. Meanwhile
            producers wait once the buffer is full, and so do callers of `write` and `flush`. A
            drain makes one more attempt, then the block ends with a `FlushError`. A database that
            is lost, replaced or corrupt always stops the buffer.
        retry: the waits between attempts.

    Raises:
        OptionsError: a value has the wrong type or is out of its range.
    """

    capacity: Annotated[int, COUNT] = 100_000
    capacity_bytes: Annotated[int, COUNT] | None = None
    batch_size: Annotated[int, COUNT] = 20_000
    flush_interval: Annotated[float, INTERVAL] = 0.2
    drain_timeout: Annotated[float, TIMEOUT] = 30.0
    dead_letters_per_minute: Annotated[int, LIMIT] | None = 1_000
    on_failure: Annotated[OnFailure, ON_FAILURE] = "stop"
    retry: RetryPolicy = RetryPolicy()

    @property
    def effective_batch_size(self) -> int:
        """The number of rows that fills a batch, the smaller of `batch_size` and `capacity`.

        A buffer never holds more than `capacity` entries, so it could not fill a larger batch. A
        program that sets a small `capacity` need not set `batch_size`.
        """
        return min(self.batch_size, self.capacity)
