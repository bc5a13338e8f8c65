"""The command `forebay spool retry`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import click
import trio

from forebay._errors import StoreError
from forebay.cli._failures import Failed, json_option
from forebay.cli._output import echo, print_json
from forebay.cli._spool.files import failures, inspect, read_contents, spool_argument
from forebay.stores.clickhouse import (
    ClickHouseStatistics,
    ClickHouseStore,
    open_clickhouse,
)

_PAUSE: Final = 0.1
"""Seconds between two looks at the state of the delivery."""


@click.command(name="retry", short_help="Deliver now what waits in a spool that no program uses.")
@spool_argument
@click.option("--user", default="default", show_default=True, help="The user of ClickHouse.")
@click.option(
    "--password-file",
    metavar="FILE",
    type=click.Path(),
    help="A file with the password. Without it, the one in FOREBAY_CLICKHOUSE_PASSWORD is used.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, max=86_400),
    default=60.0,
    show_default=True,
    help="How long to try.",
)
@json_option
def retry_command(
    spool: str, user: str, password_file: str | None, timeout: float, as_json: bool
) -> None:
    """Deliver to ClickHouse what waits in SPOOL. No program may be using the spool.

    A program delivers its spool by itself. Use this if the program does not run any more. The
    command ends early if ClickHouse refuses all that waits, for example because of a wrong
    password.

    \b
    Exit codes:
      0    nothing waits any more
      1    something still waits; the last errors are printed
      2    wrong usage, a program uses the spool, or it cannot be read
      130  interrupted by SIGINT: what was not delivered still waits
    """  # noqa: D301  # \\b is an escape of click's
    contents = inspect(spool, read_contents, 0)

    # Otherwise Python prints the store's warnings, which the end of the command has too.
    of_package = logging.getLogger("forebay")
    of_package.addHandler(logging.NullHandler())

    async def deliver() -> ClickHouseStatistics:
        async with open_clickhouse(
            contents.server,
            database=contents.database,
            user=user,
            password_file=None if password_file is None else Path(password_file),
            spool=spool,
            insert_interval=0.0,
            delivery_timeout=0.0,
        ) as store:
            with trio.move_on_after(timeout):
                await _deliver(store)
            return store.statistics()

    with failures():
        try:
            end = trio.run(deliver)
        except ImportError as error:
            raise Failed(str(error)) from error
    if as_json:
        print_json(
            {
                "delivered": end.delivered,
                "refused": end.refused,
                "waiting": end.waiting,
                "last_error": end.last_error,
                "errors": {name: table.last_error for name, table in end.tables.items()},
            }
        )
    else:
        echo(f"{end.delivered:,} rows delivered, {end.refused:,} refused, {end.waiting:,} wait.")
        if end.refused:
            echo("The refused rows are dead letters: see `forebay dead-letters list`.")
        for text, names in _errors(end).items():
            echo(f"{', '.join(names)}: {text}", err=True)
    if end.waiting:
        raise SystemExit(1)


async def _deliver(store: ClickHouseStore) -> None:
    """Wait until nothing waits, or until ClickHouse refuses all that waits.

    Raises:
        StoreError: the spool cannot be read.
    """
    errors: list[StoreError] = []
    async with trio.open_nursery() as nursery:

        async def deliver() -> None:
            try:
                await store.delivered()
            except StoreError as error:
                errors.append(error)  # the nursery would put it into a group
            nursery.cancel_scope.cancel()

        nursery.start_soon(deliver)
        while not _is_blocked(store.statistics()):  # noqa: ASYNC110  # the state has no event
            await trio.sleep(_PAUSE)
        nursery.cancel_scope.cancel()
    for error in errors:
        raise error


def _errors(statistics: ClickHouseStatistics) -> dict[str, list[str]]:
    """Return the last errors, each with the names of the tables that have it."""
    found: dict[str, list[str]] = {}
    for name, table in statistics.tables.items():
        if table.last_error is not None:
            found.setdefault(table.last_error, []).append(name)
    return found


def _is_blocked(statistics: ClickHouseStatistics) -> bool:
    waiting = [table for table in statistics.tables.values() if table.waiting]
    return bool(waiting) and all(table.state == "blocked" for table in waiting)
