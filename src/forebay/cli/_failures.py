"""How commands fail: one line for a person, and JSON for a script."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import click

from forebay._portable import Portable
from forebay.cli._output import print_json, printable

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON, for scripts: an object with 'error' if the command failed.",
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


class Terminated(Failed):
    """SIGTERM ended the command."""

    exit_code = 143


def describe_os_error(error: OSError) -> str:
    """Return a message with the name of the file, if the error has one."""
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{printable(str(error.filename))}: {reason}"


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
