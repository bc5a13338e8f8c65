"""The `forebay load` command: its options, its help, its exit codes."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from typing import Any

import click
import trio

import forebay
from forebay.cli._load.load import Report, Request, load
from forebay.cli._load.progress import Display, open_display
from forebay.cli._load.report import LIMIT_OPTION, print_report
from forebay.cli._load.sources import STANDARD_INPUT, Format, size_of

_MERGES = {"replace": forebay.Replace, "keep": forebay.Keep}
_DEFAULTS = forebay.BufferOptions()


@click.command(name="load", short_help="Load rows from files into a table.")
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
    LIMIT_OPTION,
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

    def end(report: Report) -> None:
        display.close()
        print_report(report, quiet=options["quiet"])

    try:
        report = trio.run(load, request, display, end)
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
        raise click.UsageError(f"{LIMIT_OPTION} {limit!r}: expected a number, or none")
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
