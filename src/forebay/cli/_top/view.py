"""The layout of `forebay top`: a table that fits the terminal, and messages below it."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from forebay.cli._output import printable
from forebay.cli._top.columns import COLUMNS, format_count, format_seconds
from forebay.cli._top.history import History

_NAME_WIDTH = 20
_MIN_NAME_WIDTH = 7
_FIGURE_WIDTH = 7
"""The length of the longest figure, in characters."""
_SPARKLINE_WIDTH = 12
"""The length of the longest sparkline, in characters."""
_HEAD_HEIGHT = 3
"""The lines of the title and the headings."""

FULL_WIDTH = 140
"""A width, in characters, in which every column and every sparkline fits."""

_DROP_ORDER = (
    "flush p50",
    "super- seded",
    "accepted /s",
    "retries",
    "rows/s",
    "flush p99",
    "oldest",
)
"""Headings of the columns that a narrow terminal leaves out, the least important one first."""


def draw(path: str, history: History, width: int, height: int | None = None) -> Group:
    """Return the view of the latest samples.

    A narrow terminal gets fewer columns. A low one gets no sparklines, or only the fullest buffers.

    Args:
        path: the socket, for the title.
        history: the samples.
        width: the width of the terminal, in characters.
        height: its height, in lines; None if it is unlimited.
    """
    headings = _headings(width)
    sparklines = max(
        _FIGURE_WIDTH, min(_SPARKLINE_WIDTH, (width - _NAME_WIDTH) // len(headings) - 1)
    )
    title, names = printable(path), history.fullest(len(history))
    if height is not None and _HEAD_HEIGHT + 2 * len(history) > height:
        sparklines, names = 0, history.fullest(max(1, height - _HEAD_HEIGHT))
    if len(names) < len(history):
        title = f"{title}: the {len(names)} fullest of {len(history)} buffers"
    # `Text`, not `str`: rich would interpret a name such as "[b]" as markup.
    table = Table(title=Text(title), box=None, padding=(0, 1, 0, 0), pad_edge=False)
    name_width = width - sum(1 + max(sparklines, _width(heading)) for heading in headings)
    table.add_column("buffer", no_wrap=True, max_width=max(1, min(_NAME_WIDTH, name_width)))
    for heading in headings:
        table.add_column(_stacked(heading), justify="right", no_wrap=True)
    suspended = history.suspended()
    for name, cells in history.rows(sparklines):
        if name in names:
            shown = printable(f"! {name}" if name in suspended else name)
            table.add_row(Text(shown), *(cells[heading] for heading in headings))
    last_errors = history.last_errors()
    lines = [
        f"{name} {state} after {last_errors[name]}"
        for state, failing in (
            ("is suspended", suspended),
            ("retries", last_errors.keys() - suspended),
        )
        for name in last_errors
        if name in failing & names
    ]
    lines += [
        f"{name}: {format_count(rows)} rows in the spool, the oldest for {format_seconds(age)}"
        for name, (rows, age) in history.spooled().items()
        if name in names
    ]
    if height is not None:
        lines_left = height - _HEAD_HEIGHT - len(names) * (2 if sparklines else 1)
        lines = lines[: max(0, lines_left)]
    texts = [
        Text(printable(line), no_wrap=height is not None, overflow="ellipsis") for line in lines
    ]
    return Group(table, *texts)


def _headings(width: int) -> list[str]:
    """Return the headings of the columns that fit."""
    headings = [column.heading for column in COLUMNS]
    for heading in _DROP_ORDER:
        if _MIN_NAME_WIDTH + sum(1 + _width(heading) for heading in headings) <= width:
            break
        headings.remove(heading)
    return headings


def _stacked(heading: str) -> str:
    return heading.replace(" ", "\n")


def _width(heading: str) -> int:
    return max(_FIGURE_WIDTH, *map(len, _stacked(heading).splitlines()))
