"""`forebay top`: a live view of the buffers of a running program."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

import click
import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from forebay.cli._watch import COLUMNS, Snapshot, Watch

_PATIENCE = 10.0
"""Seconds in which a program that is well answers."""

_NAME_WIDTH = 20
_LEAST_NAME_WIDTH = 8
_NUMBER_WIDTH = 7
"""The longest number, in characters."""
_BAR_WIDTH = 12
"""The longest sparkline, in characters."""
_FULL_WIDTH = 140
"""A width in which nothing is left out."""
_HEAD_HEIGHT = 3
"""The lines of the title and the headings."""

_DISPENSABLE = ("flush p50", "superseded", "accepted/s", "retries", "rows/s", "flush p99", "oldest")
"""What a narrow terminal does without, first to last."""


class _WatchError(Exception):
    """The program cannot be watched."""


@click.command(name="top", short_help="Watch the buffers of a running program.")
@click.argument("path", type=click.Path())
@click.option(
    "--interval",
    metavar="S",
    type=click.FloatRange(min=0.1, max=3600),
    default=1.0,
    show_default=True,
    help="The time between two samples, in seconds.",
)
@click.option("--once", is_flag=True, help="Print one sample, and end.")
def top(path: str, interval: float, *, once: bool) -> None:
    """Watch the buffers of a running program, until Ctrl-C or its end.

    PATH is the socket that the program gave to forebay.serve_statistics. For each buffer: the
    entries pending, accepted and committed, each second; of those settled the share that another
    entry superseded; how long flushes take; retries and dead letters since the start; the age of
    the oldest pending entry. Under each number is its course. A small terminal shows less.

    \b
    Exit codes:
      0    ended by Ctrl-C, or the program closed its buffers
      2    no program can be watched there
    """  # noqa: D301 - the \\b is real: click leaves the lines after it as they are
    try:
        trio.run(_watch, path, interval, once)
    except KeyboardInterrupt:
        return
    except _WatchError as error:
        raise click.UsageError(str(error)) from error


async def _watch(path: str, interval: float, once: bool) -> None:
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width
        console.width = max(console.width, _FULL_WIDTH)
    watch = Watch()
    live = Live(console=console, auto_refresh=False, screen=console.is_terminal and not once)
    async with aclosing(_snapshots(path, interval)) as snapshots:
        first = await anext(snapshots)  # before the screen is ours: there may be no program
        watch.add(first)
        if once or not console.is_terminal:
            async for snapshot in snapshots:
                watch.add(snapshot)
                console.print(_table(path, watch, console.width))
                if once:
                    return
            return
        with live:
            live.update(_table(path, watch, *console.size), refresh=True)
            async for snapshot in snapshots:
                watch.add(snapshot)
                live.update(_table(path, watch, *console.size), refresh=True)
    console.print(f"{path}: the program has closed its buffers", markup=False)


async def _snapshots(path: str, interval: float) -> AsyncGenerator[Snapshot, None]:
    try:
        stream = await trio.open_unix_socket(path)
    except (OSError, RuntimeError) as error:
        raise _WatchError(f"no program can be watched at {path!r}: {error}") from error
    async with stream:
        while (line := await _ask(stream, path)) is not None:
            yield line
            await trio.sleep(interval)


async def _ask(stream: trio.SocketStream, path: str) -> Snapshot | None:
    """Ask for a snapshot; None at the end."""
    answer = b""
    try:
        with trio.fail_after(_PATIENCE):
            await stream.send_all(b"\n")
            while not answer.endswith(b"\n"):
                if not (chunk := await stream.receive_some()):
                    return None
                answer += chunk
    except trio.BrokenResourceError:
        return None
    except trio.TooSlowError:
        raise _WatchError(
            f"the program at {path!r} does not answer: its event loop hangs"
        ) from None
    try:
        return _snapshot(answer)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _WatchError(
            f"what answers at {path!r} is no program with this version of forebay"
        ) from error


def _snapshot(answer: bytes) -> Snapshot:
    """Read an answer. Each number that is shown is in it, or it is an error."""
    told = json.loads(answer)
    snapshot = Snapshot(float(told["time"]), told["buffers"])
    for numbers in snapshot.buffers.values():
        for column in COLUMNS:
            column.value(numbers, numbers, 1.0)
    return snapshot


def _table(path: str, watch: Watch, width: int, height: int | None = None) -> Table:
    """Draw what fits: a small screen has fewer columns, no sparklines, or not every buffer."""
    shown = _columns(width)
    bars = max(_NUMBER_WIDTH, min(_BAR_WIDTH, (width - _NAME_WIDTH) // len(shown) - 1))
    title, names = path, watch.fullest(len(watch))
    if height is not None and _HEAD_HEIGHT + 2 * len(watch) > height:
        bars, names = 0, watch.fullest(max(1, height - _HEAD_HEIGHT))
    if len(names) < len(watch):
        title = f"{path}: the {len(names)} fullest of {len(watch)} buffers"
    # Text: what looks like rich's markup in a name is not meant as such.
    table = Table(title=Text(title), box=None, padding=(0, 1, 0, 0), pad_edge=False)
    room = width - sum(1 + max(bars, _width(heading)) for heading in shown)
    table.add_column("buffer", no_wrap=True, max_width=max(1, min(_NAME_WIDTH, room)))
    for heading in shown:
        table.add_column(_stacked(heading), justify="right", no_wrap=True)
    for name, cells in watch.rows(bars):
        if name in names:
            table.add_row(Text(name), *(cells[heading] for heading in shown))
    return table


def _columns(width: int) -> list[str]:
    """Choose the columns for which there is room."""
    shown = [column.heading for column in COLUMNS]
    for heading in _DISPENSABLE:
        if _LEAST_NAME_WIDTH + sum(1 + _width(heading) for heading in shown) <= width:
            break
        shown.remove(heading)
    return shown


def _stacked(heading: str) -> str:
    return heading.replace(" ", "\n")


def _width(heading: str) -> int:
    return max(_NUMBER_WIDTH, *map(len, _stacked(heading).splitlines()))
