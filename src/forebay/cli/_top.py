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

from forebay.cli._watch import COLUMNS, Snapshot, Watch

_PATIENCE = 10.0
"""Seconds in which a program that is well answers."""

_NAME_WIDTH = 20
_BAR_WIDTH = 12
"""The longest sparkline, in characters."""


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
    the oldest pending entry. Under each number is its course.

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
            live.update(_table(path, watch, console.width), refresh=True)
            async for snapshot in snapshots:
                watch.add(snapshot)
                live.update(_table(path, watch, console.width), refresh=True)
    console.print(f"{path}: the program has closed its buffers")


async def _snapshots(path: str, interval: float) -> AsyncGenerator[Snapshot, None]:
    try:
        stream = await trio.open_unix_socket(path)
    except (OSError, RuntimeError) as error:
        raise _WatchError(f"{path!r} is served by no program: {error}") from error
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
        told = json.loads(answer)
        return Snapshot(told["time"], told["buffers"])
    except (ValueError, TypeError, KeyError) as error:
        raise _WatchError(f"what answers at {path!r} is no forebay program") from error


def _table(path: str, watch: Watch, width: int) -> Table:
    table = Table(title=path, expand=False, show_lines=False, pad_edge=False, box=None)
    table.add_column("buffer", overflow="ellipsis", max_width=_NAME_WIDTH, no_wrap=True)
    for column in COLUMNS:
        table.add_column(column.heading, justify="right")
    bars = min(_BAR_WIDTH, max(1, (width - _NAME_WIDTH) // len(COLUMNS) - 2))
    for name, cells in watch.rows(bars):
        table.add_row(name, *cells)
    return table
