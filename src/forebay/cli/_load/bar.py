"""Show the progress of a load as a bar on a terminal. It needs rich, which is slow to import."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from forebay.cli._load.progress import LoadState
from forebay.cli._output import printable


class BarDisplay:
    """Draws a bar in place.

    Args:
        console: the terminal.
        total: the size of all inputs in bytes; None if it is unknown.
    """

    interval = 0.1

    def __init__(self, console: Console, total: int | None) -> None:
        # With auto_refresh rich would start a thread that draws.
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("reading", total=total)
        self._progress.start()

    def show(self, state: LoadState) -> None:
        """Redraw the bar."""
        self._progress.update(
            self._task, completed=state.position, description=printable(str(state)), refresh=True
        )

    def note(self, line: str) -> None:
        """Print the line above the bar."""
        self._progress.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    warn = note

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def open_bar(total: int | None) -> BarDisplay:
    """Return the bar for the terminal of standard error.

    Args:
        total: the size of all inputs in bytes; None if it is unknown.
    """
    return BarDisplay(Console(stderr=True), total)
