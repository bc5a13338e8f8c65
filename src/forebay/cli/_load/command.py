"""The `forebay load` command: its options, its help, its exit codes."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from typing import Any

import click
import trio

import forebay
from forebay.cli._load.load import LoadRequest, load
from forebay.cli._load.progress import Display, open_display
from forebay.cli._load.readers import DEFAULT_LINE_LIMIT
from forebay.cli._load.report import LIMIT_OPTION, LoadReport, print_report
from forebay.cli._load.sources import STANDARD_INPUT, Format, source_size

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
    help="The SQLite file. It is created if it does not exist.",
)
@click.option(
    "--table",
    metavar="T",
    required=True,
    help="The table. It is created with the columns of the input if it does not exist.",
)
@click.option(
    "--key",
    metavar="A,B",
    help="The columns of the key. A row is merged into the row that has the same key. Without "
    "--key, every row is added.",
)
@click.option(
    "--merge",
    type=click.Choice(list(_MERGES)),
    help="With --key: 'replace' (the default) replaces the earlier row of a key, 'keep' keeps it.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice([known.value for known in Format]),
    help="The format of the inputs. By default, that of the file's extension; CSV for standard "
    "input.",
)
@click.option(
    "--null",
    "nulls",
    metavar="NA",
    multiple=True,
    help="A text that means NULL, in any column. May be repeated.",
)
@click.option(
    "--no-detect-types", is_flag=True, help="Load every column of CSV and TSV input as TEXT."
)
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(min=1),
    default=_DEFAULTS.batch_size,
    show_default=True,
    help="The maximum number of rows per transaction.",
)
@click.option(
    "--flush-interval",
    metavar="S",
    type=click.FloatRange(min=0),
    default=_DEFAULTS.flush_interval,
    show_default=True,
    help="The maximum time that a row waits for others to share its transaction, in seconds.",
)
@click.option(
    "--max-line-bytes",
    metavar="N",
    type=click.IntRange(min=1),
    default=DEFAULT_LINE_LIMIT,
    show_default=True,
    help="The maximum length of a line, and of a row of several lines, in bytes. The load may need "
    "some fifteen times as much memory.",
)
@click.option(
    "--skip-malformed",
    is_flag=True,
    help="Skip rows that are malformed or do not fit the table. Without it, the first such row "
    "ends the load.",
)
@click.option(
    LIMIT_OPTION,
    "limit",
    metavar="N|none",
    help="The maximum number of rows per minute that the table may refuse; one more ends the "
    "load. Refused rows are kept as dead letters.  "
    f"[default: {_DEFAULTS.dead_letters_per_minute:,}; none with --skip-malformed]",
)
@click.option("--quiet", is_flag=True, help="Print problems only.")
def load_command(**options: Any) -> None:
    """Load rows from files into a table of a SQLite file.

    FILE is CSV or TSV with a header, or one JSON object per line (.ndjson, .jsonl). It may be
    compressed by gzip, or be the only file in a zip archive. A dash reads standard input. Text
    must be UTF-8.

    \b
    Examples:
      forebay load people.csv --database my.db --table people --key id
      forebay load 2024.csv.gz 2025.csv.gz --database my.db --table sales
      zcat events.jsonl.gz | forebay load - --format ndjson \\
          --database my.db --table events --key id --merge keep

    The types of a new table's columns are detected from the first 10,000 rows, or the rows in the
    first 64 Mi characters. A column is INTEGER or REAL if the numbers give back all its texts;
    otherwise it is TEXT. So 007, 1.10 and 1e5 stay as they are, and so do numbers that are written
    in different ways (2.0 and 2, 1e-05 and 0.00001). After these rows, a row with a number that
    the column would change is malformed. Rows from a pipe are not loaded before these rows have
    arrived or the pipe has ended; --no-detect-types loads CSV at once.

    In an existing table, the declared types decide, and rows are loaded at once. A number may be
    written in any way there, except in the columns of --key, which must give back their texts. So
    create the table first to load prices such as 1.10 as REAL.

    An empty cell is NULL in a column of numbers, and an empty text in a column of text; --null ''
    makes it NULL in both. A JSON object is a whole row: a column that it does not name is set to
    the default that an existing table declares, or to NULL, also if other objects name it. CSV
    sets the columns in its header only.

    SIGINT and SIGTERM end the reading, and the accepted rows are committed. A second signal gives
    up on these rows and prints which are not in the table.

    \b
    Exit codes:
      0    every row is in the table
      1    some rows were rejected; all others are in the table
      2    wrong usage, or an error in an input or the database; the rows before the error are
           in the table
      130  ended by SIGINT
      143  ended by SIGTERM
    """  # noqa: D301  # \b is click's mark for lines that it must not join
    request = _request(**options)
    display = _display(request.files, quiet=options["quiet"])

    def on_end(report: LoadReport) -> None:
        display.close()
        print_report(report, quiet=options["quiet"])

    try:
        report = trio.run(load, request, display, on_end)
    except KeyboardInterrupt:  # before or after the load handles SIGINT
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
    max_line_bytes: int,
    skip_malformed: bool,
    limit: str | None,
    quiet: bool,  # noqa: ARG001  # only the display uses it
) -> LoadRequest:
    """Return the request that the command's options describe, or raise a usage error."""
    if merge is not None and key is None:
        raise click.UsageError("--merge needs --key; name the key's columns, or leave out --merge")
    if database in {"", ":memory:"}:
        raise click.UsageError(f"--database is {database!r}; expected the path of a file")
    for option, texts in (("--table", (table,)), ("--key", (key or "",)), ("--null", nulls)):
        for text in texts:
            _check_utf_8(option, text)
    if files.count(STANDARD_INPUT) > 1:
        raise click.UsageError("standard input (-) is named twice; it can be read only once")
    try:
        buffer_options = forebay.BufferOptions(
            batch_size=batch_size,
            flush_interval=flush_interval,
            dead_letters_per_minute=_limit(limit, skip_malformed=skip_malformed),
        )
    except forebay.OptionsError as error:
        raise click.UsageError(str(error)) from error
    return LoadRequest(
        files=files,
        database=database,
        table=table,
        key=() if key is None else _names(key),
        merge=_MERGES[merge or "replace"],
        format=None if format_name is None else Format(format_name),
        nulls=frozenset(nulls),
        detect_types=not no_detect_types,
        max_line_bytes=max_line_bytes,
        skip_malformed=skip_malformed,
        options=buffer_options,
    )


def _check_utf_8(option: str, text: str) -> None:
    """Raise a usage error for bytes that are not text, which SQLite cannot store."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.UsageError(f"{option} is {text!r}; expected text in UTF-8") from None


def _limit(limit: str | None, *, skip_malformed: bool) -> int | None:
    """Return how many rows per minute the table may refuse; None for any number."""
    if limit is None:
        return None if skip_malformed else _DEFAULTS.dead_letters_per_minute
    if limit == "none":
        return None
    if not (limit.isascii() and limit.isdigit()):
        raise click.UsageError(f"{LIMIT_OPTION} is {limit!r}; expected a number, or none")
    return int(limit)


def _names(key: str) -> Sequence[str]:
    """Return the names in a line of CSV, in which a name with a comma can be quoted."""
    if not key.strip():
        raise click.UsageError("--key is empty; name the key's columns, or leave out --key")
    try:
        return next(csv.reader([key], strict=True))
    except csv.Error as error:
        problem = f"--key is {key!r}: {error}; expected column names separated by commas"
        raise click.UsageError(problem) from error


def _display(files: Sequence[str], *, quiet: bool) -> Display:
    sizes = [source_size(path) for path in files]
    known = [size for size in sizes if size is not None]
    return open_display(sum(known) if len(known) == len(sizes) else None, quiet=quiet)
