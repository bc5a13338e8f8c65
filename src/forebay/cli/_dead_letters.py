"""`forebay dead-letters`: list, show, replay and purge what tables refused."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict
from typing import IO, Any, TypeVar

import click
import trio

import forebay
from forebay import dead_letters
from forebay.cli._output import print_columns, print_json, printable, utc

T = TypeVar("T")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LISTED = 20

_database = click.argument("database", metavar="DB", type=click.Path(exists=True, dir_okay=False))
_ids = click.argument("ids", metavar="[ID]...", nargs=-1, type=int)
_buffer = click.option("--buffer", metavar="TABLE", help="Only those of this table.")
_error = click.option(
    "--error",
    metavar="CODE",
    help="Only those whose last failure has this code, such as SQLITE_CONSTRAINT_NOTNULL.",
)
_json = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON, for scripts; an object with 'error' where the command failed.",
)


@click.group(name="dead-letters")
def dead_letters_group() -> None:
    """What a table refused: list it, show it, replay it, purge it.

    An entry that its table refuses, by a constraint or for a value that SQLite cannot hold, is
    kept in the table forebay_dead_letters of the same database. Mend the cause, then replay it.
    """


@dead_letters_group.command(name="list", short_help="Count dead letters, and list the last ones.")
@_database
@_buffer
@_error
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=0),
    default=_LISTED,
    show_default=True,
    help="How many are listed, the last ones first. All are counted.",
)
@_json
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

    async def read() -> tuple[list[dead_letters.Count], list[dead_letters.DeadLetter]]:
        async with dead_letters.open_reader(database) as reader:
            chosen = dead_letters.Chosen(buffer=buffer, error_code=error)
            return await dead_letters.counts(reader, **chosen), await dead_letters.fetch(
                reader, limit=limit, newest_first=True, **chosen
            )

    counts, letters = _run(read)
    if as_json:
        print_json({"counts": [asdict(c) for c in counts], "letters": [*map(_as_json, letters)]})
        return
    if not counts:
        click.echo("No dead letters.")
        return
    print_columns(
        ("letters", "table", "error", "oldest", "newest"),
        [(c.count, c.buffer, c.error_code, utc(c.oldest), utc(c.newest)) for c in counts],
    )
    if letters:
        click.echo()
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
        click.echo(f"\n{more:,} more are not listed: see --limit.")


@dead_letters_group.command(name="show", short_help="Show one dead letter whole.")
@_database
@click.argument("letter_id", metavar="ID", type=int)
@_json
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

    letters = _run(read)
    if not letters:
        raise _Failed(f"there is no dead letter {letter_id}")
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
        click.echo(f"{name:<10} {printable(str(value))}")


@dead_letters_group.command(name="replay", short_help="Do refused operations again.")
@_database
@_ids
@_buffer
@_error
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
@_json
def replay_command(
    database: str,
    ids: tuple[int, ...],
    buffer: str | None,
    error: str | None,
    spills: tuple[str, ...],
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
      130  ended by SIGINT: what was not replayed is a dead letter still
    """  # noqa: D301  # the \\b is click's
    if spills and ids:
        raise click.UsageError("--spill replays the entries of FILE; do not give IDs with it")
    if any_database and not spills:
        raise click.UsageError("--any-database is about spills, and there is no --spill")

    async def replay() -> dead_letters.Replayed:
        pragmas = {"foreign_keys": int(foreign_keys)}
        async with forebay.open_sqlite(database, pragmas=pragmas) as store:
            chosen = dead_letters.Chosen(buffer=buffer, error_code=error)
            if spills:
                # All are taken in before one is replayed: where one of them is refused, no entry
                # of another has run, and the next try finds what was taken in.
                taken_in = [
                    await dead_letters.take_in_spill(store, spill, any_database=any_database)
                    for spill in spills
                ]
                chosen["ids"] = [letter for letters in taken_in for letter in letters]
            elif ids:
                chosen["ids"] = await _known(store, ids)
            return await dead_letters.replay(store, **chosen)

    result = _run(replay)
    if as_json:
        print_json(
            {
                "replayed": result.replayed,
                "refused": result.refused,
                "skipped": [{"id": i, "reason": why} for i, why in result.skipped.items()],
            }
        )
    else:
        click.echo(f"{len(result.replayed):,} replayed.")
        if result.refused:
            click.echo(f"{len(result.refused):,} refused again: {_some(result.refused)}.")
        if result.skipped:
            click.echo(f"{len(result.skipped):,} could not be tried:")
            for why in dict.fromkeys(result.skipped.values()):
                of_it = [i for i, reason in result.skipped.items() if reason == why]
                click.echo(f"  {_some(of_it)}: {why}")
        for spill in spills:
            click.echo(f"What was in {spill} is in the database now; the file may be removed.")
    if result.refused or result.skipped:
        sys.exit(1)


@dead_letters_group.command(name="purge", short_help="Remove dead letters for good.")
@_database
@_ids
@_buffer
@_error
@click.option(
    "--older-than",
    metavar="AGE",
    help="Only those that failed last so long ago: a number with s, m, h, d or w, such as 7d.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json
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
    chosen = dead_letters.Chosen(buffer=buffer, error_code=error)
    if older_than is not None:
        chosen["failed_before"] = time.time() - _seconds(older_than)

    async def count() -> int:
        async with dead_letters.open_reader(database) as reader:
            if ids:
                chosen["ids"] = await _known(reader, ids)
            return sum(count.count for count in await dead_letters.counts(reader, **chosen))

    async def purge() -> int:
        async with forebay.open_sqlite(database) as store:
            return await dead_letters.purge(store, **chosen)

    found = _run(count)
    if found and not yes:
        question = f"Remove {found:,} dead letter{'s' * (found > 1)} for good?"
        click.confirm(question, abort=True, err=True)
    purged = _run(purge) if found else 0
    if as_json:
        print_json({"purged": purged})
    else:
        click.echo(f"{purged:,} purged.")


class _Failed(click.ClickException):
    """The command cannot do what it was asked for. A script that asked for JSON gets it as well."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(message)
        # Asked now: when it is shown, the command and its context have ended.
        self._as_json = click.get_current_context().params.get("as_json", False)

    def show(self, file: IO[Any] | None = None) -> None:
        super().show(file)
        if self._as_json:
            print_json({"error": self.message})


def _run(fn: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it, and word what keeps it from its end."""
    try:
        return trio.run(fn)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        raise _Failed(f"{error.filename}: {error.strerror}") from error
    except forebay.FlushError as error:
        raise _Failed(f"{error.__cause__ or error}\n{_KEPT}") from error
    except forebay.DrainError as error:
        raise _Failed(f"the database stayed locked\n{_KEPT}") from error
    except forebay.ForebayError as error:
        raise _Failed(str(error)) from error


_KEPT = "What was not replayed is a dead letter still: mend the cause, then replay again."


async def _known(source: dead_letters.Source, ids: Sequence[int]) -> Sequence[int]:
    there = {letter.id for letter in await dead_letters.fetch(source, ids=ids)}
    if missing := [letter for letter in ids if letter not in there]:
        raise _Failed(f"there is no dead letter {_some(missing)}; nothing was done")
    return ids


def _seconds(age: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", age.strip())
    if match is None:
        raise click.UsageError(f"--older-than {age!r}: expected a number with a unit, such as 7d")
    return float(match[1]) * _UNITS[match[2]]


def _some(ids: Iterable[int]) -> str:
    first = [str(letter) for _, letter in zip(range(_LISTED + 1), ids, strict=False)]
    return ", ".join(first[:_LISTED]) + (", …" if len(first) > _LISTED else "")


def _as_json(letter: dead_letters.DeadLetter) -> dict[str, Any]:
    document = asdict(letter)
    for name in ("entry", "declaration"):
        try:
            document[name] = json.loads(document[name])
        except (ValueError, RecursionError):  # somebody has changed it: as it is
            continue
    return document
