"""The numbers that `forebay top` shows, and how it writes and draws them."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.cli._watch import COLUMNS, Snapshot, Watch, count, seconds, share, sparkline

NOTHING = {
    "accepted": 0,
    "committed": 0,
    "superseded": 0,
    "dead_lettered": 0,
    "pending": 0,
    "retries": 0,
    "oldest_age": 0.0,
    "flush_p50": 0.0,
    "flush_p99": 0.0,
    "last_error": None,
}


def snapshot(time: float, **changes: Any) -> Snapshot:
    return Snapshot(time, {"pairs": {**NOTHING, **changes}})


def shown(watch: Watch, width: int = 4) -> dict[str, list[str]]:
    """Give the two lines of each cell of the one buffer, by its heading."""
    [(name, cells)] = watch.rows(width)
    assert "pairs" == name
    assert [column.heading for column in COLUMNS] == list(cells)
    return {heading: cell.split("\n") for heading, cell in cells.items()}


def test_rates_are_of_the_time_between_snapshots() -> None:
    """By the program's own clock, whenever they arrive."""
    watch = Watch()
    watch.add(snapshot(10.0, accepted=100, committed=50))
    watch.add(snapshot(12.0, accepted=500, committed=150, superseded=300, pending=50))
    cells = shown(watch)
    assert ("200", "50", "75%", "50") == (
        cells["accepted /s"][0],
        cells["rows/s"][0],
        cells["super- seded"][0],
        cells["pending"][0],
    )


def test_the_state_is_that_of_the_last_snapshot() -> None:
    """Durations, retries, dead letters and the age are told as the program tells them."""
    watch = Watch()
    watch.add(snapshot(1.0))
    watch.add(
        snapshot(2.0, retries=3, dead_lettered=4, oldest_age=0.25, flush_p50=0.0012, flush_p99=2.0)
    )
    cells = shown(watch)
    names = ("retries", "dead letters", "oldest", "flush p50", "flush p99")
    assert ["3", "4", "0.25 s", "1.2 ms", "2 s"] == [cells[name][0] for name in names]


def test_one_snapshot_shows_nothing_yet() -> None:
    """A rate needs two."""
    watch = Watch()
    watch.add(snapshot(1.0))
    assert [] == list(watch.rows(4))


def test_each_number_has_its_course() -> None:
    """The last samples, oldest first, under the number."""
    watch = Watch()
    for time, pending in enumerate([0, 7, 0, 14, 7]):
        watch.add(snapshot(float(time), pending=pending))
    assert ["7", "▅▁█▅"] == shown(watch)["pending"]
    assert ["7", "█▅"] == shown(watch, width=2)["pending"]


def test_without_a_width_there_are_numbers_alone() -> None:
    """A small screen has no room for sparklines."""
    watch = Watch()
    watch.add(snapshot(1.0))
    watch.add(snapshot(2.0, pending=7))
    assert ["7"] == shown(watch, width=0)["pending"]


def test_the_fullest_are_those_with_most_pending() -> None:
    """As of the last sample."""
    watch = Watch()
    for time, pending in ((1.0, {}), (2.0, {"a": 9, "b": 1}), (3.0, {"a": 1, "b": 3, "c": 2})):
        buffers = {name: {**NOTHING, "pending": n} for name, n in pending.items()}
        watch.add(Snapshot(time, buffers))
    assert (3, {"b", "c"}) == (len(watch), watch.fullest(2))


@pytest.mark.parametrize(
    ("samples", "drawn"),
    [([], ""), ([0, 0], "▁▁"), ([1], "█"), ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█")],
)
def test_a_sparkline_goes_from_nothing_to_the_highest(samples: list[float], drawn: str) -> None:
    """Bars are of a height in proportion."""
    assert drawn == sparkline(samples, 8)


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
def test_numbers_are_short(value: float, text: str) -> None:
    """In some five characters, whatever their size."""
    assert text == count(value)


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
    ],
)
def test_times_are_short(value: float, text: str) -> None:
    """In milliseconds below a tenth of a second."""
    assert text == seconds(value)


def test_long_times_are_in_minutes() -> None:
    """From a thousand seconds on; from a thousand minutes on in hours."""
    assert ("999 s", "17 min") == (seconds(999.4), seconds(1020.0))
    assert ("999 min", "17 h") == (seconds(59_960.0), seconds(60_000.0))


def test_what_buffers_wait_for_is_of_the_last_snapshot() -> None:
    """None of those that wait for nothing."""
    watch = Watch()
    assert {} == watch.waiting()
    watch.add(snapshot(1.0, last_error="SQLITE_FULL: disk full"))
    assert {"pairs": "SQLITE_FULL: disk full"} == watch.waiting()
    watch.add(snapshot(2.0))
    assert {} == watch.waiting()


def test_shares_are_in_percent() -> None:
    """Without digits behind the point."""
    assert "67%" == share(2 / 3)
