"""`forebay top`: a live view of the buffers of a running program."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext, suppress

import click
import trio
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from forebay.cli._output import printable, writing
from forebay.cli._watch import COLUMNS, Snapshot, Watch

_PATIENCE = 10.0
"""Seconds in which a program that is well answers."""

_LONGEST_ANSWER = 2**22
"""In bytes: that of some ten thousand buffers."""

_NAME_WIDTH = 20
_LEAST_NAME_WIDTH = 7
_NUMBER_WIDTH = 7
"""The longest number, in characters."""
_BAR_WIDTH = 12
"""The longest sparkline, in characters."""
_FULL_WIDTH = 140
"""A width in which nothing is left out."""
_HEAD_HEIGHT = 3
"""The lines of the title and the headings."""

_DISPENSABLE = (
    "flush p50",
    "super- seded",
    "accepted /s",
    "retries",
    "rows/s",
    "flush p99",
    "oldest",
)
"""What a narrow terminal does without, first to last."""


class _WatchError(Exception):
    """The program cannot be watched."""


class _LostError(Exception):
    """The connection ended without farewell."""


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
    the oldest pending entry. Under each number is its course, and below the table what buffers
    wait for that try again. A small terminal shows less.

    \b
    Exit codes:
      0    ended by Ctrl-C, or the program closed its buffers
      1    the program ended without closing them, or the output cannot be written
      2    no program can be watched there, or it does not answer
    """  # noqa: D301 - the \\b is real: click leaves the lines after it as they are
    try:
        with writing():
            trio.run(_watch, path, interval, once)
    except KeyboardInterrupt:
        return
    except _WatchError as error:
        raise click.UsageError(str(error)) from error
    except _LostError as error:
        raise click.ClickException(
            f"the program at {path!r} ended without closing its buffers"
        ) from error


async def _watch(path: str, interval: float, once: bool) -> None:
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width
        console.width = max(console.width, _FULL_WIDTH)
    watch = Watch()
    async with aclosing(_snapshots(path, interval)) as snapshots:
        watch.add(await _first(snapshots, path))  # before the screen is ours
        on_screen = console.is_terminal and not once
        live = Live(console=console, auto_refresh=False, screen=True) if on_screen else None
        with live or nullcontext():
            async for snapshot in snapshots:
                watch.add(snapshot)
                if live:
                    live.update(_view(path, watch, *console.size), refresh=True)
                else:
                    console.print(_view(path, watch, console.width))
                if once:
                    return
    if once:
        raise _WatchError(f"{path!r}: the program has closed its buffers before its second answer")
    console.print(f"{printable(path)}: the program has closed its buffers", markup=False)


async def _first(snapshots: AsyncGenerator[Snapshot, None], path: str) -> Snapshot:
    with suppress(_LostError, StopAsyncIteration):
        return await anext(snapshots)
    raise _WatchError(
        f"the program at {path!r} ended, or closed the connection, before it answered"
    )


async def _snapshots(path: str, interval: float) -> AsyncGenerator[Snapshot, None]:
    """Ask again and again, until the farewell."""
    try:
        stream = await trio.open_unix_socket(path)
    except (OSError, RuntimeError) as error:
        raise _WatchError(f"no program can be watched at {path!r}: {error}") from error
    async with stream:
        lines = _Lines(stream)
        while (snapshot := await _ask(stream, lines, path)) is not None:
            yield snapshot
            await trio.sleep(interval)


async def _ask(stream: trio.SocketStream, lines: _Lines, path: str) -> Snapshot | None:
    """Ask for a snapshot; None where the answer is a farewell."""
    try:
        with trio.fail_after(_PATIENCE):
            with suppress(trio.BrokenResourceError):  # it has gone; its farewell may lie here
                await stream.send_all(b"\n")
            return _snapshot(await lines.next())
    except trio.TooSlowError:
        raise _WatchError(
            f"the program at {path!r} does not answer: its event loop hangs"
        ) from None
    except (
        *(ValueError, TypeError, KeyError, AttributeError),
        *(OverflowError, RecursionError),
    ) as error:
        raise _WatchError(
            f"what answers at {path!r} is no program with this version of forebay"
        ) from error


class _Lines:
    """The lines that come over a connection, however they are cut into pieces on the way."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._received = b""

    async def next(self) -> bytes:
        """Wait for a line.

        Raises:
            ValueError: it is longer than any answer.
            _LostError: there will be none.
        """
        while b"\n" not in self._received:
            if len(self._received) > _LONGEST_ANSWER:
                raise ValueError(f"more than {_LONGEST_ANSWER} bytes without a line ending")
            chunk = b""
            with suppress(trio.BrokenResourceError):
                chunk = await self._stream.receive_some()
            if not chunk:
                raise _LostError
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line


def _snapshot(answer: bytes) -> Snapshot | None:
    """Read an answer. All that is shown is in it, or it is an error."""
    told = json.loads(answer)
    if told is None:
        return None
    snapshot = Snapshot(float(told["time"]), told["buffers"])
    for numbers in snapshot.buffers.values():
        for column in COLUMNS:
            if not math.isfinite(column.value(numbers, numbers, 1.0)):
                raise ValueError(f"{column.heading} is not finite")
        if not isinstance(numbers["last_error"], str | None):
            raise TypeError("last_error is no text")
    return snapshot


def _view(path: str, watch: Watch, width: int, height: int | None = None) -> Group:
    """Draw what fits: a small screen has fewer columns, no sparklines, or not every buffer."""
    shown = _columns(width)
    bars = max(_NUMBER_WIDTH, min(_BAR_WIDTH, (width - _NAME_WIDTH) // len(shown) - 1))
    title, names = printable(path), watch.fullest(len(watch))
    if height is not None and _HEAD_HEIGHT + 2 * len(watch) > height:
        bars, names = 0, watch.fullest(max(1, height - _HEAD_HEIGHT))
    if len(names) < len(watch):
        title = f"{title}: the {len(names)} fullest of {len(watch)} buffers"
    # Text: what looks like rich's markup in a name is not meant as such.
    table = Table(title=Text(title), box=None, padding=(0, 1, 0, 0), pad_edge=False)
    room = width - sum(1 + max(bars, _width(heading)) for heading in shown)
    table.add_column("buffer", no_wrap=True, max_width=max(1, min(_NAME_WIDTH, room)))
    for heading in shown:
        table.add_column(_stacked(heading), justify="right", no_wrap=True)
    for name, cells in watch.rows(bars):
        if name in names:
            table.add_row(Text(printable(name)), *(cells[heading] for heading in shown))
    waiting = [
        Text(printable(f"{name} waits: {error}"), no_wrap=height is not None, overflow="ellipsis")
        for name, error in watch.waiting().items()
        if name in names
    ]
    if height is not None:
        left = height - _HEAD_HEIGHT - len(names) * (2 if bars else 1)
        waiting = waiting[: max(0, left)]
    return Group(table, *waiting)


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
