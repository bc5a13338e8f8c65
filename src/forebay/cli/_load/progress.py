"""Show the progress of a load on standard error: a bar on a terminal, otherwise plain lines."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from typing import Protocol

from forebay._errors import format_count
from forebay.cli._output import echo


@dataclass(frozen=True, slots=True)
class LoadState:
    """How far a load has got.

    Attributes:
        read: rows read from the inputs.
        pending: rows accepted by the buffer and not yet settled.
        position: bytes read from the inputs.
        seconds: the time since the load began.
        last_error: the error for which the flush is being retried; None if it is not.
    """

    read: int
    pending: int
    position: int
    seconds: float
    last_error: str | None = None

    @property
    def rate(self) -> float:
        """Rows read per second."""
        return self.read / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        retrying = "" if self.last_error is None else f", retrying after {self.last_error}"
        rows = f"{format_count(self.read, 'row')}, {self.rate:,.0f} rows/s"
        return f"{rows}, {self.pending:,} pending{retrying}"


class Display(Protocol):
    """Shows the progress of a load."""

    @property
    def interval(self) -> float:
        """The seconds between two calls of `show`."""
        ...

    def show(self, state: LoadState) -> None:
        """Show how far the load has got."""
        ...

    def note(self, line: str) -> None:
        """Show a line about what the load does."""
        ...

    def warn(self, line: str) -> None:
        """Show a line about a problem."""
        ...

    def close(self) -> None:
        """Restore the terminal. Further calls do nothing."""
        ...


class QuietDisplay:
    """Shows problems only."""

    interval = math.inf

    def show(self, state: LoadState) -> None:
        """Show nothing."""

    def note(self, line: str) -> None:
        """Show nothing."""

    def warn(self, line: str) -> None:
        """Print the line."""
        echo(line, err=True)

    def close(self) -> None:
        """Do nothing."""


class LineDisplay:
    """Prints a line every second."""

    interval = 1.0

    def show(self, state: LoadState) -> None:
        """Print the state as a line."""
        self.note(str(state))

    def note(self, line: str) -> None:
        """Print the line."""
        echo(line, err=True)

    warn = note

    def close(self) -> None:
        """Do nothing."""


def open_display(total: int | None, *, quiet: bool) -> Display:
    """Return the display that suits standard error.

    Args:
        total: the size of all inputs in bytes; None if it is unknown.
        quiet: whether to show problems only.
    """
    if quiet:
        return QuietDisplay()
    if not (sys.stderr and sys.stderr.isatty()) or os.environ.get("TERM") in {"dumb", "unknown"}:
        return LineDisplay()
    from forebay.cli._load.bar import open_bar  # noqa: PLC0415  # rich is slow to import

    return open_bar(total)
