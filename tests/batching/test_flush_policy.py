"""When a buffer flushes, and the reason that it publishes."""

from __future__ import annotations

import math

import pytest

from forebay import BufferOptions, FlushReason
from forebay._batching.flush_policy import BufferState, FlushPolicy

POLICY = FlushPolicy(batch_size=10, interval=5.0)


def reason(
    *,
    rows: int = 1,
    full: bool = False,
    requested: bool = False,
    closing: bool = False,
    oldest: float | None = 100.0,
    now: float = 100.0,
) -> str | None:
    """Return the published reason for which a buffer in this state flushes; None if it waits."""
    state = BufferState(rows, full, requested, closing, oldest)
    found = POLICY.flush_reason(state, now)
    return None if found is None else found.value


def test_the_published_reasons() -> None:
    """They are attribute values of metrics and spans, which dashboards and alerts name."""
    assert ["full", "interval", "requested", "drain"] == [reason.value for reason in FlushReason]


def test_an_empty_buffer_does_not_flush() -> None:
    """Whatever the rest of its state is."""
    assert None is reason(rows=0, full=True, requested=True, closing=True, oldest=None, now=1e9)


def test_a_full_batch_flushes() -> None:
    """From `batch_size` rows on."""
    assert [None, "full", "full"] == [reason(rows=rows) for rows in (9, 10, 11)]


def test_a_full_buffer_flushes() -> None:
    """The entries may be fewer than a batch."""
    assert "full" == reason(full=True)


def test_the_interval_is_that_of_the_oldest_entry() -> None:
    """The flush is due when the interval has passed, not before."""
    assert [None, "interval", "interval"] == [reason(now=now) for now in (104.9, 105.0, 106.0)]


@pytest.mark.parametrize("requested", [False, True])
@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("now", [100.0, 200.0])
def test_of_several_reasons_the_first_is_published(
    *, requested: bool, closing: bool, now: float
) -> None:
    """Full comes before drain, drain before requested, requested before the interval."""
    expected = (
        "drain" if closing else "requested" if requested else "interval" if now > 100 else None
    )
    assert expected == reason(requested=requested, closing=closing, now=now)
    assert "full" == reason(full=True, requested=requested, closing=closing, now=now)
    assert "full" == reason(rows=10, requested=requested, closing=closing, now=now)


def test_the_deadline_of_the_interval() -> None:
    """A buffer without entries waits without end."""
    assert (105.0, math.inf) == (POLICY.deadline(100.0), POLICY.deadline(None))


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        (BufferOptions(batch_size=7, flush_interval=0.5), FlushPolicy(7, 0.5)),
        (
            BufferOptions(batch_size=7, capacity=3, flush_interval=math.inf),
            FlushPolicy(3, math.inf),
        ),
    ],
)
def test_the_policy_of_options(options: BufferOptions, policy: FlushPolicy) -> None:
    """A batch is never larger than the capacity."""
    assert policy == FlushPolicy.from_options(options)
