"""How every command prints: text for a person, columns, JSON for a script, and what can fail."""

from __future__ import annotations

import io
import json
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputError(click.ClickException):
    """Standard output cannot be written: for example, the disk is full."""

    exit_code = 1


class ClosedPipeError(OutputError):
    """The reader of standard output closed the pipe, as in `forebay … | head -1`."""

    exit_code = 141  # what a shell reports for a program that SIGPIPE ended

    def show(self, file: IO[Any] | None = None) -> None:
        """Print nothing: the reader has what it wants."""


class _GuardedFile(io.FileIO):
    """The file beneath a standard stream, whose failed writes end the command in one line.

    After the first failure nothing is written. Otherwise Python would write what is buffered
    again when the process exits, fail again, and replace the exit code by 120.
    """

    def __init__(self, descriptor: int, *, optional: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._optional = optional
        self._failed = False

    def write(self, data: ReadableBuffer) -> int:
        """Write to the descriptor.

        Raises:
            OutputError: the write failed, and the stream is not optional.
        """
        if not self._failed:
            try:
                return super().write(data)
            except OSError as error:
                self._failed = True
                if isinstance(error, BrokenPipeError) and not self._optional:
                    raise ClosedPipeError(str(error)) from error
                if not self._optional:
                    raise OutputError(f"the output could not be written: {error}") from error
        return memoryview(data).nbytes


def guard_streams() -> None:
    """Handle failed writes to the standard streams, and characters that their encoding lacks.

    From now on a failed write to standard output raises `OutputError`. One to standard error is
    ignored, since a lost message must not end the work. Streams that a test has replaced stay.
    """
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _guarded(sys.stdout, optional=False)
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _guarded(sys.stderr, optional=True)


def _guarded(stream: io.TextIOWrapper, *, optional: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(_GuardedFile(stream.fileno(), optional=optional)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def echo(text: str = "", *, err: bool = False, nl: bool = True, **style: Any) -> None:
    """Print text, line breaks as they are and other control characters escaped.

    Args:
        text: what to print.
        err: whether to print to standard error.
        nl: whether to end with a line break.
        **style: colours and such, as `click.style` takes them.

    Raises:
        OutputError: standard output cannot be written.
    """
    safe = "\n".join(map(printable, text.split("\n")))
    shown = click.style(safe, **style) if style else safe
    click.echo(shown, err=err, nl=nl)  # noqa: TID251  # this is the function that escapes


def printable(text: str) -> str:
    """Return a text in one line, with characters that could control a terminal escaped."""
    if text.isprintable():
        return text
    return "".join(c if _is_printable(c) else c.encode("unicode_escape").decode() for c in text)


def _is_printable(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def print_json(value: object) -> None:
    """Print one JSON document, in UTF-8, characters that could control a terminal escaped."""
    lines = json.dumps(value, ensure_ascii=False, indent=2).split("\n")
    echo("\n".join(map(_escape_json, lines)))


def _escape_json(line: str) -> str:
    """Escape the characters of a line that are not printable as JSON does."""
    if line.isprintable():
        return line
    return "".join(c if _is_printable(c) else json.dumps(c)[1:-1] for c in line)


def print_columns(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their headings: integers right-aligned, the last column unpadded."""
    rows = list(rows)
    lines = [head, *([_cell(value) for value in row] for row in rows)]
    numeric = [all(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        echo("  ".join(cells).rstrip())


def _cell(value: object) -> str:
    return printable(f"{value:,}" if isinstance(value, int) else str(value))


def print_wrapped(label: str, text: str, *, indent: int) -> None:
    """Print a text beside its label, wrapped to the terminal's width, its line breaks kept."""
    width = max(shutil.get_terminal_size().columns, indent + 30)
    margin = " " * indent
    lines = [
        part
        for line in text.split("\n")
        for part in textwrap.wrap(printable(line), width - indent, break_on_hyphens=False) or [""]
    ]
    echo(textwrap.indent("\n".join(lines), margin).replace(margin, label.ljust(indent), 1))


def utc(seconds: float) -> str:
    """Return a Unix time in ISO 8601, in UTC; a number that is not a time as it is."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return str(seconds)
