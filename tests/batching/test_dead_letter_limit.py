"""The limit on dead letters adds up those of the last minute."""

from __future__ import annotations

import math

from forebay._batching.dead_letter_limit import DeadLetterLimit


def test_dead_letters_add_up_within_a_minute() -> None:
    """Those of each flush take from the limit until 60 seconds have passed."""
    limit = DeadLetterLimit(10)
    assert 10 == limit.remaining(0.0)
    limit.record(2, 0.0)
    limit.record(0, 10.0)
    limit.record(3, 30.0)
    assert [5, 5, 7, 7, 10] == [limit.remaining(now) for now in (30.0, 59.9, 60.0, 89.9, 90.0)]


def test_more_dead_letters_than_the_limit() -> None:
    """Nothing remains, until the first ones are a minute old."""
    limit = DeadLetterLimit(1)
    limit.record(1, 0.0)
    limit.record(1, 1.0)
    assert [-1, 0, 1] == [limit.remaining(now) for now in (1.0, 60.0, 61.0)]


def test_without_a_limit() -> None:
    """Any number may follow."""
    limit = DeadLetterLimit(None)
    limit.record(10**9, 0.0)
    assert math.inf == limit.remaining(0.0)
