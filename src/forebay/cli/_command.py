"""The `forebay` command: its subcommands, and how each of them ends."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any, NoReturn

import click

import forebay
from forebay.cli._output import OutputError, echo, guard_streams

_COMMANDS = {
    "alerts": "forebay.cli._monitoring:alerts",
    "backup": "forebay.cli._backup:backup_command",
    "dashboard": "forebay.cli._monitoring:dashboard",
    "dead-letters": "forebay.cli._dead_letters.commands:dead_letters_group",
    "doctor": "forebay.cli._doctor:doctor_command",
    "load": "forebay.cli._load.command:load_command",
    "spool": "forebay.cli._spool.commands:spool_group",
    "top": "forebay.cli._top.command:top",
}
"""Where each subcommand is. Only the one that is run is imported."""


class _Group(click.Group):
    """A group whose commands end alike, whatever happens to their output."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's method
        """Return the names of the subcommands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's method
        """Import a subcommand, as https://click.palletsprojects.com/complex/ describes it."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        subcommand: click.Command = getattr(importlib.import_module(module), name)
        return subcommand

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run a command and exit with its code.

        An error of the command's is printed to standard error. The exit code is 1 when standard
        output cannot be written, and 141 when its reader closed the pipe.
        """
        guard_streams()
        try:
            code = self._run(*args, **extra)
            if sys.stdout is not None:  # as it is where the process was started with it closed
                sys.stdout.flush()
        except OutputError as error:
            code = _show(error)
        sys.exit(code)

    def _run(self, *args: Any, **extra: Any) -> int:
        """Run a command and return its exit code."""
        try:
            result = super().main(*args, **{**extra, "standalone_mode": False})
        except OutputError:
            raise
        except click.ClickException as error:
            return _show(error)
        except click.Abort:
            echo("Aborted!", err=True)
            return 1
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0
        return result if isinstance(result, int) else 0


def _show(error: click.ClickException) -> int:
    """Print an error to standard error, control characters escaped; return its exit code."""
    text = io.StringIO()
    try:
        error.show(text)  # may print to standard output as well
    finally:
        echo(text.getvalue(), err=True, nl=False)
    return error.exit_code


@click.group(name="forebay", cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(forebay.__version__, prog_name="forebay")
def command() -> None:
    """Buffered writes into the tables of a SQLite file."""
