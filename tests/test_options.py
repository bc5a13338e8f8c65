"""What each option takes, what it refuses and in which words, and how waits grow."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import BufferOptions, OptionsError, RetryPolicy

COUNT = "a whole number of at least 1"
PAUSE = "a finite number of seconds above 0"
TIMEOUT = "a finite number of seconds of at least 0"
INTERVAL = "a number of seconds of at least 0, or infinity"
FACTOR = "a finite number of at least 1"
FRACTION = "a number from 0 to 1"
NAMES = (
    "the names capacity, capacity_bytes, batch_size, flush_interval, drain_timeout, "
    "dead_letters_per_minute, retry"
)
RETRY_NAMES = "the names initial_delay, multiplier, max_delay, jitter, max_attempts"
BEYOND_FLOAT = 10**400


def test_the_defaults_are_the_documented_ones() -> None:
    """Options made without arguments have the values that the documentation gives."""
    options = BufferOptions()

    assert {
        "capacity": 100_000,
        "capacity_bytes": None,
        "batch_size": 20_000,
        "flush_interval": 0.2,
        "drain_timeout": 30.0,
        "dead_letters_per_minute": 1_000,
        "retry": {
            "initial_delay": 0.05,
            "multiplier": 2.0,
            "max_delay": 2.0,
            "jitter": 0.5,
            "max_attempts": None,
        },
    } == dataclasses.asdict(options)


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        (BufferOptions, "capacity", 1),
        (BufferOptions, "capacity_bytes", 1),
        (BufferOptions, "capacity_bytes", None),
        (BufferOptions, "batch_size", 1),
        (BufferOptions, "flush_interval", 0.0),
        (BufferOptions, "flush_interval", math.inf),
        (BufferOptions, "drain_timeout", 0.0),
        (BufferOptions, "retry", RetryPolicy(max_attempts=3)),
        (RetryPolicy, "initial_delay", 1e-9),
        (RetryPolicy, "multiplier", 1.0),
        (RetryPolicy, "max_delay", 1e-9),
        (RetryPolicy, "jitter", 0.0),
        (RetryPolicy, "jitter", 1.0),
        (RetryPolicy, "max_attempts", 1),
        (RetryPolicy, "max_attempts", None),
    ],
)
def test_a_value_at_the_edge_of_its_range_is_kept(
    group: type[Any], name: str, value: object
) -> None:
    """The ends of a range belong to it, and a value is kept as it was given."""
    assert value == getattr(group(**{name: value}), name)


@pytest.mark.parametrize(
    ("group", "name", "value", "expected"),
    [
        (BufferOptions, "capacity", 0, COUNT),
        (BufferOptions, "capacity", 10.0, COUNT),
        (BufferOptions, "capacity", True, COUNT),
        (BufferOptions, "capacity", None, COUNT),
        (BufferOptions, "capacity_bytes", 0, f"{COUNT}, or None"),
        (BufferOptions, "capacity_bytes", "none", f"{COUNT}, or None"),
        (BufferOptions, "batch_size", -5, COUNT),
        (BufferOptions, "batch_size", "20", COUNT),
        (BufferOptions, "flush_interval", -0.1, INTERVAL),
        (BufferOptions, "flush_interval", math.nan, INTERVAL),
        (BufferOptions, "flush_interval", "0.1", INTERVAL),
        (BufferOptions, "flush_interval", True, INTERVAL),
        (BufferOptions, "drain_timeout", -1, TIMEOUT),
        (BufferOptions, "drain_timeout", math.inf, TIMEOUT),
        (BufferOptions, "retry", {"max_delay": 5}, "a RetryPolicy, or a mapping of its options"),
        (BufferOptions, "retry", None, "a RetryPolicy, or a mapping of its options"),
        (RetryPolicy, "initial_delay", 0, PAUSE),
        (RetryPolicy, "initial_delay", math.nan, PAUSE),
        (RetryPolicy, "multiplier", 0.99, FACTOR),
        (RetryPolicy, "multiplier", math.inf, FACTOR),
        (RetryPolicy, "max_delay", 0.0, PAUSE),
        (RetryPolicy, "max_delay", math.inf, PAUSE),
        (RetryPolicy, "jitter", -0.01, FRACTION),
        (RetryPolicy, "jitter", 1.01, FRACTION),
        (RetryPolicy, "jitter", math.nan, FRACTION),
        (RetryPolicy, "max_attempts", 0, f"{COUNT}, or None"),
        (RetryPolicy, "max_attempts", math.inf, f"{COUNT}, or None"),
    ],
)
def test_a_wrong_value_is_refused(
    group: type[Any], name: str, value: object, expected: str
) -> None:
    """The error bears the option's name, the value, and what was expected."""
    with pytest.raises(OptionsError) as caught:
        group(**{name: value})

    assert f"{name} = {value!r}: expected {expected}" == str(caught.value)


def test_an_int_that_no_float_can_hold_is_refused() -> None:
    """An int beyond the floats is an option's error, not an OverflowError."""
    with pytest.raises(OptionsError, match=r"^drain_timeout = 1000.*: expected a finite number"):
        BufferOptions(drain_timeout=BEYOND_FLOAT)


def test_an_int_becomes_a_float_where_a_float_is_expected() -> None:
    """Whole seconds may be given as an int; the option holds a float."""
    options = BufferOptions(flush_interval=1, retry=RetryPolicy(max_delay=5))

    assert ("1.0", "5.0") == (repr(options.flush_interval), repr(options.retry.max_delay))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (BufferOptions(), 20_000),
        (BufferOptions(capacity=100), 100),
        (BufferOptions(capacity=100, batch_size=100), 100),
        (BufferOptions(capacity=100, batch_size=99), 99),
        (BufferOptions(capacity=100, batch_size=5_000), 100),
        (BufferOptions(capacity=100).override({"capacity": 50_000}), 20_000),
    ],
)
def test_a_batch_is_no_larger_than_the_capacity(options: BufferOptions, expected: int) -> None:
    """The smaller of batch size and capacity counts, and neither forgets what it was given."""
    assert expected == options.effective_batch_size


@pytest.mark.parametrize("options", [BufferOptions(), RetryPolicy()])
def test_options_do_not_change(options: Any) -> None:
    """Options are frozen, and equal options are one key of a dictionary."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.capacity = 5

    assert {options: 1} == {type(options)(): 1}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, BufferOptions(capacity=7, retry=RetryPolicy(jitter=0))),
        ({"capacity": 9}, BufferOptions(capacity=9, retry=RetryPolicy(jitter=0))),
        (
            {"retry": {"max_delay": 5}},
            BufferOptions(capacity=7, retry=RetryPolicy(jitter=0, max_delay=5)),
        ),
        (
            {"retry": RetryPolicy(max_delay=5)},
            BufferOptions(capacity=7, retry=RetryPolicy(max_delay=5)),
        ),
    ],
)
def test_an_override_changes_what_it_names(
    changes: dict[str, object], expected: BufferOptions
) -> None:
    """What an override does not name stays; a whole policy takes the place of the policy."""
    options = BufferOptions(capacity=7, retry=RetryPolicy(jitter=0))

    assert expected == options.override(changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"flush_intervall": 1},
            f"flush_intervall = 1: expected one of {NAMES} (did you mean flush_interval?)",
        ),
        ({"retry": {"tries": 3}}, f"retry.tries = 3: expected one of {RETRY_NAMES}"),
        ({3: 1}, "3 = 1: expected a name, not 3"),
        ({"retry": {"jitter": 2}}, "retry.jitter = 2: expected a number from 0 to 1"),
        ({"retry": 5}, "retry = 5: expected a RetryPolicy, or a mapping of its options"),
        ([], "options = []: expected a mapping from names"),
    ],
)
def test_a_wrong_override_is_refused(changes: Any, message: str) -> None:
    """The error bears the path of names to the option, and the closest name to an unknown one."""
    with pytest.raises(OptionsError) as caught:
        BufferOptions().override(changes)

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy(jitter=0), [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]),
        (RetryPolicy(jitter=0, multiplier=1), [0.05] * 8),
        (RetryPolicy(jitter=0, max_delay=0.01), [0.01] * 8),
    ],
)
def test_waits_grow_by_the_factor_up_to_the_longest(
    policy: RetryPolicy, expected: list[float]
) -> None:
    """Without jitter, each wait is exact: the first times a power of the factor, or the longest."""
    assert expected == pytest.approx([policy.delay(attempt, 0.9) for attempt in range(1, 9)])


@pytest.mark.parametrize(
    ("jitter", "random", "expected"), [(0.5, 0.0, 1.0), (0.5, 0.5, 0.75), (1.0, 0.75, 0.25)]
)
def test_jitter_is_the_part_of_a_wait_that_is_random(
    jitter: float, random: float, expected: float
) -> None:
    """A random number of 0 waits in full, one near 1 waits for the fixed part alone."""
    policy = RetryPolicy(initial_delay=1, jitter=jitter)

    assert expected == policy.delay(1, random)


@pytest.mark.parametrize(
    ("attempt", "random", "message"),
    [
        (0, 0.5, "attempt = 0: expected a count from 1 on"),
        (1, -0.1, "random = -0.1: expected at least 0 and less than 1"),
        (1, 1.0, "random = 1.0: expected at least 0 and less than 1"),
        (1, math.nan, "random = nan: expected at least 0 and less than 1"),
    ],
)
def test_a_wait_is_asked_for_with_an_attempt_and_a_random_number(
    attempt: int, random: float, message: str
) -> None:
    """Arguments out of their range are refused by name."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its message is compared whole
        RetryPolicy().delay(attempt, random)

    assert message == str(caught.value)


PAUSES = st.floats(1e-9, 1e9)
POLICIES = st.builds(
    RetryPolicy,
    initial_delay=PAUSES,
    multiplier=st.floats(1, 1e300),
    max_delay=PAUSES,
    jitter=st.floats(0, 1),
)
ATTEMPTS = st.integers(1, 10**300)
RANDOM = st.floats(0, 1, exclude_max=True)


@given(policy=POLICIES, attempts=st.lists(ATTEMPTS, min_size=2), random=RANDOM)
def test_waits_never_shrink_and_never_pass_the_longest(
    policy: RetryPolicy, attempts: list[int], random: float
) -> None:
    """For one random number, a later attempt waits as long or longer, however late it is."""
    waits = [policy.delay(attempt, random) for attempt in sorted(attempts)]

    assert sorted(waits) == waits
    assert 0 < waits[0] <= waits[-1] <= policy.max_delay


@given(policy=POLICIES, attempt=ATTEMPTS, random=RANDOM)
def test_jitter_only_shortens_a_wait(policy: RetryPolicy, attempt: int, random: float) -> None:
    """A wait is between the fixed part of the full wait and the full wait."""
    full = dataclasses.replace(policy, jitter=0).delay(attempt, random)

    assert full * (1 - policy.jitter) <= policy.delay(attempt, random) <= full
