"""The view of `forebay top`: what fits terminals of different sizes."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from forebay.cli._top.client import Snapshot
from forebay.cli._top.columns import COLUMNS
from forebay.cli._top.history import History
from forebay.cli._top.view import draw
from tests.cli.top.conftest import IDLE


def history_of(names: list[str], **changes: Any) -> History:
    """Return a history of two snapshots, in which each buffer is fuller than the one before."""
    history = History()
    for time in (1.0, 2.0):
        buffers = {name: {**IDLE, "pending": n, **changes} for n, name in enumerate(names)}
        history.add(Snapshot(time, buffers))
    return history


def buffers(count: int, **changes: Any) -> History:
    return history_of([f"a_long_name_of_buffer_{n}" for n in range(count)], **changes)


def lines(
    history: History, width: int, height: int | None = None, path: str = "a.sock"
) -> list[str]:
    """Return the lines of the view as a terminal shows them."""
    console = Console(file=StringIO(), width=width)
    with console.capture() as capture:
        console.print(draw(path, history, width, height))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [1, 10, 20, 40, 60, 79, 80, 81, 90, 100, 120, 200])
def test_the_view_is_no_wider_than_the_terminal(width: int) -> None:
    """Columns that do not fit are left out; no heading and no figure is cut off."""
    drawn = lines(buffers(2), width)
    assert all(len(line) <= width for line in drawn)
    assert 7 == len(drawn) or width < 20
    if width >= 40:
        assert "pending" in drawn[2]
        assert "letters" in drawn[2]
        assert "…" not in "".join(line[20:] for line in drawn)


def test_all_columns_fit_a_terminal_of_eighty_columns() -> None:
    """Most terminals open with this width. The figures here are as long as they can be."""
    longest = {
        **dict.fromkeys(("pending", "committed", "accepted", "retries", "dead_lettered"), 99_999),
        **dict.fromkeys(("flush_p50", "flush_p99"), 0.0123),
        "oldest_age": 59_000.0,
    }
    [_, _, headings, row, *_] = lines(buffers(2, **longest), 80)
    assert 10 == len(headings.split()) == len(COLUMNS) + 1
    assert ["99,999", "0", "0", "0%", "12.3", "ms", "12.3", "ms", "99,999", "99,999", "983"] == (
        row.split()[1:-1]
    )
    assert 9 == len(lines(buffers(2), 79)[2].split())


def test_errors_are_below_the_table() -> None:
    """There is a line for each buffer that retries, as far as the height allows it."""
    history = buffers(3, last_error="SQLITE_BUSY: locked")
    drawn = lines(history, 80)
    assert 3 + 2 * 3 + 3 == len(drawn)
    assert "a_long_name_of_buffer_0 retries after SQLITE_BUSY: locked" == drawn[9].rstrip()
    assert 11 == len(lines(history, 80, height=11))
    assert 3 + 2 * 3 == len(lines(history, 80, height=9))
    assert 6 == len(lines(history, 80, height=6))
    assert 4 == len(lines(history, 80, height=2))
    assert 10 == len(lines(history, 30, height=10))
    assert "…" == lines(history, 30, height=10)[-1].rstrip()[-1]


def test_a_suspended_buffer_is_marked() -> None:
    """It has a mark before its name, in a terminal of any size, and its error comes first."""
    history = History()
    error = {"last_error": "SQLITE_ERROR: no such table: b"}
    for time in (1.0, 2.0):
        states = {
            "a": {**IDLE, "last_error": "SQLITE_BUSY: locked"},
            "b": {**IDLE, **error, "suspended": True},
        }
        history.add(Snapshot(time, states))
    drawn = lines(history, 80)
    assert ("a", "! b") == (drawn[3][:1], drawn[5][:3])
    assert [
        "b is suspended after SQLITE_ERROR: no such table: b",
        "a retries after SQLITE_BUSY: locked",
    ] == [line.rstrip() for line in drawn[7:]]
    assert ["! b"] == [line[:3] for line in lines(history, 20, height=5) if " b" in line]


def test_control_characters_are_escaped() -> None:
    """Neither a name, nor a path, nor an error sends a command to the terminal."""
    history = history_of(["a\x1b[2J\nb"], last_error="\x1b[2Jlocked")
    title, _, _, row, _, error = lines(history, 140, path="\x07.sock")
    assert ("\\x07.sock", "a\\x1b[2J\\nb") == (title.strip(), row.split()[0])
    assert error.rstrip().endswith("retries after \\x1b[2Jlocked")


def test_a_low_terminal_has_no_sparklines() -> None:
    """They are left out if two lines per buffer do not fit."""
    assert 3 + 2 * 8 == len(lines(buffers(8), 100, height=19))
    assert 3 + 8 == len(lines(buffers(8), 100, height=18))


def test_a_very_low_terminal_has_the_fullest_buffers() -> None:
    """The title says how many buffers are shown, and how many there are."""
    title, _, _, *rows = lines(buffers(64), 100, height=6)
    assert "a.sock: the 3 fullest of 64 buffers" == title.strip()
    assert ["61", "62", "63"] == [row.split()[1] for row in rows]


def test_names_are_not_interpreted_as_markup() -> None:
    """A name or a path may look like the markup of the library that draws the table."""
    names = ["[b]x[/b]", "a[/]b"]
    title, _, _, one, _, other, _ = lines(history_of(names), 100, path="[/].sock")
    assert ("[/].sock", *names) == (title.strip(), one.split()[0], other.split()[0])


def test_what_waits_in_a_spool_has_a_line_below_the_table() -> None:
    """Only for the buffers of which rows wait, and only if there is room."""
    history = history_of(["hits"], spool_entries=1_234, spool_oldest_age=90.0)
    assert "hits: 1,234 rows in the spool, the oldest for 90 s" == lines(history, 80)[-1].strip()
    assert not any("spool" in line for line in lines(history, 80, height=5))
    assert not any("spool" in line for line in lines(history_of(["hits"]), 80))
