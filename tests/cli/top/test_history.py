"""The samples that `forebay top` keeps, and its sparklines."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.cli._top.client import Snapshot
from forebay.cli._top.columns import COLUMNS
from forebay.cli._top.history import History, sparkline
from tests.cli.top.conftest import IDLE


def snapshot(time: float, **changes: Any) -> Snapshot:
    return Snapshot(time, {"pairs": {**IDLE, **changes}})


def cells(history: History, width: int = 4) -> dict[str, list[str]]:
    """Return the lines of each cell of the only buffer, by the cell's heading."""
    [(name, texts)] = history.rows(width)
    assert "pairs" == name
    assert [column.heading for column in COLUMNS] == list(texts)
    return {heading: text.split("\n") for heading, text in texts.items()}


def test_rates_use_the_programs_clock() -> None:
    """The time between two snapshots is that of their clock, not of their arrival."""
    history = History()
    history.add(snapshot(10.0, accepted=100))
    history.add(snapshot(12.0, accepted=500))
    assert "200" == cells(history)["accepted /s"][0]


def test_one_snapshot_adds_no_sample() -> None:
    """A rate needs two snapshots."""
    history = History()
    history.add(snapshot(1.0))
    assert [] == list(history.rows(4))


def test_each_figure_has_a_sparkline_of_its_samples() -> None:
    """The last samples are below the figure, the oldest one first."""
    history = History()
    for time, pending in enumerate([0, 7, 0, 14, 7]):
        history.add(snapshot(float(time), pending=pending))
    assert ["7", "▅▁█▅"] == cells(history)["pending"]
    assert ["7", "█▅"] == cells(history, width=2)["pending"]


def test_a_width_of_zero_leaves_out_the_sparklines() -> None:
    """The cells have one line each."""
    history = History()
    history.add(snapshot(1.0))
    history.add(snapshot(2.0, pending=7))
    assert ["7"] == cells(history, width=0)["pending"]


def test_the_fullest_buffers_have_the_most_pending_entries() -> None:
    """The last sample decides."""
    history = History()
    for time, pending in ((1.0, {}), (2.0, {"a": 9, "b": 1}), (3.0, {"a": 1, "b": 3, "c": 2})):
        buffers = {name: {**IDLE, "pending": n} for name, n in pending.items()}
        history.add(Snapshot(time, buffers))
    assert (3, {"b", "c"}) == (len(history), history.fullest(2))


def test_the_suspended_buffers_are_those_of_the_last_snapshot() -> None:
    """There are none before the first snapshot."""
    history = History()
    assert set() == history.suspended()
    history.add(snapshot(1.0, suspended=True))
    assert {"pairs"} == history.suspended()
    history.add(snapshot(2.0))
    assert set() == history.suspended()


def test_the_last_errors_are_those_of_the_last_snapshot() -> None:
    """A buffer that does not retry a flush has no error."""
    history = History()
    assert {} == history.last_errors()
    history.add(snapshot(1.0, last_error="SQLITE_FULL: disk full"))
    assert {"pairs": "SQLITE_FULL: disk full"} == history.last_errors()
    history.add(snapshot(2.0))
    assert {} == history.last_errors()


@pytest.mark.parametrize(
    ("samples", "drawn"),
    [([], ""), ([0, 0], "▁▁"), ([1], "█"), ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█")],
)
def test_a_sparkline_is_scaled_to_its_largest_sample(samples: list[float], drawn: str) -> None:
    """The heights of the bars are proportional to the samples."""
    assert drawn == sparkline(samples, 8)
