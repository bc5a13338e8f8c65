"""The progress of a load, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from forebay.cli._load.bar import BarDisplay
from forebay.cli._load.progress import (
    LineDisplay,
    LoadState,
    QuietDisplay,
    open_display,
)

STATE = LoadState(read=12_345, pending=678, position=50, seconds=10.0)


def test_without_a_terminal_lines_show_rows_rate_and_pending(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are plain text on standard error, for a log."""
    display = open_display(100, quiet=False)
    display.show(STATE)
    display.note("noted")
    display.warn("warned")
    display.close()
    assert isinstance(display, LineDisplay)
    assert ("", "12,345 rows, 1,234 rows/s, 678 pending\nnoted\nwarned\n") == capsys.readouterr()


def test_a_load_shows_the_error_for_which_it_retries() -> None:
    """The rows are pending until the error is over."""
    state = LoadState(read=5, pending=5, position=0, seconds=1.0, last_error="SQLITE_BUSY: locked")
    assert "5 rows, 5 rows/s, 5 pending, retrying after SQLITE_BUSY: locked" == str(state)


def test_quiet_shows_problems_only(capsys: pytest.CaptureFixture[str]) -> None:
    """--quiet hides the progress."""
    display = open_display(100, quiet=True)
    display.show(STATE)
    display.note("noted")
    display.warn("warned")
    display.close()
    assert isinstance(display, QuietDisplay)
    assert ("", "warned\n") == capsys.readouterr()


def test_a_rate_needs_time() -> None:
    """At the start the rate is 0."""
    assert 0.0 == LoadState(read=1, pending=0, position=0, seconds=0.0).rate


@pytest.mark.parametrize("total", [100, None])
def test_a_terminal_has_a_bar_with_rows_rate_and_pending(total: int | None) -> None:
    """Only `show` draws it. Lines are printed above it, without rich's markup."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    display = BarDisplay(console, total)
    display.show(STATE)
    *_, bar = file.getvalue().split("\r")
    assert "━" in bar
    assert " 12,345 rows, 1,234 rows/s, 678 pending" in bar
    display.note("[bold]no markup[/bold] " + "long " * 30)
    assert "[bold]no markup[/bold] " + "long " * 30 in file.getvalue()
    display.close()
