"""The valid values of each option, the errors for others, overrides, and the retry delays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import BufferOptions, OptionRange, Options, OptionsError, RetryPolicy, Settings

COUNT = "a whole number from 1 to 2**63 - 1"
PAUSE = "a finite number of seconds above 0"
TIMEOUT = "a finite number of seconds of at least 0"
INTERVAL = "a number of seconds of at least 0, or infinity"
FACTOR = "a finite number of at least 1"
FRACTION = "a number from 0 to 1"
NAMES = (
    "the names capacity, capacity_bytes, batch_size, flush_interval, drain_timeout, "
    "dead_letters_per_minute, on_failure, retry"
)
RETRY_NAMES = "the names initial_delay, multiplier, max_delay, jitter, max_attempts"
BEYOND_FLOAT = 10**400
BEYOND_TEXT = 10**5000
HIGHEST = r"a whole number from 1 to 2\*\*63 - 1"


def rows_of_the_page() -> Iterator[list[str]]:
    """Yield the name, the default and the variable of each option, from docs/options.md."""
    text = (Path(__file__).parent.parent / "docs" / "options.md").read_text()
    table = text[text.index("| name | default | environment variable |") :].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip('`"') for cell in line.strip("| ").split(" | ")[:3]]


def test_the_documented_options() -> None:
    """The page lists every option in order, with its default and its environment variable."""
    values: dict[str, object] = dataclasses.asdict(BufferOptions())
    retry = values.pop("retry")
    assert isinstance(retry, dict)
    values |= {f"retry.{name}": value for name, value in retry.items()}
    expected = [
        [
            name,
            f"{value:,}" if isinstance(value, int) else str(value),
            "FOREBAY_" + name.upper().replace(".", "__"),
        ]
        for name, value in values.items()
    ]
    assert expected == list(rows_of_the_page())
    variables = {variable: value.replace(",", "") for _, value, variable in rows_of_the_page()}
    assert BufferOptions() == Settings.from_env(variables).options


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
        (BufferOptions, "on_failure", "stop"),
        (BufferOptions, "on_failure", "suspend"),
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
def test_the_limits_of_a_range_are_valid(group: type[Any], name: str, value: object) -> None:
    """A valid value is stored unchanged."""
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
        (BufferOptions, "on_failure", "Suspend", '"stop" or "suspend"'),
        (BufferOptions, "on_failure", None, '"stop" or "suspend"'),
        (BufferOptions, "on_failure", True, '"stop" or "suspend"'),
        (BufferOptions, "on_failure", ["stop"], '"stop" or "suspend"'),
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
def test_an_invalid_value_is_refused(
    group: type[Any], name: str, value: object, expected: str
) -> None:
    """The error contains the option's name, the value, and the valid values."""
    with pytest.raises(OptionsError) as caught:
        group(**{name: value})

    assert f"{name} = {value!r}: expected {expected}" == str(caught.value)


@pytest.mark.parametrize("name", ["capacity", "capacity_bytes", "batch_size"])
def test_a_count_fits_into_64_bits(name: str) -> None:
    """Telemetry publishes it, and its protocol has integers of 64 bits."""
    assert 2**63 - 1 == getattr(BufferOptions().override({name: 2**63 - 1}), name)
    with pytest.raises(OptionsError, match=rf"^{name} = 9223372036854775808: expected {HIGHEST}"):
        BufferOptions().override({name: 2**63})


def test_an_int_that_is_too_large_for_a_float_is_refused() -> None:
    """It raises an OptionsError, not an OverflowError."""
    with pytest.raises(OptionsError, match=r"^drain_timeout = 1000.*: expected a finite number"):
        BufferOptions(drain_timeout=BEYOND_FLOAT)


@pytest.mark.parametrize(
    "changes",
    [
        {"capacity": BEYOND_TEXT},
        {"flush_interval": BEYOND_TEXT},
        {"capacity": [BEYOND_TEXT]},
        {"retry": BEYOND_TEXT},
        {"retry": {"max_delay": BEYOND_TEXT}},
        {BEYOND_TEXT: 1},
    ],
)
def test_an_int_that_python_converts_to_no_text_is_refused(changes: Any) -> None:
    """The error has its size instead of its digits."""
    with pytest.raises(OptionsError, match=r"<an integer of 16,610 bits>"):
        BufferOptions().override(changes)


@pytest.mark.parametrize("name", ["a" * 1_000_000, "a\x1b[31m", "a\nb", "\u202e"])
def test_a_name_is_shortened_and_escaped_in_an_error(name: str) -> None:
    """The error fits in a line, and its text cannot control a terminal."""
    with pytest.raises(OptionsError) as caught:
        BufferOptions().override({"retry": {name: 1}})
    text = str(caught.value)
    assert text.startswith("retry.'")
    assert text.isprintable()
    assert len(text) < 300


NO_JITTER = RetryPolicy(jitter=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerOptions(Options):
    port: Annotated[int, OptionRange("a port from 1 to 65535", lambda n: 1 <= n <= 65535)] = 8080
    timeout: Annotated[float, OptionRange("seconds above 0", lambda s: s > 0)] | None = None
    retry: RetryPolicy = NO_JITTER


def test_a_program_defines_options_of_its_own() -> None:
    """A subclass of `Options` is checked and overridden by its annotations."""
    options = ServerOptions(timeout=1).override({"retry": {"max_delay": 5}, "port": 1})

    retry = RetryPolicy(jitter=0, max_delay=5)
    assert ServerOptions(port=1, timeout=1.0, retry=retry) == options
    with pytest.raises(OptionsError, match=r"^port = 0: expected a port from 1 to 65535$"):
        ServerOptions(port=0)
    with pytest.raises(OptionsError, match=r"^timeout = 0: expected seconds above 0, or None$"):
        ServerOptions(timeout=0)


def test_an_int_becomes_a_float_where_a_float_is_expected() -> None:
    """A number of seconds may be an int; the option stores a float."""
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
def test_effective_batch_size(options: BufferOptions, expected: int) -> None:
    """It is the smaller of batch size and capacity; the options themselves stay unchanged."""
    assert expected == options.effective_batch_size


@pytest.mark.parametrize("options", [BufferOptions(), RetryPolicy()])
def test_options_are_immutable(options: Any) -> None:
    """Options are frozen, and equal options have the same hash."""
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
def test_an_override_changes_only_the_options_that_it_names(
    changes: dict[str, object], expected: BufferOptions
) -> None:
    """A mapping changes single options of the retry policy, a `RetryPolicy` replaces it."""
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
        ({3: 1}, "3 = 1: expected a name as the key, not 3"),
        ({"retry": {"jitter": 2}}, "retry.jitter = 2: expected a number from 0 to 1"),
        ({"retry": 5}, "retry = 5: expected a RetryPolicy, or a mapping of its options"),
        ([], "options = []: expected a mapping with names as its keys"),
    ],
)
def test_an_invalid_override_is_refused(changes: Any, message: str) -> None:
    """The error contains the path of the option, and the name closest to an unknown one."""
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
def test_delays_without_jitter(policy: RetryPolicy, expected: list[float]) -> None:
    """Each delay is the one before times the multiplier, up to the longest delay."""
    assert expected == pytest.approx([policy.delay(attempt, 0.9) for attempt in range(1, 9)])


@pytest.mark.parametrize(
    ("jitter", "random", "expected"), [(0.5, 0.0, 1.0), (0.5, 0.5, 0.75), (1.0, 0.75, 0.25)]
)
def test_jitter_is_the_random_fraction_of_a_delay(
    jitter: float, random: float, expected: float
) -> None:
    """The random number 0 means the full delay; close to 1, only the fixed part is left."""
    policy = RetryPolicy(initial_delay=1, jitter=jitter)

    assert expected == policy.delay(1, random)


@pytest.mark.parametrize(
    ("attempt", "random", "message"),
    [
        (0, 0.5, "attempt = 0: expected a whole number of at least 1"),
        (1, -0.1, "random = -0.1: expected at least 0 and less than 1"),
        (1, 1.0, "random = 1.0: expected at least 0 and less than 1"),
        (1, math.nan, "random = nan: expected at least 0 and less than 1"),
    ],
)
def test_invalid_arguments_of_delay_are_refused(attempt: int, random: float, message: str) -> None:
    """The error names the argument and its range."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole message is compared
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
def test_delays_grow_up_to_the_longest(
    policy: RetryPolicy, attempts: list[int], random: float
) -> None:
    """With the same random number, the delay after a later attempt is never shorter."""
    delays = [policy.delay(attempt, random) for attempt in sorted(attempts)]

    assert sorted(delays) == delays
    assert 0 < delays[0] <= delays[-1] <= policy.max_delay


@given(policy=POLICIES, attempt=ATTEMPTS, random=RANDOM)
def test_jitter_only_shortens_a_delay(policy: RetryPolicy, attempt: int, random: float) -> None:
    """A delay is at least its fixed part and at most the delay without jitter."""
    full = dataclasses.replace(policy, jitter=0).delay(attempt, random)

    assert full * (1 - policy.jitter) <= policy.delay(attempt, random) <= full
