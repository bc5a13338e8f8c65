"""The command `forebay dead-letters purge`."""

from __future__ import annotations

import re
import time
from functools import partial

import click

import forebay
from forebay import dead_letters
from forebay.cli._dead_letters.failures import run
from forebay.cli._dead_letters.options import (
    buffer_option,
    database_argument,
    error_option,
    ids_argument,
)
from forebay.cli._dead_letters.rendering import format_letters
from forebay.cli._dead_letters.selecting import check_ids, count_in_file, count_letters
from forebay.cli._failures import check_database, json_option
from forebay.cli._output import echo, print_json

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""Seconds per unit of --older-than."""


@click.command(name="purge", short_help="Remove dead letters for good.")
@database_argument
@ids_argument
@buffer_option
@error_option
@click.option(
    "--older-than",
    metavar="AGE",
    help="Only letters whose last error is older than this: a number with s, m, h, d or w, such "
    "as 7d.",
)
@click.option("--all", "all_letters", is_flag=True, help="All letters.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def purge_command(
    database: str,
    ids: tuple[int, ...],
    buffer: str | None,
    error: str | None,
    older_than: str | None,
    all_letters: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove dead letters of DB for good, after asking for confirmation.

    Give at least one ID or option that says which letters, or --all.

    \b
    Exit codes:
      0    the letters are removed, or there were none
      1    not confirmed: no letter is removed
      2    wrong usage, there is no such letter, or the database cannot be written
      130  interrupted by SIGINT: some of the letters may be removed
    """  # noqa: D301  # \\b is an escape of click's
    conditions = bool(ids) or any(value is not None for value in (buffer, error, older_than))
    if not conditions and not all_letters:
        raise click.UsageError("which letters? Give IDs, --older-than, --buffer, --error or --all")
    if conditions and all_letters:
        raise click.UsageError("--all removes all letters; do not give IDs or conditions with it")
    selection = dead_letters.Selection(buffer=buffer, error_code=error)
    if older_than is not None:
        selection["failed_before"] = time.time() - _seconds(older_than)

    async def count() -> int:
        async with dead_letters.open_reader(database) as reader:
            if ids:
                await check_ids(reader, ids)
                selection["ids"] = ids
            return await count_letters(reader, selection)

    async def purge() -> int:
        async with forebay.open_sqlite(database) as store:
            return await dead_letters.purge(store, all_letters=all_letters, **selection)

    def when_interrupted() -> str:
        left = run(partial(count_in_file, database, selection))
        return f"interrupted: {format_letters(found - left)} removed, {left:,} not"

    check_database(database)
    found = run(count)
    if found and not yes:
        click.confirm(f"Remove {format_letters(found)} for good?", abort=True, err=True)
    purged = run(purge, when_interrupted=when_interrupted) if found else 0
    if as_json:
        print_json({"purged": purged})
    else:
        echo(f"{purged:,} purged.")


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", age.strip())
    if match is None:
        raise click.UsageError(f"--older-than {age!r}: expected a number with a unit, such as 7d")
    return float(match[1]) * _UNITS[match[2]]
