"""The rows of a batch in the order of their keys."""

from __future__ import annotations

import random
from operator import itemgetter

import pytest

from forebay.stores.sqlite._sorting import sort_rows


@pytest.mark.parametrize("count", [0, 1, 2_499, 2_500, 2_501, 20_000])
@pytest.mark.parametrize("keys", ["random", "ascending", "descending", "few"])
def test_rows_are_in_the_order_of_their_keys_and_equal_keys_keep_theirs(
    count: int, keys: str
) -> None:
    numbers = list(range(count))
    if keys == "random":
        random.Random(1).shuffle(numbers)
    elif keys == "descending":
        numbers.reverse()
    elif keys == "few":
        numbers = [number % 7 for number in numbers]
    rows = [(f"{number:05}", position) for position, number in enumerate(numbers)]

    assert sort_rows(tuple(rows), itemgetter(0)) == sorted(rows)
    assert len(rows) == count
