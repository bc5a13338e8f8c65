"""The command `forebay backup`: copy a database while programs write to it."""

from __future__ import annotations

import signal
import sqlite3
import sys

import click
import trio

import forebay
from forebay.cli._failures import (
    Failed,
    Interrupted,
    Terminated,
    check_database,
    describe_os_error,
    json_option,
)
from forebay.cli._output import echo, print_json
from forebay.cli._signals import HANDLED, Signals
from forebay.stores.sqlite._backup import back_up
from forebay.stores.sqlite._waiting import retry_while_locked

_LOCK_TIMEOUT = 5.0
"""Seconds to wait for a program with an exclusive lock on the database."""

_BUSY_TIMEOUT = 0.05
"""Seconds of that wait that SQLite spends in a thread, where a signal cannot end it."""


@click.command(name="backup", short_help="Copy a database that is in use.")
@click.argument("database", metavar="DB", type=click.Path())
@click.argument("file", metavar="FILE", type=click.Path())
@click.option(
    "--overwrite", is_flag=True, help="Replace FILE if it exists, once the copy is complete."
)
@json_option
def backup_command(database: str, file: str, overwrite: bool, as_json: bool) -> None:
    """Copy DB to FILE, while programs write to DB.

    The copy is one snapshot of DB: what was committed when the copying began. Programs write
    meanwhile; the write-ahead log of DB grows until the copy is complete. Only its owner can read
    FILE. DB is only read, and no file is left beside it.

    \b
    Exit codes:
      0    FILE is a complete copy
      2    wrong usage, or no copy was made: FILE exists, or one of the files cannot be read or
           written
      130  ended by SIGINT: no copy was made
      143  ended by SIGTERM: no copy was made
    """  # noqa: D301  # \\b is an escape of click's
    check_database(database)
    try:
        size = trio.run(_copy, database, file, overwrite)
    except KeyboardInterrupt:  # before or after the copying handles SIGINT
        sys.exit(130)
    if as_json:
        print_json({"file": file, "bytes": size})
    else:
        echo(f"{file}: {size / 2**20:,.1f} MiB copied.")


async def _copy(database: str, file: str, overwrite: bool) -> int:
    """Copy the database until a signal arrives. Return the size of the copy in bytes.

    Raises:
        Failed: no copy was made.
    """
    size: int | None = None
    failure: Exception | None = None
    deadline = trio.current_time() + _LOCK_TIMEOUT
    work = trio.CancelScope()
    signals = Signals(lambda _name: work.cancel(), lambda: None)
    with trio.open_signal_receiver(*HANDLED) as received:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(signals.watch, received)
            with work:
                try:
                    size = await retry_while_locked(
                        lambda: back_up(
                            database, file, overwrite=overwrite, busy_timeout=_BUSY_TIMEOUT
                        ),
                        may_repeat=lambda: trio.current_time() < deadline,
                    )
                except (OSError, ValueError, sqlite3.Error, forebay.StoreError) as error:
                    failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise Failed(_message(failure, database)) from failure
    if size is not None:
        return size
    ended = Terminated if signals.first is signal.SIGTERM else Interrupted
    raise ended("no copy was made")


def _message(error: Exception, database: str) -> str:
    if isinstance(error, OSError):
        return describe_os_error(error)
    return f"{database!r}: {error}" if isinstance(error, sqlite3.Error) else str(error)
