"""The columns of `forebay top`: how figures are computed and formatted."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.cli._top.columns import COLUMNS, format_count, format_seconds, format_share
from tests.cli.top.conftest import IDLE


def figures(before: dict[str, Any], now: dict[str, Any], elapsed: float) -> dict[str, float]:
    """Return each column's figure by its heading, from two changes to an idle buffer."""
    return {
        column.heading: column.figure({**IDLE, **before}, {**IDLE, **now}, elapsed)
        for column in COLUMNS
    }


def test_rates_are_per_second_between_two_snapshots() -> None:
    """The superseded share is the share of the entries that settled between the two."""
    found = figures(
        {"accepted": 100, "committed": 50},
        {"accepted": 500, "committed": 150, "superseded": 300},
        2.0,
    )
    assert (200, 50, 0.75) == (found["accepted /s"], found["rows/s"], found["super- seded"])


def test_without_settled_entries_the_superseded_share_is_zero() -> None:
    """There is no division by zero."""
    assert 0.0 == figures({}, {"accepted": 5, "pending": 5}, 1.0)["super- seded"]


def test_other_figures_are_those_of_the_last_snapshot() -> None:
    """Pending entries, durations, retries, dead letters and the age are not compared."""
    now = {
        "pending": 50,
        "retries": 3,
        "dead_lettered": 4,
        "oldest_age": 0.25,
        "flush_p50": 0.0012,
        "flush_p99": 2.0,
    }
    found = figures({"retries": 2}, now, 1.0)
    headings = ("pending", "retries", "dead letters", "oldest", "flush p50", "flush p99")
    assert list(now.values()) == [found[heading] for heading in headings]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (99_999, "99,999"),
        (100_000, "100k"),
        (9_999_000, "9,999k"),
        (12_000_000, "12M"),
        (2e10, "20G"),
    ],
)
def test_counts_are_short(value: float, text: str) -> None:
    """A count of any size takes about five characters."""
    assert text == format_count(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ms"),
        (0.0000123, "0.01 ms"),
        (0.00123, "1.23 ms"),
        (0.05, "50 ms"),
        (0.0994, "99.4 ms"),
        (0.25, "0.25 s"),
        (12.34, "12.3 s"),
        (999.4, "999 s"),
        (1020.0, "17 min"),
        (59_960.0, "999 min"),
        (60_000.0, "17 h"),
    ],
)
def test_times_are_short(value: float, text: str) -> None:
    """Milliseconds are used below 0.1 s, minutes from 1,000 s, hours from 1,000 minutes."""
    assert text == format_seconds(value)


def test_shares_are_percentages() -> None:
    """A share has no decimal places."""
    assert "67%" == format_share(2 / 3)
