"""How commands print what they found: in columns for a person, in JSON for a script."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import click


@contextmanager
def writing() -> Generator[None, None, None]:
    """Have an output that cannot be written end the command in one line, with exit code 1."""
    try:
        yield
    except BrokenPipeError:  # what reads the output has enough, and click ends in silence
        raise
    except OSError as error:
        raise click.ClickException(f"the output could not be written: {error}") from error


def print_json(value: object) -> None:
    """Print one JSON document, in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    # A lone surrogate, as a name of a file may have, is no UTF-8; its escape is JSON.
    click.echo(text.encode("utf-8", "backslashreplace").decode())


def print_columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their head, numbers to the right; the last column as long as it is."""
    lines = [head, *([_cell(value) for value in row] for row in rows)]
    numeric = [all(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return printable(text)


def printable(text: str) -> str:
    """A text on one line, without what would command a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_wrapped(label: str, text: str, *, indent: int) -> None:
    """Print a text beside its label, in lines as wide as the terminal, its own lines kept."""
    width = max(shutil.get_terminal_size().columns, indent + 30)
    margin = " " * indent
    lines = [
        part
        for line in text.split("\n")
        for part in textwrap.wrap(printable(line), width - indent, break_on_hyphens=False) or [""]
    ]
    click.echo(textwrap.indent("\n".join(lines), margin).replace(margin, label.ljust(indent), 1))


def utc(seconds: float) -> str:
    """A time as ISO 8601 writes it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # somebody has changed the letter
        return str(seconds)
