"""The `forebay top` command: its options, how it ends, its exit codes."""

from __future__ import annotations

import signal
import sys
from contextlib import aclosing, nullcontext

import click
import trio
from rich.console import Console
from rich.live import Live

from forebay.cli._output import printable
from forebay.cli._top.client import ConnectionLostError, NotWatchableError, snapshots
from forebay.cli._top.history import History
from forebay.cli._top.keys import cbreak_mode, keyboard, wait_for_key
from forebay.cli._top.view import FULL_WIDTH, draw


@click.command(name="top", short_help="Watch the buffers of a running program.")
@click.argument("path", type=click.Path())
@click.option(
    "--interval",
    metavar="S",
    type=click.FloatRange(min=0.1, max=3600),
    default=1.0,
    show_default=True,
    help="Seconds between two samples.",
)
@click.option("--once", is_flag=True, help="Print one sample and exit.")
def top(path: str, interval: float, *, once: bool) -> None:
    """Watch the buffers of a running program. Press q or Ctrl-C to quit.

    PATH is the socket that the program passed to forebay.serve_statistics. The table shows for
    each buffer: pending entries; entries accepted and rows committed per second; the share of
    settled entries that were superseded; the median and the 99th percentile of the flush
    duration; retries and dead letters since the start; and the age of the oldest pending entry.
    A sparkline below each number shows the samples before. A buffer that is suspended has a "!"
    before its name. Below the table are the errors of suspended buffers and of flushes that are
    being retried. For a program that writes to ClickHouse, there is also a line for each buffer
    whose rows wait in the spool: how many, and for how long the oldest. "forebay spool list" shows
    why they wait. A small terminal shows less.

    \b
    Exit codes:
      0    you quit, or the program closed its buffers
      1    the program ended without closing its buffers, or the output cannot be written
      2    no program can be watched at PATH, or it does not answer
      143  ended by SIGTERM
    """  # noqa: D301  # \\b is an escape of click's
    try:
        exit_code = trio.run(_run, path, interval, once)
    except KeyboardInterrupt:  # before or after Trio handles SIGINT
        exit_code = 0
    except NotWatchableError as error:
        raise click.UsageError(str(error)) from error
    except ConnectionLostError as error:
        raise click.ClickException(
            f"the program at {path!r} ended without closing its buffers"
        ) from error
    sys.exit(exit_code)


async def _run(path: str, interval: float, once: bool) -> int:
    """Watch until the program closes its buffers, the user presses q, or SIGINT or SIGTERM arrives.

    Returns:
        The exit code.

    Raises:
        NotWatchableError, ConnectionLostError: as `snapshots` does.
        OutputError: the output cannot be written.
    """
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width
        console.width = max(console.width, FULL_WIDTH)
    on_screen = console.is_terminal and not once
    terminal = keyboard() if on_screen else None
    exit_code = 0
    raised: Exception | None = None

    async def quit_on_signal() -> None:
        nonlocal exit_code
        async for number in signals:
            exit_code = 0 if number == signal.SIGINT else 128 + number
            nursery.cancel_scope.cancel()

    async def quit_on_key(terminal: int) -> None:
        await wait_for_key(terminal, b"qQ")
        nursery.cancel_scope.cancel()

    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        nullcontext() if terminal is None else cbreak_mode(terminal),
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(quit_on_signal)
            if terminal is not None:
                nursery.start_soon(quit_on_key, terminal)
            try:
                await _watch(path, interval, console, on_screen=on_screen, once=once)
            except Exception as error:  # noqa: BLE001  # raised again below, without a group
                raised = error
            nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised
    return exit_code


async def _watch(
    path: str, interval: float, console: Console, *, on_screen: bool, once: bool
) -> None:
    """Draw the view after each snapshot, until the program closes its buffers."""
    history = History()
    async with aclosing(snapshots(path, interval)) as received:
        history.add(await anext(received))  # an error now is printed without a change of screen
        live = Live(console=console, auto_refresh=False, screen=True) if on_screen else None
        with live or nullcontext():
            async for snapshot in received:
                history.add(snapshot)
                if live:
                    live.update(draw(path, history, *console.size), refresh=True)
                else:
                    console.print(draw(path, history, console.width))
                if once:
                    return
    if once:
        raise NotWatchableError(
            f"the program at {path!r} closed its buffers before its second answer; --once needs two"
        )
    console.print(f"{printable(path)}: the program has closed its buffers", markup=False)
