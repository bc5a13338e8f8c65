"""The `forebay` command line: its options, its help, its summary, its exit codes."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
import trio

import forebay
from forebay.cli._dead_letters import dead_letters_group
from forebay.cli._doctor import doctor_command
from forebay.cli._load.load import Report, Request, load
from forebay.cli._load.progress import Display, open_display
from forebay.cli._load.sources import STANDARD_INPUT, Format, size_of
from forebay.cli._monitoring import alerts, dashboard
from forebay.cli._top import top

_MERGES = {"replace": forebay.Replace, "keep": forebay.Keep}
_SHOWN_ROWS = 3  # from the front and from the end
_DEFAULTS = forebay.BufferOptions()
_LIMIT = "--dead-letters-per-minute"
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


for subcommand in (alerts, dashboard, dead_letters_group, doctor_command, top):
    command.add_command(subcommand)


@command.command(name="load", short_help="Load rows from files into a table.")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
)
@click.option(
    "--database",
    metavar="DB",
    required=True,
    type=click.Path(dir_okay=False),
    help="The SQLite file; created where it is not there.",
)
@click.option(
    "--table",
    metavar="T",
    required=True,
    help="The table; created where it is not there, with the columns of the input.",
)
@click.option(
    "--key",
    metavar="A,B",
    help="The columns that tell one row from another. A row whose key is there already is merged "
    "into the one that is. Without a key every row is added as one more.",
)
@click.option(
    "--merge",
    type=click.Choice(list(_MERGES)),
    help="With --key: a later row replaces the earlier one (the default), or the earlier one is "
    "kept as it is.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice([known.value for known in Format]),
    help="What the input is, where its name does not say so. Standard input is CSV by default.",
)
@click.option(
    "--null",
    "nulls",
    metavar="NA",
    multiple=True,
    help="A text that stands for NULL, in any column; may be given more than once.",
)
@click.option(
    "--no-detect-types", is_flag=True, help="Make every column of CSV and TSV input TEXT."
)
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(min=1),
    default=_DEFAULTS.batch_size,
    show_default=True,
    help="The most rows of one transaction.",
)
@click.option(
    "--flush-interval",
    metavar="S",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.flush_interval,
    show_default=True,
    help="The longest that a row waits for others to share its transaction, in seconds.",
)
@click.option(
    "--skip-malformed",
    is_flag=True,
    help="Skip rows that cannot be read or do not fit the table, rather than end at the first.",
)
@click.option(
    _LIMIT,
    "limit",
    metavar="N|none",
    help="The most rows a minute that the table may refuse and that go to the dead letters; one "
    f"more ends the load.  [default: {_DEFAULTS.dead_letters_per_minute:,}; none with "
    "--skip-malformed]",
)
@click.option("--quiet", is_flag=True, help="Print nothing but what is wrong.")
def load_command(**options: Any) -> None:
    """Load rows from files into a table of a SQLite file.

    FILE is CSV or TSV with a header, or one JSON object a line (.ndjson, .jsonl); plain, packed
    by gzip, or the one file of a zip archive. A dash reads standard input. All text is UTF-8.

    \b
    Examples:
      forebay load people.csv --database my.db --table people --key id
      forebay load 2024.csv.gz 2025.csv.gz --database my.db --table sales
      zcat events.jsonl.gz | forebay load - --format ndjson \\
          --database my.db --table events --key id --merge keep

    A new table gets the types that the first 10,000 rows show: a column is INTEGER or REAL where
    every value is a number and would be printed by it, TEXT otherwise, so that 007 stays what it
    is. Into a table that is there, values go as its columns are declared. An empty cell is NULL
    in a column of numbers and an empty text in one of text; --null '' makes it NULL in both.

    SIGINT and SIGTERM end the reading; what was accepted is still committed. A second one gives
    up on that, and says what is not in the table.

    \b
    Exit codes:
      0    every row is in the table
      1    rows were rejected, all others are in the table
      2    wrong usage, or an input or a database that cannot be used; all rows before are in
      130  ended by SIGINT
      143  ended by SIGTERM
    """  # noqa: D301 - the \\b are real: click leaves the lines after one as they are
    request = _request(**options)
    display = _display(request.files, quiet=options["quiet"])

    def tell(report: Report) -> None:
        display.close()
        _tell(report, quiet=options["quiet"])

    try:
        report = trio.run(load, request, display, tell)
    except KeyboardInterrupt:  # it came before there was anything to end in order, or after
        sys.exit(130)
    finally:
        display.close()
    sys.exit(report.exit_code)


def _request(
    *,
    files: tuple[str, ...],
    database: str,
    table: str,
    key: str | None,
    merge: str | None,
    format_name: str | None,
    nulls: tuple[str, ...],
    no_detect_types: bool,
    batch_size: int,
    flush_interval: float,
    skip_malformed: bool,
    limit: str | None,
    quiet: bool,  # noqa: ARG001 - it is for the display alone
) -> Request:
    """The request that the command's options make, or a usage error."""
    if merge is not None and key is None:
        raise click.UsageError("--merge needs --key: without one no row meets an earlier one")
    if database in {"", ":memory:"}:
        raise click.UsageError(f"--database {database!r}: expected the path of a file")
    if files.count(STANDARD_INPUT) > 1:
        raise click.UsageError("standard input (-) can be read only once")
    try:
        buffer_options = forebay.BufferOptions(
            batch_size=batch_size,
            flush_interval=flush_interval,
            dead_letters_per_minute=_limit(limit, skip_malformed=skip_malformed),
        )
    except forebay.OptionsError as error:
        raise click.UsageError(str(error)) from error
    return Request(
        files=files,
        database=database,
        table=table,
        key=() if key is None else _names(key),
        merge=_MERGES[merge or "replace"],
        format=None if format_name is None else Format(format_name),
        nulls=frozenset(nulls),
        detect_types=not no_detect_types,
        skip_malformed=skip_malformed,
        options=buffer_options,
    )


def _limit(limit: str | None, *, skip_malformed: bool) -> int | None:
    """How many rows a minute the table may refuse; None for any number."""
    if limit is None:
        # To skip rows is to go on, however many the table refuses.
        return None if skip_malformed else _DEFAULTS.dead_letters_per_minute
    if limit == "none":
        return None
    if not (limit.isascii() and limit.isdigit()):
        raise click.UsageError(f"{_LIMIT} {limit!r}: expected a number, or none")
    return int(limit)


def _names(key: str) -> Sequence[str]:
    """The names in a line of CSV, so that one that has a comma in it can be quoted."""
    if not key.strip():
        raise click.UsageError("--key is empty; expected names, commas between, or no --key")
    try:
        return next(csv.reader([key], strict=True))
    except csv.Error as error:
        raise click.UsageError(f"--key {key!r}: {error}; expected names, commas between") from error


def _display(files: Sequence[str], *, quiet: bool) -> Display:
    sizes = [size_of(path) for path in files]
    known = [size for size in sizes if size is not None]
    return open_display(sum(known) if len(known) == len(sizes) else None, quiet=quiet)


def _tell(report: Report, *, quiet: bool) -> None:
    """Print what became of the load."""
    for failure in report.failures:
        click.echo(f"Error: {_told(failure)}", err=True)
    if not quiet and (report.statistics is not None or not report.failures):
        try:
            click.echo(_summary(report))
        except OSError as error:  # what reads the output is gone, or its disk is full
            click.echo(f"the summary could not be printed: {error}", err=True)


def _told(failure: Exception) -> str:
    """A failure in words, with some of the rows that it left out of the table."""
    if isinstance(failure, OSError) and failure.filename is not None:
        return f"{failure.filename}: {failure.strerror}"
    if isinstance(failure, forebay.FlushError):
        why = f"table {failure.buffer!r} does not take the rows: {failure.reason}"
        why = why.replace("BufferOptions.dead_letters_per_minute", _LIMIT)
        left = failure.unsettled
    elif isinstance(failure, forebay.DrainError):
        [(table, left)] = failure.unsettled.items()
        why = f"table {table!r} did not take the rows in time"
        if left.last_error is not None:
            why += f": {left.last_error}"
    else:
        return str(failure)
    rows = [str(entry.row) for entry in left.entries if isinstance(entry, forebay.Write)]
    if len(rows) > 2 * _SHOWN_ROWS:
        rows[_SHOWN_ROWS:-_SHOWN_ROWS] = ["..."]
    many = "s are" if left.count > 1 else " is"
    known = "not known to be" if failure.in_doubt else "not"
    return "\n".join([why, f"{left.count:,} row{many} read, and {known} in the table:", *rows])


def _summary(report: Report) -> str:
    statistics = report.statistics
    read = report.rejected
    committed = superseded = 0
    if statistics is not None:
        read += statistics.accepted - statistics.dead_lettered
        committed, superseded = statistics.committed, statistics.superseded
    lines = {
        "read": f"{read:,}",
        "committed": f"{committed:,}",
        "superseded": f"{superseded:,}",
        "rejected": f"{report.rejected:,}",
        "seconds": f"{report.seconds:,.2f}",
        "rows/s": f"{read / report.seconds if report.seconds else 0:,.0f}",
    }
    return "\n".join(f"{name:<10} {value:>14}" for name, value in lines.items())
