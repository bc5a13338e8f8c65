"""The group `forebay dead-letters`, and its commands `list` and `show`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import click

from forebay import dead_letters
from forebay.cli._dead_letters.failures import run
from forebay.cli._dead_letters.options import (
    buffer_option,
    database_argument,
    error_option,
)
from forebay.cli._dead_letters.purge import purge_command
from forebay.cli._dead_letters.rendering import (
    SHOWN,
    letter_as_json,
    print_letter,
    print_list,
    print_nothing_selected,
)
from forebay.cli._dead_letters.replay import replay_command
from forebay.cli._dead_letters.selecting import counts_of_file
from forebay.cli._failures import Failed, check_database, json_option
from forebay.cli._output import print_json


@click.group(name="dead-letters")
def dead_letters_group() -> None:
    """List, show, replay and purge dead letters.

    A dead letter is an entry that its table refused: it violates a constraint, or SQLite cannot
    store one of its values. It is kept in the table forebay_dead_letters of the same database. Fix
    the cause, then replay it.
    """


@dead_letters_group.command(name="list", short_help="Count dead letters and list the newest.")
@database_argument
@buffer_option
@error_option
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=0),
    default=SHOWN,
    show_default=True,
    help="How many letters are listed, the newest first. All of them are counted.",
)
@json_option
def list_command(
    database: str, buffer: str | None, error: str | None, limit: int, as_json: bool
) -> None:
    """Count the dead letters of DB by table and error, and list the newest ones.

    The database is only read.

    \b
    Exit codes:
      0    the letters are listed, or there are none
      2    wrong usage, or the database cannot be read
      130  interrupted by SIGINT
    """  # noqa: D301  # \\b is an escape of click's
    selection = dead_letters.Selection(buffer=buffer, error_code=error)

    async def read() -> tuple[list[dead_letters.Count], list[dead_letters.DeadLetter]]:
        async with dead_letters.open_reader(database) as reader:
            return await dead_letters.counts(reader, **selection), await dead_letters.fetch(
                reader, limit=limit, newest_first=True, **selection
            )

    check_database(database)
    counts, letters = run(read)
    if as_json:
        print_json(
            {
                "counts": [asdict(count) for count in counts],
                "letters": [letter_as_json(letter) for letter in letters],
            }
        )
    elif counts:
        print_list(counts, letters)
    else:
        print_nothing_selected(run(partial(counts_of_file, database)))


@dead_letters_group.command(name="show", short_help="Show all of one dead letter.")
@database_argument
@click.argument("letter_id", metavar="ID", type=int)
@json_option
def show_command(database: str, letter_id: int, as_json: bool) -> None:
    """Show all of one dead letter of DB. The database is only read.

    \b
    Exit codes:
      0    the letter is shown
      2    wrong usage, there is no such letter, or the database cannot be read
      130  interrupted by SIGINT
    """  # noqa: D301  # \\b is an escape of click's

    async def read() -> list[dead_letters.DeadLetter]:
        async with dead_letters.open_reader(database) as reader:
            return await dead_letters.fetch(reader, ids=[letter_id])

    check_database(database)
    letters = run(read)
    if not letters:
        raise Failed(f"there is no dead letter {letter_id}")
    [letter] = letters
    if as_json:
        print_json(letter_as_json(letter))
    else:
        print_letter(letter)


dead_letters_group.add_command(replay_command)
dead_letters_group.add_command(purge_command)
