"""Shows how far a load has come: a bar on a terminal, plain lines elsewhere; all on stderr."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from forebay.cli._output import echo, printable


@dataclass(frozen=True, slots=True)
class State:
    """How far a load has come.

    Attributes:
        read: rows taken from the inputs.
        pending: rows accepted that are not in the table yet.
        position: bytes taken from the inputs, as they lie on the disk.
        seconds: the time since the load began.
        obstacle: why the database does not take the rows now; None where it does.
    """

    read: int
    pending: int
    position: int
    seconds: float
    obstacle: str | None = None

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.read / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        waits = "" if self.obstacle is None else f", waiting: {self.obstacle}"
        return f"{self.read:,} rows, {self.rate:,.0f} rows/s, {self.pending:,} pending{waits}"


class Display(Protocol):
    """Something that shows how far a load has come."""

    @property
    def interval(self) -> float:
        """The pause from one `show` to the next, in seconds."""
        ...

    def show(self, state: State) -> None:
        """Show how far the load has come."""
        ...

    def tell(self, line: str) -> None:
        """Show a line about how it goes."""
        ...

    def warn(self, line: str) -> None:
        """Show a line about something that is wrong."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was; further calls do nothing."""
        ...


class Silence:
    """Shows what is wrong, and nothing else."""

    interval = math.inf

    def show(self, state: State) -> None:
        """Show nothing."""

    def tell(self, line: str) -> None:
        """Show nothing."""

    def warn(self, line: str) -> None:
        """Print the line."""
        echo(line, err=True)

    def close(self) -> None:
        """There is nothing to close."""


class Lines:
    """Shows a line of text each second."""

    interval = 1.0

    def show(self, state: State) -> None:
        """Print the state as a line."""
        self.tell(str(state))

    def tell(self, line: str) -> None:
        """Print the line."""
        echo(line, err=True)

    warn = tell

    def close(self) -> None:
        """There is nothing to close."""


class Bar:
    """Shows a bar that is drawn in place.

    Args:
        console: the terminal.
        total: the bytes of all inputs; None where only their end will tell.
    """

    interval = 0.1

    def __init__(self, console: Console, total: int | None) -> None:
        # Drawn by `show` alone: rich would start a thread to draw on its own.
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.description}"),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("reading", total=total)
        self._progress.start()

    def show(self, state: State) -> None:
        """Draw the bar anew."""
        self._progress.update(
            self._task, completed=state.position, description=printable(str(state)), refresh=True
        )

    def tell(self, line: str) -> None:
        """Print the line above the bar."""
        self._progress.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    warn = tell

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def open_display(total: int | None, *, quiet: bool) -> Display:
    """Choose what suits standard error."""
    if quiet:
        return Silence()
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        return Bar(console, total)
    return Lines()
