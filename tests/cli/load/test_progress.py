"""How far a load has come, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from forebay.cli._load.progress import Bar, Lines, Silence, State, open_display

STATE = State(read=12_345, pending=678, position=50, seconds=10.0)


def test_elsewhere_a_line_tells_rows_rate_and_pending(capsys: pytest.CaptureFixture[str]) -> None:
    """Plain text on standard error, so that it can be kept in a log."""
    display = open_display(100, quiet=False)
    display.show(STATE)
    display.tell("told")
    display.warn("warned")
    display.close()
    assert isinstance(display, Lines)
    assert ("", "12,345 rows, 1,234 rows/s, 678 pending\ntold\nwarned\n") == capsys.readouterr()


def test_a_load_that_waits_says_for_what() -> None:
    """Whatever keeps the rows out of the table now."""
    state = State(read=5, pending=5, position=0, seconds=1.0, obstacle="SQLITE_BUSY: locked")
    assert "5 rows, 5 rows/s, 5 pending, waiting: SQLITE_BUSY: locked" == str(state)


def test_quiet_shows_what_is_wrong_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """--quiet hides how it goes."""
    display = open_display(100, quiet=True)
    display.show(STATE)
    display.tell("told")
    display.warn("warned")
    display.close()
    assert isinstance(display, Silence)
    assert ("", "warned\n") == capsys.readouterr()


def test_a_rate_needs_time() -> None:
    """At the very start there is no rate yet."""
    assert 0.0 == State(read=1, pending=0, position=0, seconds=0.0).rate


@pytest.mark.parametrize("total", [100, None])
def test_a_terminal_has_a_bar_with_rows_rate_and_pending(total: int | None) -> None:
    """It is drawn by `show` alone, and lines are printed above it as they are."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    display = Bar(console, total)
    display.show(STATE)
    *_, bar = file.getvalue().split("\r")
    assert "━" in bar
    assert " 12,345 rows, 1,234 rows/s, 678 pending" in bar
    display.tell("[bold]as it is[/bold] " + "long " * 30)
    assert "[bold]as it is[/bold] " + "long " * 30 in file.getvalue()
    display.close()
