"""What the commands of `forebay dead-letters` share: options, failures, words for letters."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import click
import trio

import forebay
from forebay import dead_letters
from forebay.cli._output import print_json, printable

T = TypeVar("T")

LISTED = 20
"""Letters that are listed, the others only counted."""

database_argument = click.argument("database", metavar="DB", type=click.Path())
ids_argument = click.argument("ids", metavar="[ID]...", nargs=-1, type=int)
buffer_option = click.option("--buffer", metavar="TABLE", help="Only those of this table.")
error_option = click.option(
    "--error",
    metavar="CODE",
    help="Only those whose last failure has this code, such as SQLITE_CONSTRAINT_NOTNULL.",
)
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON, for scripts; an object with 'error' where the command failed.",
)


class Failed(click.ClickException):
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


class Interrupted(Failed):
    """SIGINT ended the command."""

    exit_code = 130


def run(fn: Callable[[], Coroutine[Any, Any, T]], *, interrupted: Callable[[], str] = str) -> T:
    """Run what a command does, and word what keeps it from its end.

    Args:
        fn: what it does.
        interrupted: tells, after SIGINT, how far it has come.
    """
    try:
        return trio.run(fn)
    except KeyboardInterrupt as error:
        raise Interrupted(interrupted() or "interrupted") from error
    except BaseExceptionGroup as group:  # a second SIGINT gave up on what was begun
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise Interrupted(interrupted() or "interrupted") from group
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from error
    except forebay.FlushError as error:
        raise Failed(f"{error.__cause__ or error}\n{_KEPT}") from error
    except forebay.DrainError as error:
        [left] = error.unsettled.values()
        raise Failed(f"{left.last_error or 'the database did not answer'}\n{_KEPT}") from error
    except forebay.ForebayError as error:
        raise Failed(str(error)) from error


_KEPT = "What was not replayed is a dead letter still: mend the cause, then replay again."


def check(database: str) -> None:
    """Refuse what can be no database, before SQLite makes one of it."""
    path = Path(database)
    if not path.exists():
        raise Failed(f"{database!r} does not exist")
    if path.is_dir():
        raise Failed(f"{database!r} is a folder")
    if not path.stat().st_size:
        raise Failed(f"{database!r} is empty, no database: look for where that went")


async def known(reader: dead_letters.DeadLetterReader, ids: Sequence[int]) -> Sequence[int]:
    """Give the ids back, if all of them are those of letters."""
    there = {letter.id for letter in await dead_letters.fetch(reader, ids=ids)}
    if missing := [letter for letter in ids if letter not in there]:
        raise Failed(f"there is no dead letter {some(missing)}; nothing was done")
    return ids


async def number(reader: dead_letters.DeadLetterReader, selection: dead_letters.Selection) -> int:
    """Count the letters that are meant."""
    return sum(count.count for count in await dead_letters.counts(reader, **selection))


def some(ids: Iterable[int]) -> str:
    """List ids, the first of them."""
    first = [str(letter) for _, letter in zip(range(LISTED + 1), ids, strict=False)]
    return ", ".join(first[:LISTED]) + (", …" if len(first) > LISTED else "")


def none(database: str) -> str:
    """Say that no letters are of the kind that was asked for, and which there are."""

    async def read() -> list[dead_letters.Count]:
        async with dead_letters.open_reader(database) as reader:
            return await dead_letters.counts(reader)

    there = [f"{c.count:,} of table {c.buffer!r} with {c.error_code}" for c in run(read)]
    if not there:
        return "No dead letters."
    return printable(f"No such dead letters. There are {', '.join(there)}.")
