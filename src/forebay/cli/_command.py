"""The `forebay` command line: its options, its help, its summary, its exit codes."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

import forebay
from forebay.cli._dead_letters.commands import dead_letters_group
from forebay.cli._doctor import doctor_command
from forebay.cli._load.command import load_command
from forebay.cli._monitoring import alerts, dashboard
from forebay.cli._top.command import top

_BROKEN_PIPE = 141  # what a shell has for a program that SIGPIPE ended


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # as in `forebay ... | head -1`
            # What the buffer has left would be written, and fail again, when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(_BROKEN_PIPE)


@click.group(name="forebay", cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(forebay.__version__, prog_name="forebay")
def command() -> None:
    """Buffered writes into the tables of a SQLite file."""


for subcommand in (alerts, dashboard, dead_letters_group, doctor_command, load_command, top):
    command.add_command(subcommand)
