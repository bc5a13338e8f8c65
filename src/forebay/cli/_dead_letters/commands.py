"""`forebay dead-letters`: list, show, replay and purge what tables refused."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict
from typing import Any

import click

import forebay
from forebay import dead_letters
from forebay._errors import format_count
from forebay.cli._dead_letters.replay import replay_command
from forebay.cli._dead_letters.running import (
    LISTED,
    Failed,
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
)
from forebay.cli._output import echo, print_columns, print_json, printable, utc

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@click.group(name="dead-letters")
def dead_letters_group() -> None:
    """What a table refused: list it, show it, replay it, purge it.

    An entry that its table refuses, by a constraint or for a value that SQLite cannot hold, is
    kept in the table forebay_dead_letters of the same database. Mend the cause, then replay it.
    """


@dead_letters_group.command(name="list", short_help="Count dead letters, and list the last ones.")
@database_argument
@buffer_option
@error_option
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=0),
    default=LISTED,
    show_default=True,
    help="How many are listed, the last ones first. All are counted.",
)
@json_option
def list_command(
    database: str, buffer: str | None, error: str | None, limit: int, as_json: bool
) -> None:
    """Count the dead letters of DB by table and error, and list the last ones.

    The database is only read.

    \b
    Exit codes:
      0    they are listed, or there are none
      2    wrong usage, or a database that cannot be read
      130  ended by SIGINT
    """  # noqa: D301  # the \\b is click's
    selection = dead_letters.Selection(buffer=buffer, error_code=error)

    async def read() -> tuple[list[dead_letters.Count], list[dead_letters.DeadLetter]]:
        async with dead_letters.open_reader(database) as reader:
            return await dead_letters.counts(reader, **selection), await dead_letters.fetch(
                reader, limit=limit, newest_first=True, **selection
            )

    check(database)
    counts, letters = run(read)
    if as_json:
        print_json({"counts": [asdict(c) for c in counts], "letters": [*map(_as_json, letters)]})
        return
    if not counts:
        echo(none(database))
        return
    print_columns(
        ("letters", "table", "error", "oldest", "newest"),
        [(c.count, c.buffer, c.error_code, utc(c.oldest), utc(c.newest)) for c in counts],
    )
    if letters:
        echo()
        print_columns(
            ("id", "failed at", "tries", "table", "operation", "error"),
            [
                (
                    str(x.id),
                    utc(x.failure.failed_at),
                    x.attempts,
                    x.buffer,
                    x.operation,
                    x.failure.error,
                )
                for x in letters
            ],
        )
    if (more := sum(c.count for c in counts) - len(letters)) > 0:
        echo(f"\n{more:,} more are not listed: see --limit.")


@dead_letters_group.command(name="show", short_help="Show one dead letter whole.")
@database_argument
@click.argument("letter_id", metavar="ID", type=int)
@json_option
def show_command(database: str, letter_id: int, as_json: bool) -> None:
    """Show a dead letter of DB whole. The database is only read.

    \b
    Exit codes:
      0    it is shown
      2    wrong usage, no such letter, or a database that cannot be read
      130  ended by SIGINT
    """  # noqa: D301  # the \\b is click's

    async def read() -> list[dead_letters.DeadLetter]:
        async with dead_letters.open_reader(database) as reader:
            return await dead_letters.fetch(reader, ids=[letter_id])

    check(database)
    letters = run(read)
    if not letters:
        raise Failed(f"there is no dead letter {letter_id}")
    [letter] = letters
    if as_json:
        print_json(_as_json(letter))
        return
    lines = [
        ("id", letter.id),
        ("table", letter.buffer),
        ("operation", letter.operation),
        ("entry", letter.entry),
        ("error", f"{letter.failure.error_code}: {letter.failure.error}"),
        ("failed at", utc(letter.failure.failed_at)),
        ("tries", letter.attempts),
        *(
            ("before", f"{utc(past.failed_at)} {past.error_code}: {past.error}")
            for past in reversed(letter.history)
        ),
        ("declared", letter.declaration),
    ]
    for name, value in lines:
        echo(f"{name:<10} {printable(str(value))}")


dead_letters_group.add_command(replay_command)


@dead_letters_group.command(name="purge", short_help="Remove dead letters for good.")
@database_argument
@ids_argument
@buffer_option
@error_option
@click.option(
    "--older-than",
    metavar="AGE",
    help="Only those that failed last so long ago: a number with s, m, h, d or w, such as 7d.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge_command(
    database: str,
    ids: tuple[int, ...],
    buffer: str | None,
    error: str | None,
    older_than: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove dead letters of DB for good, after it has asked.

    At least one ID or option must say which.

    \b
    Exit codes:
      0    they are removed, or there were none
      1    the answer was no: none is removed
      2    wrong usage, no such letter, or a database that cannot be used: none is removed
      130  ended by SIGINT
    """  # noqa: D301  # the \\b is click's
    if not ids and buffer is None and error is None and older_than is None:
        raise click.UsageError("which? Give IDs, --older-than, --buffer or --error")
    selection = dead_letters.Selection(buffer=buffer, error_code=error)
    if older_than is not None:
        selection["failed_before"] = time.time() - _seconds(older_than)

    async def count() -> int:
        async with dead_letters.open_reader(database) as reader:
            if ids:
                selection["ids"] = await known(reader, ids)
            return await number(reader, selection)

    async def purge() -> int:
        async with forebay.open_sqlite(database) as store:
            return await dead_letters.purge(store, **selection)

    check(database)
    found = run(count)
    if found and not yes:
        click.confirm(
            f"Remove {format_count(found, 'dead letter')} for good?", abort=True, err=True
        )
    purged = run(purge) if found else 0
    if as_json:
        print_json({"purged": purged})
    else:
        echo(f"{purged:,} purged.")


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", age.strip())
    if match is None:
        raise click.UsageError(f"--older-than {age!r}: expected a number with a unit, such as 7d")
    return float(match[1]) * _UNITS[match[2]]


def _as_json(letter: dead_letters.DeadLetter) -> dict[str, Any]:
    document = asdict(letter)
    for name in ("entry", "declaration"):
        try:
            document[name] = json.loads(document[name])
        except (ValueError, RecursionError):  # somebody has changed it: as it is
            continue
    return document
