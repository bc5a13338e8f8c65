"""`forebay dead-letters replay`."""

from __future__ import annotations

import sys

import click

import forebay
from forebay import dead_letters
from forebay._errors import format_count
from forebay.cli._dead_letters.running import (
    buffer_option,
    check,
    database_argument,
    error_option,
    ids_argument,
    json_option,
    known,
    none,
    number,
    run,
    some,
)
from forebay.cli._output import echo, print_json


@click.command(name="replay", short_help="Do refused operations again.")
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
    help="Take in the entries of a spill file, which a program wrote that could not drain, and "
    "replay these. FILE is left as it is; taking it in again does nothing. May be given more than "
    "once.",
)
@click.option(
    "--incomplete",
    is_flag=True,
    help="With --spill: take in the whole lines of a file that was cut off, such as a .part that a "
    "program left which was killed over it. No program may be writing it any more.",
)
@click.option(
    "--any-database",
    is_flag=True,
    help="With --spill: take in what was written for another database, too.",
)
@click.option(
    "--foreign-keys/--no-foreign-keys",
    default=True,
    show_default=True,
    help="Whether foreign keys are enforced. SQLite leaves that to each program.",
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
    """Do the operations of dead letters again, now that the cause is mended.

    Without ID and options all of them, in the order in which they were refused first. Each letter
    is removed in the transaction that commits its operation, so that a replay which is cut short,
    in whatever way, can simply be started again. What is refused again stays, with its history.

    It is now that they are done: where a newer row of the same key has come in since, it counts
    as the earlier one. Purge the letters for which that is wrong.

    \b
    Exit codes:
      0    all were replayed, or there were none
      1    some were refused again, or could not be tried
      2    wrong usage, or a database or a spill that cannot be used
      130  ended by SIGINT, after what was begun: what was not replayed is a dead letter still
    """  # noqa: D301  # the \\b is click's
    if spills and ids:
        raise click.UsageError("--spill replays the entries of FILE; do not give IDs with it")
    if any_database and not spills:
        raise click.UsageError("--any-database is about spills, and there is no --spill")
    if incomplete and not spills:
        raise click.UsageError("--incomplete is about spills, and there is no --spill")
    selection = dead_letters.Selection(buffer=buffer, error_code=error)
    imported: dict[str, range] = {}
    begun_with: list[int] = []

    async def replay() -> tuple[dead_letters.ReplayResult, dict[str, int]]:
        pragmas = {"foreign_keys": int(foreign_keys)}
        async with forebay.open_sqlite(database, pragmas=pragmas) as store:
            # All are taken in before one is replayed: where one of them is refused, no entry of
            # another has run, and the next try finds what was taken in.
            for spill in spills:
                imported[spill] = await dead_letters.import_spill(
                    store, spill, any_database=any_database, incomplete=incomplete
                )
            if spills:
                selection["ids"] = [letter for letters in imported.values() for letter in letters]
            elif ids:
                selection["ids"] = await known(store, ids)
            begun_with.append(await number(store, selection))
            result = await dead_letters.replay(store, **selection)
            return result, {
                spill: await number(store, dead_letters.Selection(ids=letters))
                for spill, letters in imported.items()
            }

    def interrupted() -> str:
        if not begun_with:
            return "interrupted before anything was replayed: replay again"

        async def count() -> int:
            async with dead_letters.open_reader(database) as reader:
                return await number(reader, selection)

        left = run(count)
        return (
            f"interrupted: {begun_with[0] - left:,} replayed, {left:,} not. What was not replayed "
            f"is a dead letter still: replay again"
        )

    check(database)
    result, left = run(replay, interrupted=interrupted)
    if as_json:
        print_json(
            {
                "replayed": result.replayed,
                "refused": result.refused,
                "skipped": [{"id": i, "reason": why} for i, why in result.skipped.items()],
            }
        )
    else:
        echo(f"{len(result.replayed):,} replayed.")
        if result.refused:
            echo(f"{len(result.refused):,} refused again: {some(result.refused)}.")
        if result.skipped:
            echo(f"{len(result.skipped):,} could not be tried:")
            for why in dict.fromkeys(result.skipped.values()):
                of_it = [i for i, reason in result.skipped.items() if reason == why]
                echo(f"  {some(of_it)}: {why}")
        if not begun_with[0] and not spills:
            echo(none(database))
        for spill, letters_left in left.items():
            part = ", the whole lines of it," if incomplete else ""
            letters = f", {format_count(letters_left, 'dead letter')} of it" if letters_left else ""
            echo(
                f"What was in {spill}{part} is in the database now{letters}; the file may be "
                f"removed."
            )
    if result.refused or result.skipped:
        sys.exit(1)
