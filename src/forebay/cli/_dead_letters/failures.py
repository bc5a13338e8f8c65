"""How the commands of `forebay dead-letters` fail: one line for a person, JSON for a script."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import IO, Any, TypeVar

import click
import trio

import forebay
from forebay._portable import Portable
from forebay.cli._output import print_json

T = TypeVar("T")

_STILL_THERE = (
    "Letters that were not replayed are still there: fix the cause, then run the replay again."
)


class Failed(Portable, click.ClickException):
    """The command failed. With --json, a document with the error is printed too."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(message)
        # When the error is shown, click has left the context of the command.
        self._as_json = click.get_current_context().params.get("as_json", False)

    def show(self, file: IO[Any] | None = None) -> None:
        super().show(file)
        if self._as_json:
            print_json({"error": self.message})


class Interrupted(Failed):
    """SIGINT ended the command."""

    exit_code = 130


def run(
    fn: Callable[[], Coroutine[Any, Any, T]],
    *,
    when_interrupted: Callable[[], str] = lambda: "interrupted",
) -> T:
    """Run an async function in Trio, and return its result.

    Args:
        fn: the function.
        when_interrupted: called after SIGINT; returns the message of the error.

    Raises:
        Failed: the function raised an error that a user can understand.
        Interrupted: SIGINT arrived.
    """
    try:
        return trio.run(fn)
    except KeyboardInterrupt as error:
        raise Interrupted(when_interrupted()) from error
    except BaseExceptionGroup as group:  # a second SIGINT ended the drain, in a DrainError
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise Interrupted(when_interrupted()) from group
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from error
    except forebay.FlushError as error:
        raise Failed(f"{error.__cause__ or error}\n{_STILL_THERE}") from error
    except forebay.DrainError as error:
        [left] = error.unsettled.values()
        cause = left.last_error or "the database did not answer in time"
        raise Failed(f"{cause}\n{_STILL_THERE}") from error
    except forebay.ForebayError as error:
        raise Failed(str(error)) from error


def check_database(path: str) -> None:
    """Check that a path can be that of a database, before SQLite creates one there.

    Raises:
        Failed: there is no file, or it is a folder, or it is empty.
    """
    file = Path(path)
    if not file.exists():
        raise Failed(f"{path!r} does not exist")
    if file.is_dir():
        raise Failed(f"{path!r} is a folder; expected a database")
    if not file.stat().st_size:
        raise Failed(f"{path!r} is empty; expected a database. Check the path")
