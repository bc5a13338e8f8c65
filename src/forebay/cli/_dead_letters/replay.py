"""The command `forebay dead-letters replay`."""

from __future__ import annotations

import sys
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
from forebay.cli._dead_letters.rendering import (
    print_nothing_selected,
    print_replay,
    replay_as_json,
)
from forebay.cli._dead_letters.selecting import (
    check_ids,
    count_in_file,
    count_letters,
    counts_of_file,
)
from forebay.cli._failures import check_database, json_option
from forebay.cli._output import echo, print_json


@click.command(name="replay", short_help="Run refused entries again.")
@database_argument
@ids_argument
@buffer_option
@error_option
@click.option(
    "--spill",
    "spills",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="Import the entries of a spill file as dead letters, and replay these only. A program "
    "writes such a file if it ends before it could commit its entries. FILE stays as it is; to "
    "import it again adds nothing. May be given more than once.",
)
@click.option(
    "--incomplete",
    is_flag=True,
    help="With --spill: import the complete lines of an incomplete file, such as a .part file of "
    "a program that was killed. No program may still be writing it.",
)
@click.option(
    "--any-database",
    is_flag=True,
    help="With --spill: import the spill of another database too.",
)
@click.option(
    "--foreign-keys/--no-foreign-keys",
    default=True,
    show_default=True,
    help="Whether to enforce foreign keys. SQLite leaves the choice to each program.",
)
@json_option
def replay_command(
    database: str,
    ids: tuple[int, ...],
    buffer: str | None,
    error: str | None,
    spills: tuple[str, ...],
    incomplete: bool,
    any_database: bool,
    foreign_keys: bool,
    as_json: bool,
) -> None:
    """Run the entries of dead letters again, once the cause of their refusal is fixed.

    Without IDs and options it replays all letters, in the order in which they were first refused.
    The transaction that commits an entry removes its letter. So if a replay is interrupted, run it
    again: nothing is lost, and nothing is done twice. An entry that is refused again stays a dead
    letter, with its history.

    A replay runs the entries now: it may overwrite newer rows of the same keys. Purge such letters
    instead.

    \b
    Exit codes:
      0    all letters were replayed, or there were none
      1    some letters were refused again, or could not be tried
      2    wrong usage, or a database or a spill that cannot be used
      130  interrupted by SIGINT: letters that were not replayed are still there
    """  # noqa: D301  # \\b is an escape of click's
    if spills and ids:
        raise click.UsageError("--spill replays the entries of FILE; do not give IDs with it")
    if any_database and not spills:
        raise click.UsageError("--any-database needs --spill")
    if incomplete and not spills:
        raise click.UsageError("--incomplete needs --spill")
    selection = dead_letters.Selection(buffer=buffer, error_code=error)
    imported: dict[str, range] = {}
    count_before: int | None = None

    async def replay() -> dead_letters.ReplayResult:
        nonlocal count_before
        pragmas = {"foreign_keys": int(foreign_keys)}
        async with forebay.open_sqlite(database, pragmas=pragmas) as store:
            # All spills are imported before the first entry is replayed. So if one of them cannot
            # be imported, no entry of another has run, and the next try finds the imported ones.
            for spill in spills:
                imported[spill] = await dead_letters.import_spill(
                    store, spill, any_database=any_database, incomplete=incomplete
                )
            if spills:
                selection["ids"] = [letter for letters in imported.values() for letter in letters]
            elif ids:
                await check_ids(store, ids)
                selection["ids"] = ids
            count_before = await count_letters(store, selection)
            return await dead_letters.replay(store, **selection)

    def when_interrupted() -> str:
        if count_before is None:
            return "interrupted before the first letter was replayed: run the replay again"
        left = run(partial(count_in_file, database, selection))
        return (
            f"interrupted: {count_before - left:,} replayed, {left:,} not. Letters that were not "
            f"replayed are still there: run the replay again"
        )

    check_database(database)
    result = run(replay, when_interrupted=when_interrupted)
    if as_json:
        print_json(replay_as_json(result))
    else:
        print_replay(result)
        if not count_before and not spills:
            print_nothing_selected(run(partial(counts_of_file, database)))
        for spill, letters in imported.items():
            left = run(partial(count_in_file, database, dead_letters.Selection(ids=letters)))
            _print_import(spill, left, incomplete)
    if result.refused or result.skipped:
        sys.exit(1)


def _print_import(spill: str, letters: int, incomplete: bool) -> None:
    entries = "The complete entries" if incomplete else "The entries"
    kind = "a dead letter" if letters == 1 else "dead letters"
    left = f", {letters:,} of them as {kind}" if letters else ""
    echo(f"{entries} of {spill} are in the database now{left}; the file may be removed.")
